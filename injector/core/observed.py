"""The fields of a Pod in a cluster that an assessment reads, decoded as those of a review are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from injector.core import names
from injector.core.depth import decode_any_depth
from injector.core.errors import MalformedObjectError
from injector.core.model import Annotations, ObjectMeta, Pod, Quiet
from injector.core.sealed import SEAL_NAMES, EnvFrom, SealableContainer, SealableSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

# The fields to keep, and those to keep below them; None: all.
_Fields: TypeAlias = "Mapping[str, _Fields | None]"

# Phases of a Pod whose containers have all ended for good.
ENDED_PHASES: Final = frozenset({"Succeeded", "Failed"})
_NOT_A_POD: Final = "the object is not a Pod"


class ObservedContainer(SealableContainer, frozen=True, gc=False):
    """A container of any list."""

    envFrom: list[EnvFrom] | None = None  # noqa: N815 - Kubernetes' own spelling

    @property
    def words(self) -> tuple[str, ...]:
        """Command and arguments."""
        return (*(self.command or ()), *(self.args or ()))


class ObservedSpec(SealableSpec, frozen=True, gc=False):
    """The containers that a kubelet runs."""

    containers: list[ObservedContainer] | None = None  # type: ignore[assignment] # nothing writes the list
    initContainers: list[ObservedContainer] | None = None  # type: ignore[assignment] # noqa: N815 - as above
    ephemeralContainers: list[ObservedContainer] | None = None  # type: ignore[assignment] # noqa: N815 - as above

    @property
    def every(self) -> tuple[ObservedContainer, ...]:
        """The containers of all lists."""
        return (*(self.initContainers or ()), *(self.containers or ()), *(self.ephemeralContainers or ()))


class Waiting(Quiet, frozen=True, gc=False):
    """Why a container waits, by the kubelet."""

    message: str | None = None


class Terminated(Quiet, frozen=True, gc=False):
    """How a container ended."""

    exitCode: int = 0  # noqa: N815 - Kubernetes' own spelling


class ContainerState(Quiet, frozen=True, gc=False):
    """The part of a container's state that shows why it waits, or how it ended."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Quiet, frozen=True, gc=False):
    """The kubelet's report of a container."""

    name: str = ""
    state: ContainerState | None = None
    lastState: ContainerState | None = None  # noqa: N815 - Kubernetes' own spelling

    @property
    def exit_code(self) -> int:
        """How the container ended, if it has ended, or waits for its next start; otherwise 0."""
        state = self.lastState if self.state is not None and self.state.waiting is not None else self.state
        return state.terminated.exitCode if state is not None and state.terminated is not None else 0


class ObservedStatus(Quiet, frozen=True, gc=False):
    """The kubelet's report of a Pod."""

    phase: str | None = None
    containerStatuses: list[ContainerStatus] | None = None  # noqa: N815 - Kubernetes' own spelling
    initContainerStatuses: list[ContainerStatus] | None = None  # noqa: N815 - Kubernetes' own spelling

    @property
    def exit_codes(self) -> dict[str, int]:
        """How init containers ended that do not run now, by container."""
        return {one.name: one.exit_code for one in self.initContainerStatuses or ()}

    @property
    def waiting(self) -> dict[str, str]:
        """The kubelet's messages why containers wait, by container."""
        return {
            one.name: one.state.waiting.message or ""
            for one in (*(self.initContainerStatuses or ()), *(self.containerStatuses or ()))
            if one.state is not None and one.state.waiting is not None
        }


class ObservedAnnotations(Annotations, frozen=True, gc=False):
    """The annotations that an assessment reads besides those of a review."""

    exempt: str | None = msgspec.field(default=None, name=names.EXEMPT)


class ObservedMeta(ObjectMeta, frozen=True, gc=False):
    """Metadata of a Pod."""

    deletionTimestamp: str | None = None  # noqa: N815 - Kubernetes' own spelling
    annotations: ObservedAnnotations | None = None


class ObservedPod(Pod, frozen=True, gc=False):
    """A Pod in a cluster."""

    metadata: ObservedMeta | None = None
    spec: ObservedSpec | None = None
    status: ObservedStatus | None = None


# By what was encoded of it.
Specs: TypeAlias = "MutableMapping[bytes, ObservedSpec | None]"

_spec: Final = msgspec.json.Decoder(ObservedSpec | None)
_sealable: Final = msgspec.json.Decoder(SealableSpec)
_rest: Final = msgspec.json.Decoder(ObservedPod)


def observed_pod(pod: Mapping[str, Any], specs: Specs) -> ObservedPod:
    """Return what an assessment reads of a Pod of the API server.

    `specs` has those of earlier Pods: the Pods of a workload have equal ones, and share one.

    Raises:
        MalformedObjectError: A field has another type than in Kubernetes.
    """
    try:
        spec = pod.get("spec")
        encoded = msgspec.json.encode(_only(spec, _SEALED_SPEC if has_seal(spec) else _SPEC))
        if encoded not in specs:
            specs[encoded] = decode_any_depth(_spec.decode, encoded)
        rest = decode_any_depth(_rest.decode, msgspec.json.encode(_only(pod, _REST)))
    except (msgspec.DecodeError, TypeError, OverflowError, UnicodeError, RecursionError):
        # The codec's own message may contain parts of a value.
        raise MalformedObjectError(_NOT_A_POD) from None
    return msgspec.structs.replace(rest, spec=specs[encoded])


def has_seal(spec: object) -> bool:
    """Return whether a Pod's spec has an init container with the name of one of ours. Few Pods have."""
    init = spec.get("initContainers") if isinstance(spec, dict) else None
    return isinstance(init, list) and any(isinstance(one, dict) and one.get("name") in SEAL_NAMES for one in init)


def sealable_spec(spec: object) -> SealableSpec:
    """Return the fields that decide whether a Pod of the API server is sealed.

    Raises:
        MalformedObjectError: A field has another type than in Kubernetes.
    """
    try:
        return decode_any_depth(_sealable.decode, msgspec.json.encode(_only(spec, _SEALED_SPEC)))
    except (msgspec.DecodeError, TypeError, OverflowError, UnicodeError, RecursionError):
        raise MalformedObjectError(_NOT_A_POD) from None


# Nothing else is encoded: `managedFields` can be nested too deeply for the codec, and lists of variables, which are
# not decoded before a rule reads them, keep in memory what was encoded with them.
_CONTAINER: Final[_Fields] = dict.fromkeys(("name", "image", "command", "args", "env", "envFrom", "restartPolicy"))
_ANNOTATIONS: Final[_Fields] = dict.fromkeys((*names.REQUEST_ANNOTATIONS, names.EXEMPT))
_PARTS: Final = ("containers", "initContainers", "ephemeralContainers")
_SPEC: Final[_Fields] = dict.fromkeys(_PARTS, _CONTAINER)
_MOUNTS: Final[_Fields] = dict.fromkeys(("name", "mountPath", "subPath", "subPathExpr"))
_SEALED_SPEC: Final[_Fields] = {
    **{part: {**_CONTAINER, "volumeMounts": _MOUNTS} for part in _PARTS},
    "volumes": dict.fromkeys(("name", "emptyDir")),
}
_REST: Final[_Fields] = {
    "metadata": {"deletionTimestamp": None, "annotations": _ANNOTATIONS},
    "status": {"phase": None, "containerStatuses": None, "initContainerStatuses": None},
}


def _only(value: object, fields: _Fields | None) -> object:
    """Return a value without the fields that are not named; a list, with its items so."""
    if fields is None:
        return value
    if isinstance(value, list):
        return [_only(one, fields) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _only(value[name], below) for name, below in fields.items() if name in value}
