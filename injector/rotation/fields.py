"""The members of objects that the rules read, for lists of thousands of objects: all others are skipped as bytes.

Every member may be absent or null, as in the API. Their values are plain dictionaries and lists. A member of another
type than in Kubernetes raises `msgspec.ValidationError`.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypedDict, TypeVar

import msgspec

from injector.core import names


class OwnerFields(TypedDict, total=False):
    """An owner of an object."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None


class ManagerFields(TypedDict, total=False):
    """Who wrote which fields, and when."""

    manager: str
    time: str | None
    fieldsV1: dict[str, Any] | None


class MetaFields(TypedDict, total=False):
    """Metadata of any object."""

    namespace: str
    name: str
    uid: str
    generation: int | None
    creationTimestamp: str | None
    deletionTimestamp: str | None
    labels: dict[str, str] | None
    annotations: dict[str, str | None] | None
    ownerReferences: list[OwnerFields] | None


class SecretMetaFields(MetaFields, total=False):
    """Metadata of a Secret."""

    managedFields: list[ManagerFields] | None


class NamedFields(TypedDict, total=False):
    """A part of a Pod with a name."""

    name: str


class VolumeFields(NamedFields, total=False):
    """A volume, with what it takes from Secrets."""

    secret: dict[str, Any] | None
    projected: dict[str, Any] | None


class SealedVolumeFields(VolumeFields, total=False):
    """A volume of a Pod that may be sealed."""

    emptyDir: dict[str, Any] | None


class SealedMountFields(NamedFields, total=False):
    """Where a container of a Pod that may be sealed mounts a volume."""

    mountPath: str
    subPath: str | None
    subPathExpr: str | None


_Volume = TypeVar("_Volume")
_Mount = TypeVar("_Mount")
_Status = TypeVar("_Status")


class ContainerFields(NamedFields, Generic[_Mount], total=False):
    """A container."""

    image: str | None
    command: list[str] | None
    args: list[str] | None
    env: list[dict[str, Any]] | None
    envFrom: list[dict[str, Any]] | None
    volumeMounts: list[_Mount] | None
    restartPolicy: str | None
    resources: Any
    securityContext: Any


class PodSpecFields(TypedDict, Generic[_Volume, _Mount], total=False):
    """What a Pod consists of."""

    nodeName: str | None
    initContainers: list[ContainerFields[_Mount]] | None
    containers: list[ContainerFields[_Mount]] | None
    ephemeralContainers: list[ContainerFields[_Mount]] | None
    volumes: list[_Volume] | None


class ConditionFields(TypedDict, total=False):
    """A condition of a Pod."""

    type: str
    status: str
    lastTransitionTime: str | None


class ContainerStatusFields(NamedFields, total=False):
    """The kubelet's report of a container."""

    state: dict[str, Any] | None


class SealedContainerStatusFields(ContainerStatusFields, total=False):
    """The kubelet's report of a container of a Pod that may be sealed."""

    lastState: dict[str, Any] | None


class PodStatusFields(TypedDict, Generic[_Status], total=False):
    """The kubelet's report of a Pod."""

    phase: str | None
    startTime: str | None
    conditions: list[ConditionFields] | None
    initContainerStatuses: list[_Status] | None
    containerStatuses: list[_Status] | None
    ephemeralContainerStatuses: list[_Status] | None


class PodFields(TypedDict, Generic[_Volume, _Mount, _Status], total=False):
    """A Pod."""

    metadata: MetaFields
    spec: PodSpecFields[_Volume, _Mount] | None
    status: PodStatusFields[_Status] | None


class SecretFields(TypedDict, total=False):
    """A Secret; its values are skipped."""

    metadata: SecretMetaFields
    data: dict[str, msgspec.Raw] | None
    immutable: bool | None


class ObjectFields(TypedDict, total=False):
    """An object of any kind."""

    metadata: MetaFields


_pod: Final = msgspec.json.Decoder(PodFields[VolumeFields, NamedFields, ContainerStatusFields])
_sealed_pod: Final = msgspec.json.Decoder(PodFields[SealedVolumeFields, SealedMountFields, SealedContainerStatusFields])
_SEAL: Final = names.SEAL_CONTAINER.encode()
_secret: Final = msgspec.json.Decoder(SecretFields)
_object: Final = msgspec.json.Decoder(ObjectFields)


def read_pod(text: bytes | bytearray) -> dict[str, Any]:
    """Return a Pod; with the fields that only the rules about sealed Pods read if it names their containers."""
    return {**(_sealed_pod if _SEAL in text else _pod).decode(text)}


def read_secret(text: bytes | bytearray) -> dict[str, Any]:
    """Return a Secret with its keys; not with its values."""
    return {**_secret.decode(text)}


def read_metadata(text: bytes | bytearray) -> dict[str, Any]:
    """Return the metadata of an object of any kind."""
    return {**_object.decode(text)["metadata"]}
