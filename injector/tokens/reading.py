"""From the API server's plain dictionaries to the values that the core decides on; no value of a Secret among them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from injector.core.ownership import DataWriter, SecretRef, TokenSecret
from injector.core.rollout import Hold, Holder, Ref, Use, Workload
from injector.kube.denials import denied, masked

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
            DataWriter(entry.get("manager", ""), seconds(entry.get("time")), keys)
            for entry in meta.get("managedFields") or ()
            if (keys := _owned_keys(entry))
        ),
        immutable=bool(secret.get("immutable")),
    )


def _owned_keys(entry: Object) -> frozenset[str]:
    """The keys of the data that an entry of managedFields names."""
    fields = (entry.get("fieldsV1") or {}).get("f:data") or ()
    return frozenset(name.removeprefix("f:") for name in fields if name.startswith("f:"))


# --- Pods ---


def references(pod: Object) -> Iterator[tuple[str, str, str, str]]:
    """Container, variable, Secret and key of every value that a Secret gives.

    For `envFrom` and mounted files no variable, and where all keys are given no key. Of a name that stands twice the
    last entry is the effective one, and `env` wins over `envFrom`.
    """
    spec = pod.get("spec") or {}
    mounted = {volume["name"]: tuple(_files(volume)) for volume in spec.get("volumes") or ()}
    for container in (one for part in _CONTAINERS for one in spec.get(part) or ()):
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
        for volume in dict.fromkeys(mount["name"] for mount in container.get("volumeMounts") or ()):
            for secret, key in mounted.get(volume, ()):
                yield name, "", secret, key


# An ephemeral container is one that somebody added to a running Pod, as `kubectl debug` does.
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")


def _files(volume: Object) -> Iterator[tuple[str, str]]:
    """Secret and key of every file in a volume; without a key, of all keys."""
    alone = volume.get("secret")
    sources = [(alone, "secretName")] if alone else []
    projected = (volume.get("projected") or {}).get("sources") or ()
    sources += [(source["secret"], "name") for source in projected if source.get("secret")]
    for source, name in sources:
        for key in [item.get("key", "") for item in source.get("items") or ()] or [""]:
            yield source.get(name, ""), key


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
    states = _states(status)
    used: dict[SecretRef, set[str]] = defaultdict(set)
    for container, _, secret, key in references(pod):
        ref = SecretRef(meta["namespace"], secret)
        if ref in keys and key in {"", keys[ref]} and not states.get(container, _NOT_TOLD).has_ended:
            used[ref].add(container)
    if not used:
        return None
    is_placed = bool((pod.get("spec") or {}).get("nodeName"))
    return Holder(
        namespace=meta["namespace"],
        name=meta["name"],
        workload=workload,
        uses=tuple(_use(ref, used[ref], states, is_placed=is_placed) for ref in sorted(used)),
        created=seconds(meta.get("creationTimestamp")),
        restarted_for=dict(meta.get("annotations") or {}),
        is_ending="deletionTimestamp" in meta,
        position=_number(meta["name"]) - start if workload.kind == "StatefulSet" else None,
    )


_ENDED: Final = frozenset({"Succeeded", "Failed"})


def _use(secret: SecretRef, containers: Collection[str], states: Mapping[str, _State], *, is_placed: bool) -> Use:
    told = [states.get(name, _NOT_TOLD) for name in containers]
    return Use(
        secret=secret,
        containers=tuple(sorted(containers)),
        started=min((one.started for one in told if one.started is not None), default=None),
        is_starting=is_placed and any(one.is_open for one in told),
    )


@dataclass(frozen=True, slots=True)
class _State:
    """What a node tells of one container: since when it runs, that it never runs again, or (`is_open`) nothing yet."""

    started: int | None = None
    has_ended: bool = False
    is_open: bool = False


_NOT_TOLD: Final = _State(is_open=True)
# Why a container waits before its first start; with any other word its node says that it does not run.
_BEFORE_ITS_START: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_ONCE: Final = ("initContainerStatuses", "ephemeralContainerStatuses")


def _states(status: Object) -> dict[str, _State]:
    """Every container's state.

    A container between two starts holds nothing, and will read the value that is current then.
    """
    return {
        one["name"]: _state(one.get("state") or {}, runs_once=part in _ONCE)
        for part in (*_ONCE, "containerStatuses")
        for one in status.get(part) or ()
    }


def _state(state: Object, *, runs_once: bool) -> _State:
    if state.get("running") is not None:
        return _State(started=seconds(state["running"].get("startedAt")) or 0)  # without a time it counts as very old
    if state.get("terminated") is not None:
        return _State(has_ended=runs_once)
    return _State(is_open=(state.get("waiting") or {}).get("reason", "") in _BEFORE_ITS_START)


def _number(name: str) -> int:
    """The number at the end of a Pod's name in a StatefulSet."""
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def controller(meta: Object) -> tuple[str, str, str, str] | None:
    """Version, kind, name and uid of the owner that controls an object."""
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            return owner.get("apiVersion", ""), owner.get("kind", ""), owner.get("name", ""), owner.get("uid", "")
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
        trouble=_trouble(status),
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
        and _count(status, "availableReplicas") >= wanted  # ready for minReadySeconds, the last Pod as well
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


def _trouble(status: Object) -> str:
    """Why a Deployment's Pods are not made: what a quota, a policy or a webhook says of them."""
    for one in status.get("conditions") or ():
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return masked(denied(str(one.get("message", ""))))
    return ""
