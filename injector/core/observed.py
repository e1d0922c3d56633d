"""The fields of a Pod in a cluster that an assessment reads, decoded as those of a review are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from injector.core import names
from injector.core.depth import decode_any_depth
from injector.core.errors import MalformedObjectError
from injector.core.model import Annotations, Container, ObjectMeta, Pod, PodSpec, Quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_A_POD: Final = "the object is not a Pod"


class NamedSource(Quiet, frozen=True, gc=False):
    """The Secret or ConfigMap of all variables of a container."""

    name: str = ""


class EnvFrom(Quiet, frozen=True, gc=False):
    """All keys of an object as variables, each after the prefix."""

    prefix: str | None = None
    secretRef: NamedSource | None = None  # noqa: N815 - Kubernetes' own spelling


class ObservedContainer(Container, frozen=True, gc=False):
    """A container of any list."""

    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    envFrom: list[EnvFrom] | None = None  # noqa: N815 - Kubernetes' own spelling

    @property
    def words(self) -> tuple[str, ...]:
        """Command and arguments."""
        return (*(self.command or ()), *(self.args or ()))


class ObservedSpec(PodSpec, frozen=True, gc=False):
    """The containers that a kubelet runs."""

    containers: list[ObservedContainer] | None = None  # type: ignore[assignment] # nothing writes the list
    initContainers: list[ObservedContainer] | None = None  # type: ignore[assignment] # noqa: N815 - as above
    ephemeralContainers: list[ObservedContainer] | None = None  # noqa: N815 - Kubernetes' own spelling

    @property
    def every(self) -> tuple[ObservedContainer, ...]:
        """The containers of all lists."""
        return (*(self.initContainers or ()), *(self.containers or ()), *(self.ephemeralContainers or ()))


class Waiting(Quiet, frozen=True, gc=False):
    """Why a container waits, by the kubelet."""

    reason: str | None = None
    message: str | None = None


class ContainerState(Quiet, frozen=True, gc=False):
    """The part of a container's state that shows why it waits."""

    waiting: Waiting | None = None


class ContainerStatus(Quiet, frozen=True, gc=False):
    """The kubelet's report of a container."""

    name: str = ""
    state: ContainerState | None = None


class PodStatus(Quiet, frozen=True, gc=False):
    """The kubelet's report of a Pod."""

    phase: str | None = None
    containerStatuses: list[ContainerStatus] | None = None  # noqa: N815 - Kubernetes' own spelling
    initContainerStatuses: list[ContainerStatus] | None = None  # noqa: N815 - Kubernetes' own spelling

    def waiting(self, container: str) -> Waiting | None:
        """Why a container waits, if it does."""
        states = (*(self.initContainerStatuses or ()), *(self.containerStatuses or ()))
        return next((one.state.waiting for one in states if one.name == container and one.state is not None), None)


class ObservedAnnotations(Annotations, frozen=True, gc=False):
    """The annotations that an assessment reads besides those of a review."""

    exempt: str | None = msgspec.field(default=None, name=names.EXEMPT)


class ObservedMeta(ObjectMeta, frozen=True, gc=False):
    """Metadata of a Pod."""

    namespace: str = ""
    deletionTimestamp: str | None = None  # noqa: N815 - Kubernetes' own spelling
    annotations: ObservedAnnotations | None = None


class ObservedPod(Pod, frozen=True, gc=False):
    """A Pod in a cluster."""

    metadata: ObservedMeta | None = None
    spec: ObservedSpec | None = None
    status: PodStatus | None = None


_pod: Final = msgspec.json.Decoder(ObservedPod)


def observed_pod(pod: Mapping[str, Any]) -> ObservedPod:
    """Return what an assessment reads of a Pod of the API server.

    Raises:
        MalformedObjectError: A field has another type than in Kubernetes.
    """
    try:
        meta = pod["metadata"]
        # `managedFields` can be nested too deeply for the codec.
        known = {**pod, "metadata": {key: meta[key] for key in _META if key in meta}}
        return decode_any_depth(_pod.decode, msgspec.json.encode(known))
    except (msgspec.DecodeError, KeyError, TypeError, OverflowError, UnicodeError, RecursionError):
        # The codec's own message may contain parts of a value.
        raise MalformedObjectError(_NOT_A_POD) from None


_META: Final = ("namespace", "name", "annotations", "deletionTimestamp")
