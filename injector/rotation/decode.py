"""Decodes Pods of the API server into the values that `core.rollout` decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from injector.core import names
from injector.core.env import FileRef
from injector.core.errors import MalformedObjectError
from injector.core.observed import ENDED_PHASES, ObservedStatus, has_seal, sealable_spec
from injector.core.ownership import SecretKey
from injector.core.sealed import NOT_SEALED, SEAL_NAMES, seal_of
from injector.core.token_state import SKEW, ContainerUsage, MissingToken, PodUsage, Ref
from injector.times import unix_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, MutableMapping

    from injector.core.sealed import Seal
    from injector.kube.resources import Object

# The keys of one namespace: by Secret, then by key.
NamespaceKeys = Mapping[str, Mapping[str, SecretKey]]


def index(keys: Iterable[SecretKey]) -> Mapping[str, NamespaceKeys]:
    """Return keys by namespace, Secret and key, so that the time for a Pod does not depend on their number."""
    found: dict[str, dict[str, dict[str, SecretKey]]] = {}
    for key in sorted(keys):
        found.setdefault(key.namespace, {}).setdefault(key.name, {})[key.key] = key
    return found


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that a container reads from a Secret, or (`is_sealed`) that the seal container has read for it.

    The variable is empty for mounted files and `envFrom`, the key for all keys.
    """

    container: str
    variable: str
    secret: str
    key: str
    is_optional: bool = False
    is_sealed: bool = False


def references(pod: Object) -> Iterator[Reference]:
    """Yield every value that a container of the Pod reads from a Secret.

    Of two entries with one name, the last one is effective, and `env` wins over `envFrom`. In a sealed Pod, the tokens
    of the seal container are those of the containers that read its file (docs/decisions/0035).
    """
    spec = pod.get("spec") or {}
    seal = _seal(spec)
    is_sealed = bool(seal.tokens)
    mounted = {volume["name"]: tuple(_files(volume)) for volume in spec.get("volumes") or ()}
    for init_index, container in _containers(spec):
        name = container["name"]
        sealed = seal.tokens if name == names.SEAL_CONTAINER else {}
        effective = {entry["name"]: entry.get("valueFrom") or {} for entry in container.get("env") or ()}
        for variable, source in effective.items():
            selected = source.get("secretKeyRef")
            if selected and variable not in sealed:
                optional = bool(selected.get("optional"))
                yield Reference(name, variable, selected.get("name", ""), selected.get("key", ""), optional)
            if is_sealed and (ref := seal.ref(_file(source), init_index)) is not None:
                optional = bool(source["fileKeyRef"].get("optional"))
                yield Reference(name, variable, ref.name, ref.key, optional, is_sealed=True)
        for source in container.get("envFrom") or ():
            whole = source.get("secretRef")
            if whole:
                # All keys, so that one that is missing keeps no container from starting.
                yield Reference(name, "", whole.get("name", ""), "", is_optional=True)
        for volume in dict.fromkeys(mount["name"] for mount in container.get("volumeMounts") or ()):
            for secret, key, optional in mounted.get(volume, ()):
                yield Reference(name, "", secret, key, optional)


def token_keys(pod: Object) -> Iterator[tuple[str, SecretKey]]:
    """Yield variable and key of each token that a container of the Pod reads."""
    for one in references(pod):
        if one.variable in names.TOKEN_VARIABLES:
            yield one.variable, SecretKey(pod["metadata"]["namespace"], one.secret, one.key)


# `kubectl debug` adds ephemeral containers to a running Pod.
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")


def _containers(spec: Object) -> Iterator[tuple[int | None, Object]]:
    """Yield all containers; init containers with their index."""
    for part in _CONTAINERS:
        for index, container in enumerate(spec.get(part) or ()):
            yield index if part == "initContainers" else None, container


def _seal(spec: Object) -> Seal:
    """Return what containers get from the file of a sealed Pod; a malformed one is not sealed."""
    if not has_seal(spec):
        return NOT_SEALED
    try:
        return seal_of(sealable_spec(spec))
    except MalformedObjectError:
        return NOT_SEALED


def _file(source: Object) -> FileRef | None:
    selected = source.get("fileKeyRef")
    if not selected:
        return None
    return FileRef(selected.get("volumeName", ""), selected.get("path", ""), selected.get("key", ""))


def sealed_references(pod: Object) -> Mapping[tuple[str, str], Reference]:
    """Return what containers read from the file of a sealed Pod, by container and variable."""
    if not has_seal(pod.get("spec")):
        return {}
    return {(one.container, one.variable): one for one in references(pod) if one.is_sealed}


def _files(volume: Object) -> Iterator[tuple[str, str, bool]]:
    """Yield Secret, key (empty: all keys) and whether it is optional, of every file in a volume."""
    alone = volume.get("secret")
    sources = [(alone, "secretName")] if alone else []
    projected = (volume.get("projected") or {}).get("sources") or ()
    sources += [(source["secret"], "name") for source in projected if source.get("secret")]
    for source, name in sources:
        keys = [item.get("key", "") for item in source.get("items") or ()]
        for key in keys or [""]:
            yield source.get(name, ""), key, bool(source.get("optional")) or not keys


def slim(pod: Object, known: MutableMapping[bytes, Object]) -> Object:
    """Return a Pod with no more than what the functions of this module read, except for `sidecar_frame`.

    `known` has parts of earlier Pods: those of a workload have equal ones, and share them.
    """
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if key in names.REQUEST_ANNOTATIONS or key.startswith(names.RESTARTED_FOR)
    }
    is_seal = names.SEAL_VOLUME if has_seal(spec) else None
    volumes = [one for one in spec.get("volumes") or () if one["name"] == is_seal or any(_files(one))]
    mounted = {volume["name"] for volume in volumes}
    slim_spec = {part: [_slim_container(one, mounted) for one in spec.get(part) or ()] for part in _CONTAINERS}
    part = {
        "metadata": {"annotations": annotations, "ownerReferences": meta.get("ownerReferences")},
        "spec": {"volumes": volumes, **slim_spec},
    }
    part = known.setdefault(msgspec.json.encode(part), part)
    conditions = [one for one in status.get("conditions") or () if one.get("type") == _SCHEDULED]
    return {
        "metadata": {**{key: meta[key] for key in _OF_ONE_POD if key in meta}, **part["metadata"]},
        "spec": {**part["spec"], "nodeName": spec.get("nodeName")},
        "status": {**status, "conditions": conditions},
    }


_OF_ONE_POD: Final = ("namespace", "name", "uid", "creationTimestamp", "deletionTimestamp")
_SCHEDULED: Final = "PodScheduled"


def _slim_container(container: Object, mounted: Collection[str]) -> Object:
    effective = {entry["name"]: entry for entry in container.get("env") or ()}
    exact = ("command", "args", "restartPolicy") if container["name"] in SEAL_NAMES else ()
    return {
        **{key: container[key] for key in exact if key in container},
        "name": container["name"],
        "env": [
            entry
            for name, entry in effective.items()
            if name in names.TOKEN_VARIABLES or _SOURCES & (entry.get("valueFrom") or {}).keys()
        ],
        "envFrom": [source for source in container.get("envFrom") or () if source.get("secretRef")],
        "volumeMounts": [one for one in container.get("volumeMounts") or () if one["name"] in mounted],
    }


_SOURCES: Final = frozenset({"secretKeyRef", "fileKeyRef"})


def pod_usage(
    pod: Object, keys: NamespaceKeys, workload: Ref, first_position: int, defaults: Iterable[SecretKey] = ()
) -> PodUsage | None:
    """Return which containers of a Pod read or request one of the keys; None for a Pod that has ended.

    Args:
        pod: The Pod.
        keys: The keys of its namespace.
        workload: The object at the end of its owners.
        first_position: Number of the StatefulSet's first Pod.
        defaults: The keys that its sidecar should have from the Policy's default Secret, and has not.
    """
    meta, status = pod["metadata"], pod.get("status") or {}
    if has_ended(pod):
        return None
    states = _states(status)
    seal = _seal_state(status)
    is_placed = bool((pod.get("spec") or {}).get("nodeName"))
    usages: dict[tuple[str, SecretKey, bool], ContainerUsage] = {}
    ended: set[tuple[SecretKey, str]] = set()
    missing = (
        *dict.fromkeys(missing_tokens(pod, keys)),
        *(
            MissingToken(key=key, container=names.SIDECAR, variable=names.API_TOKEN_ENV, is_default=True)
            for key in defaults
        ),
    )
    optional_keys: set[SecretKey] = set()
    read_defaults: set[SecretKey] = set()
    takes_default = _takes_default(pod)
    for one in references(pod):
        if takes_default and one.container == names.SIDECAR and one.variable == names.API_TOKEN_ENV:
            read_defaults.add(SecretKey(meta["namespace"], one.secret, one.key))
        state = states.get(one.container, _NOT_REPORTED)
        if one.is_sealed:
            state = _sealed_state(state, seal)
        is_open = one.is_optional and one.container == names.SIDECAR and one.variable in names.TOKEN_VARIABLES
        for key in _selected(keys.get(one.secret, {}), one.key):
            if is_open:
                optional_keys.add(key)
            if state.has_ended:
                ended |= set() if one.is_optional else {(key, one.container)}
                continue
            usage = ContainerUsage(
                container=one.container,
                key=key,
                started=state.started,
                is_starting=is_placed and state.is_open,
                is_optional=one.is_optional,
                variable=one.variable,
                is_sealed=one.is_sealed,
            )
            at = (one.container, key, one.is_sealed)
            known = usages.get(at)
            # One reference that the kubelet must resolve is enough to keep the container from starting.
            if known is None or (known.is_optional and not usage.is_optional):
                usages[at] = usage
    return PodUsage(
        namespace=meta["namespace"],
        name=meta["name"],
        workload=workload,
        uid=meta.get("uid", ""),
        usages=tuple(usages[at] for at in sorted(usages)),
        missing=missing,
        optional_keys=frozenset(optional_keys),
        ended=frozenset(ended),
        defaults=frozenset(read_defaults),
        lacks_request=any(True for _ in missing_requests(pod)),
        created=unix_time(meta.get("creationTimestamp")),
        clock_lead=_clock_lead(pod),
        restarted_for=dict(meta.get("annotations") or {}),
        is_ending="deletionTimestamp" in meta,
        position=_number(meta["name"]) - first_position if workload.kind == "StatefulSet" else None,
    )


def _selected(of_secret: Mapping[str, SecretKey], key: str) -> Iterable[SecretKey]:
    """Return the key of that name; all keys if the name is empty."""
    if not key:
        return of_secret.values()
    return [of_secret[key]] if key in of_secret else []


def has_ended(pod: Object) -> bool:
    """Return whether all containers of a Pod have ended for good."""
    return (pod.get("status") or {}).get("phase") in ENDED_PHASES


def is_ending_or_ended(pod: Object) -> bool:
    """Return whether a Pod is being deleted, or all its containers have ended for good."""
    return bool(pod["metadata"].get("deletionTimestamp")) or has_ended(pod)


def exit_code(pod: Object, init_container: str) -> int:
    """Return how an init container ended, if it has ended, or waits for its next start; otherwise 0."""
    return msgspec.convert(pod.get("status") or {}, ObservedStatus).exit_codes.get(init_container, 0)


def _clock_lead(pod: Object) -> int | None:
    """Return by how many seconds the clock of the Pod's node is ahead of the API server's at most; None: unknown.

    `startTime` is written by the kubelet after the API server has bound the Pod, so their difference is the lead of the
    clock plus the time that the kubelet took. The API server sets the time of `PodScheduled` when a scheduler binds the
    Pod; for a Pod that was created with a node name, the kubelet does, so the creation comes first.
    https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/registry/core/pod/storage/storage.go (assignPod)
    """
    status = pod.get("status") or {}
    accepted = unix_time(status.get("startTime"))
    created = unix_time(pod["metadata"].get("creationTimestamp"))
    if accepted is None or created is None:
        return None
    if accepted - created <= SKEW:
        return max(accepted - created, 0)
    bound = [
        unix_time(one.get("lastTransitionTime"))
        for one in status.get("conditions") or ()
        if one.get("type") == _SCHEDULED and one.get("status") == "True"
    ]
    return max(accepted - bound[0], 0) if bound and bound[0] is not None else None


def missing_tokens(pod: Object, keys: NamespaceKeys) -> Iterator[MissingToken]:
    """Yield each token under `keys` that a container should have, but has no value for, or one that may be empty.

    These are the tokens that a Pod requests by annotation for its sidecar. A Pod without an annotation for the key
    requests the Policy's default key, which it does not show: `token` if that is among `keys`, else every key of the
    Secret. And those that its containers read from a file as in a sealed Pod, although it is not sealed as it must be.
    """
    for variable, name, key_name in missing_requests(pod):
        of_secret = keys.get(name, {})
        for key in _selected(of_secret, key_name) if key_name else unnamed_keys(of_secret):
            yield MissingToken(key=key, container=names.SIDECAR, variable=variable)
    yield from _unreliable_tokens(pod, keys)


def unnamed_keys(of_secret: Mapping[str, SecretKey]) -> Iterable[SecretKey]:
    """Return which keys of a Secret the Policy's default key may be: `token` if it is one, otherwise all."""
    return _selected(of_secret, names.DAPR_FIXED_KEY if names.DAPR_FIXED_KEY in of_secret else "")


def _unreliable_tokens(pod: Object, keys: NamespaceKeys) -> Iterator[MissingToken]:
    """Yield the tokens that containers read from the file of a Pod that is not sealed as it must be."""
    spec = pod.get("spec") or {}
    if not has_seal(spec):
        return
    sealed = sealed_references(pod)
    written = [one for one in spec["initContainers"] if one["name"] == names.SEAL_CONTAINER]
    for _, container in _containers(spec):
        name = container["name"]
        for variable in names.TOKEN_VARIABLES if name not in SEAL_NAMES else ():
            file = _file(effective_entry(container, variable).get("valueFrom") or {})
            if file is None or not file.is_from_seal or (name, variable) in sealed:
                continue
            for one in written[:1]:
                entry = effective_entry(one, file.key) or effective_entry(one, variable)
                selected = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
                for key in _selected(keys.get(selected.get("name", ""), {}), selected.get("key", "")):
                    yield MissingToken(key=key, container=name, variable=variable, is_broken_seal=True)


def has_broken_seal(pod: Object) -> bool:
    """Return whether a Pod has parts of a seal, and no container reads a token from its file that cannot be empty."""
    return has_seal(pod.get("spec") or {}) and not sealed_references(pod)


def missing_requests(pod: Object) -> Iterator[tuple[str, str, str]]:
    """Yield variable, Secret and key (empty: the default) of each token that a Pod requests and its sidecar has not.

    A literal that is not empty, or a reference to another Secret, is a value; a file is one in a sealed Pod only.
    """
    if not requests_sidecar(pod):
        return
    annotations = pod["metadata"].get("annotations") or {}
    sealed = sealed_references(pod)
    for variable, (secret_annotation, key_annotation) in names.REQUESTS.items():
        name = str(annotations.get(secret_annotation) or "").strip()
        if name and any(not _has_value(one, variable, sealed) for one in sidecars(pod)):
            yield variable, name, str(annotations.get(key_annotation) or "").strip()


def lacks_unrequested_token(pod: Object) -> bool:
    """Return whether a sidecar of a Pod has no API token, and no annotation names the Secret of one.

    It may be that of the Policy, which a Pod does not show.
    """
    if not _takes_default(pod):
        return False
    sealed = sealed_references(pod)
    return any(not _has_value(one, names.API_TOKEN_ENV, sealed) for one in sidecars(pod))


def _takes_default(pod: Object) -> bool:
    """Whether a Pod requests a sidecar, and no annotation names the Secret of its API token."""
    annotations = pod["metadata"].get("annotations") or {}
    return requests_sidecar(pod) and not str(annotations.get(names.API_TOKEN_SECRET) or "").strip()


def requests_sidecar(pod: Object) -> bool:
    """Return whether a Pod requests a sidecar by annotation."""
    annotations = pod["metadata"].get("annotations") or {}
    return str(annotations.get(names.ENABLED) or "").strip().lower() in names.TRUE_WORDS


def sidecars(pod: Object) -> Iterator[Object]:
    """Yield the sidecars of a Pod, regular and native."""
    spec = pod.get("spec") or {}
    for part in ("initContainers", "containers"):
        yield from (one for one in spec.get(part) or () if one["name"] == names.SIDECAR)


def sidecar_frame(pod: Object) -> tuple[str, Object] | None:
    """Return a Pod's sidecar without its environment, and the list that it is in; None when it has none.

    What is kept is what quotas, limits and policies look at.
    """
    for part in ("initContainers", "containers"):
        for one in (pod.get("spec") or {}).get(part) or ():
            if one["name"] == names.SIDECAR:
                return part, {key: one[key] for key in _FRAME if key in one}
    return None


_FRAME: Final = ("name", "image", "resources", "securityContext", "restartPolicy")


def _has_value(container: Object, variable: str, sealed: Mapping[tuple[str, str], Reference]) -> bool:
    """Return whether the effective entry of a variable sets a value; values of `envFrom` are not considered."""
    entry = effective_entry(container, variable)
    if _file(entry.get("valueFrom") or {}) is not None:
        return (container["name"], variable) in sealed
    return bool(entry.get("value") or entry.get("valueFrom"))


def has_certain_value(container: Object, variable: str, sealed: Mapping[tuple[str, str], Reference]) -> bool:
    """Return whether a variable has a value that is not empty, or one without which the container does not start."""
    entry = effective_entry(container, variable)
    source = entry.get("valueFrom") or {}
    selected = source.get("secretKeyRef") or source.get("configMapKeyRef")
    reference = sealed.get((container["name"], variable))
    is_sealed = reference is not None and not reference.is_optional
    return bool(entry.get("value")) or is_sealed or (selected is not None and not selected.get("optional"))


def effective_entry(container: Object, variable: str) -> Object:
    """Return the last entry of a variable, which is the effective one; empty if there is none."""
    return next((entry for entry in reversed(container.get("env") or ()) if entry["name"] == variable), {})


@dataclass(frozen=True, slots=True)
class _ContainerReport:
    """The kubelet's report of a container: when it started, whether it has ended, or (`is_open`) nothing yet."""

    started: int | None = None
    has_ended: bool = False
    is_open: bool = False


_NOT_REPORTED: Final = _ContainerReport(is_open=True)
# The reasons of kubelets why a container waits before its first start. Each other one names an error:
# https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/kubelet/images/types.go
STARTING_REASONS: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_ONCE: Final = ("initContainerStatuses", "ephemeralContainerStatuses")


def _states(status: Object) -> dict[str, _ContainerReport]:
    """Return each container's state. A container between two starts has no value; it reads the current one."""
    return {
        one["name"]: _state(one.get("state") or {}, runs_once=part in _ONCE)
        for part in (*_ONCE, "containerStatuses")
        for one in status.get(part) or ()
    }


def _state(state: Object, *, runs_once: bool) -> _ContainerReport:
    if state.get("running") is not None:
        return _ContainerReport(
            started=unix_time(state["running"].get("startedAt")) or 0
        )  # without a time it counts as very old
    if state.get("terminated") is not None:
        return _ContainerReport(has_ended=runs_once)
    return _ContainerReport(is_open=(state.get("waiting") or {}).get("reason", "") in STARTING_REASONS)


def _seal_state(status: Object) -> _ContainerReport:
    """Return the state of the file of a sealed Pod: as if the seal container ran since its last start.

    What it wrote stays until it runs again; if it failed, it wrote nothing.
    """
    for one in status.get("initContainerStatuses") or ():
        if one["name"] == names.SEAL_CONTAINER:
            state = one.get("state") or {}
            ended = state.get("terminated")
            is_written = ended is not None and not ended.get("exitCode")
            return _state({"running": ended} if is_written else state, runs_once=False)
    return _NOT_REPORTED


def _sealed_state(reader: _ContainerReport, seal: _ContainerReport) -> _ContainerReport:
    """Return the state of a container of a sealed Pod: its value is of the last start of the seal container.

    That also decides what it will have when it starts. A container without such a start before its own counts as very
    old, because nothing shows when its value was read.
    """
    if reader.has_ended:
        return reader
    if seal.started is not None and (reader.started is None or seal.started <= reader.started):
        return seal
    return seal if reader.is_open else _ContainerReport(started=0)


def _number(name: str) -> int:
    """Return the number at the end of a Pod's name in a StatefulSet."""
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0
