"""From the API server's plain dictionaries to the values that the core decides on; no value of a Secret among them."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from injector.core.ownership import DataWriter, SecretRef, TokenSecret
from injector.core.rollout import Hold, Holder, Ref, Use, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

Object = dict[str, Any]


def seconds(text: str | None) -> int | None:
    """A time of the API server (RFC 3339) in seconds since 1970."""
    if not text:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


def written(time: int) -> str:
    """Seconds since 1970 in RFC 3339."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- Secrets ---


def token_secret(secret: Object) -> TokenSecret:
    """A Secret without its values."""
    meta = secret["metadata"]
    return TokenSecret(
        ref=SecretRef(meta["namespace"], meta["name"]),
        keys=frozenset(secret.get("data") or {}),
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        owners=tuple(f"{owner.get('kind')}/{owner.get('name')}" for owner in meta.get("ownerReferences") or ()),
        writers=tuple(
            DataWriter(entry.get("manager", ""), seconds(entry.get("time")))
            for entry in meta.get("managedFields") or ()
            if any(key.startswith("f:") for key in (entry.get("fieldsV1") or {}).get("f:data") or ())
        ),
        immutable=bool(secret.get("immutable")),
    )


# --- Pods ---


def references(pod: Object) -> Iterator[tuple[str, str, str, str]]:
    """Container, variable, Secret and key of every variable that a Secret fills; for `envFrom` no variable and no key.

    Of a name that stands twice the last entry is the effective one, and `env` wins over `envFrom`.
    """
    spec = pod.get("spec") or {}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        name = container["name"]
        effective = {entry["name"]: entry.get("valueFrom") or {} for entry in container.get("env") or ()}
        for variable, source in effective.items():
            selected = source.get("secretKeyRef")
            if selected:
                yield name, variable, selected.get("name", ""), selected.get("key", "")
        for source in container.get("envFrom") or ():
            whole = source.get("secretRef")
            if whole:
                yield name, "", whole.get("name", ""), ""


def holder(pod: Object, keys: Mapping[SecretRef, str], workload: Ref, start: int) -> Holder | None:
    """A Pod as somebody who holds values of these keys of these Secrets; None when it holds none and never will.

    Args:
        pod: The Pod.
        keys: Key by Secret.
        workload: What stands at the end of its owners.
        start: Number of the StatefulSet's first Pod.
    """
    meta, status = pod["metadata"], pod.get("status") or {}
    if status.get("phase") in _ENDED:
        return None
    started, ended = _containers(status)
    used: dict[SecretRef, set[str]] = defaultdict(set)
    for container, _, secret, key in references(pod):
        ref = SecretRef(meta["namespace"], secret)
        if ref in keys and key in {"", keys[ref]} and container not in ended:
            used[ref].add(container)
    if not used:
        return None
    return Holder(
        namespace=meta["namespace"],
        name=meta["name"],
        workload=workload,
        uses=tuple(_use(ref, used[ref], started) for ref in sorted(used)),
        restarted_for=dict(meta.get("annotations") or {}),
        is_ending="deletionTimestamp" in meta,
        position=_number(meta["name"]) - start if workload.kind == "StatefulSet" else None,
    )


_ENDED: Final = frozenset({"Succeeded", "Failed"})


def _use(secret: SecretRef, containers: Collection[str], started: Mapping[str, int]) -> Use:
    times = [started[name] for name in containers if name in started]
    return Use(secret=secret, containers=tuple(sorted(containers)), started=min(times, default=None))


def _containers(status: Object) -> tuple[dict[str, int], set[str]]:
    """Since when each running container runs, and the init containers that have ended for good.

    A container between two starts holds nothing, and will read the value that is current then.
    """
    started: dict[str, int] = {}
    ended: set[str] = set()
    for part in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(part) or ():
            state = one.get("state") or {}
            if state.get("running") is not None:
                # Without a time it counts as very old.
                started[one["name"]] = seconds(state["running"].get("startedAt")) or 0
            elif part == "initContainerStatuses" and state.get("terminated") is not None:
                ended.add(one["name"])
    return started, ended


def _number(name: str) -> int:
    """The number at the end of a Pod's name in a StatefulSet."""
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def controller(meta: Object) -> tuple[str, str, str] | None:
    """Version, kind and name of the owner that controls an object."""
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            return owner.get("apiVersion", ""), owner.get("kind", ""), owner.get("name", "")
    return None


# --- workloads ---


def workload(found: Object) -> Workload:
    """An object at the end of a chain of owners, of a kind that we know."""
    meta, spec, status = found["metadata"], found.get("spec") or {}, found.get("status") or {}
    kind = found["kind"]
    hold, settled = _RULES.get(kind, (_unknown, _always))
    template = ((spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}
    is_seen = int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0)
    return Workload(
        ref=Ref(kind, meta["namespace"], meta["name"]),
        hold=hold(spec),
        partition=int(((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)
        if kind == "StatefulSet"
        else 0,
        restarted_for=dict(template),
        is_settled=is_seen and settled(spec, status),
        failure=_failure(status) if is_seen else "",
        recreates=(spec.get("strategy") or {}).get("type") == "Recreate",
    )


# Reloader restarts what names a Secret here, be it in the template or not; its `auto` looks at templates, in which
# injected references do not stand: https://github.com/stakater/Reloader
_RELOADER: Final = "secret.reloader.stakater.com/reload"


def restarted_by(found: Object, secrets: Collection[str]) -> str:
    """The tool that restarts a workload by itself when one of the Secrets changes; empty when none does."""
    template = ((found.get("spec") or {}).get("template") or {}).get("metadata") or {}
    for meta in (found["metadata"], template):
        named = (meta.get("annotations") or {}).get(_RELOADER, "")
        if {name.strip() for name in named.split(",")} & set(secrets):
            return "Reloader"
    return ""


def _deployment(spec: Object) -> Hold | None:
    return Hold.PAUSED if spec.get("paused") else None


def _set(spec: Object) -> Hold | None:
    return Hold.ON_DELETE if (spec.get("updateStrategy") or {}).get("type") == "OnDelete" else None


def _job(_spec: Object) -> Hold | None:
    return Hold.JOB


def _template_reaches_nothing(_spec: Object) -> Hold | None:
    return Hold.NO_ROLLOUT


def _unknown(_spec: Object) -> Hold | None:
    return Hold.OTHER_CONTROLLER


def _deployment_settled(spec: Object, status: Object) -> bool:
    wanted = _count(spec, "replicas", 1)
    return (
        _count(status, "updatedReplicas") >= wanted
        and _count(status, "replicas") <= _count(status, "updatedReplicas")
        and _count(status, "availableReplicas") >= wanted
    )


def _stateful_set_settled(spec: Object, status: Object) -> bool:
    wanted = _count(spec, "replicas", 1)
    partition = int(((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)
    return (
        _count(status, "updatedReplicas") >= max(wanted - partition, 0)
        and _count(status, "readyReplicas") >= wanted
        and _count(status, "replicas") == wanted
    )


def _daemon_set_settled(_spec: Object, status: Object) -> bool:
    wanted = _count(status, "desiredNumberScheduled")
    return _count(status, "updatedNumberScheduled") >= wanted and _count(status, "numberAvailable") >= wanted


def _always(_spec: Object, _status: Object) -> bool:
    return True


_RULES: Final[Mapping[str, tuple[Callable[[Object], Hold | None], Callable[[Object, Object], bool]]]] = {
    "Deployment": (_deployment, _deployment_settled),
    "StatefulSet": (_set, _stateful_set_settled),
    "DaemonSet": (_set, _daemon_set_settled),
    "Job": (_job, _always),
    "CronJob": (_job, _always),
    "ReplicaSet": (_template_reaches_nothing, _always),
    "ReplicationController": (_template_reaches_nothing, _always),
}


def _count(of: Object, name: str, default: int = 0) -> int:
    value = of.get(name)
    return default if value is None else int(value)


def _failure(status: Object) -> str:
    """What a Deployment says of a rollout that does not go on."""
    conditions: Sequence[Object] = status.get("conditions") or ()
    for one in conditions:
        if one.get("type") == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded":
            return "its new Pods are not ready within its progressDeadlineSeconds"
    return ""
