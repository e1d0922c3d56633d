"""Assesses the Pods of a namespace or a cluster. It only reads, and never a value of a Secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from injector.core import names
from injector.core.assess import assess, has_no_dapr
from injector.core.assessment import Assessment, Known, Observation
from injector.core.ownership import SecretRef, TokenSecret
from injector.core.rollout import Ref
from injector.kube.errors import ForbiddenError
from injector.kube.owners import controller_of
from injector.kube.resources import JOBS, NAMESPACES, PODS, REPLICASETS, SECRETS, Resource
from injector.rotation import fields
from injector.rotation.observation import observation
from injector.tokens.decode import token_secret

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from injector.core.assess import Seen
    from injector.core.observed import Specs
    from injector.kube.client import Api
    from injector.kube.lists import Read, T

Object = dict[str, Any]
# Kinds between a workload and its Pods.
_BETWEEN: Final = {resource.kind: resource for resource in (REPLICASETS, JOBS)}


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A Pod's assessment and the workload that it belongs to."""

    workload: Ref
    assessment: Assessment


@dataclass(frozen=True, slots=True)
class Status:
    """All Pods that use Dapr, and why a part of the answer is missing, one line for each missing permission."""

    pods: tuple[PodStatus, ...]
    limits: tuple[str, ...]


async def read_status(api: Api, namespace: str | None, now: int) -> Status:
    """Return the assessment of every Pod that uses Dapr, in a namespace or (None) in all.

    `now` is by the local clock. Waits count by that of the API server, which may differ.

    Raises:
        KubeError: Pods cannot be listed, or the API server does not answer.
    """
    specs: Specs = {}
    found, _ = await api.read_list(PODS, namespace, lambda text: _observed(text, specs))
    now += round(api.skew_seconds)
    reader = _Reader(api, namespace)
    kinds = {owner.kind for _, owner in found}
    between = {
        (kind, meta["namespace"], meta["name"]): meta
        for kind, resource in _BETWEEN.items()
        if kind in kinds
        for meta in await reader.metadata(resource, "workloads are shown by their ReplicaSets and Jobs", _metadata)
    }
    needed = {one.key.secret for pod, _ in found if pod.usage is not None for one in pod.usage.usages}
    secrets = await reader.secrets(needed)
    labels = {
        meta["name"]: meta.get("labels") or {}
        for meta in await reader.namespaces("defaults and exemptions of namespaces are not known")
    }
    seen: Seen = {}
    pods = [
        PodStatus(_workload(owner, between), assess(pod, _known(now, secrets, labels.get(pod.namespace) or {}), seen))
        for pod, owner in found
    ]
    return Status(
        tuple(sorted(pods, key=lambda one: (one.assessment.namespace, one.assessment.name))), tuple(reader.limits)
    )


def _observed(text: bytes | bytearray, specs: Specs) -> tuple[Observation, Ref] | None:
    """Return a Pod and the owner that its metadata shows; None for one that does not use Dapr."""
    try:
        pod = fields.read_pod(text)
    except msgspec.ValidationError:
        meta = fields.read_name(text)["metadata"]
        namespace, name = str(meta["namespace"]), str(meta["name"])
        return Observation(namespace=namespace, name=name, pod=None), Ref("Pod", namespace, name)
    meta = pod["metadata"]
    controller = controller_of(meta)
    kind, name = (controller.kind, controller.name) if controller is not None else ("Pod", str(meta["name"]))
    owner = Ref(kind, str(meta["namespace"]), name)
    found = observation(pod, owner, specs)
    return None if has_no_dapr(found) else (found, owner)


def _workload(owner: Ref, between: Mapping[tuple[str, str, str], Object]) -> Ref:
    meta = between.get((owner.kind, owner.namespace, owner.name))
    controller = controller_of(meta) if meta is not None else None
    return owner if controller is None else Ref(controller.kind, owner.namespace, controller.name)


def _known(now: int, secrets: Mapping[SecretRef, TokenSecret | None], labels: Mapping[str, str]) -> Known:
    return Known(
        now=now,
        secrets=secrets,
        injects_default=labels.get(names.INJECT_DEFAULT_LABEL) == "enabled",
        guard=labels.get(names.GUARD_LABEL, ""),
    )


class _Reader:
    """Reads metadata; `limits` are the permissions that are missing, and what is missing without them."""

    def __init__(self, api: Api, namespace: str | None) -> None:
        self._api = api
        self._namespace = namespace
        self.limits: list[str] = []

    async def metadata(self, resource: Resource, without: str, read: Read[T]) -> list[T]:
        """Return what `read` keeps of the metadata of all objects of a kind; none without the permission."""
        try:
            found, _ = await self._api.read_list(resource, self._namespace, read, metadata_only=True)
        except ForbiddenError as error:
            self.limits.append(f"{without}: {error}")
            return []
        return found

    async def namespaces(self, without: str) -> list[Object]:
        """Return the metadata of the namespaces."""
        if self._namespace is None:
            return await self.metadata(NAMESPACES, without, _metadata)
        try:
            return [(await self._api.get(NAMESPACES, self._namespace))["metadata"]]
        except ForbiddenError as error:
            self.limits.append(f"{without}: {error}")
            return []

    async def secrets(self, needed: Collection[SecretRef]) -> dict[SecretRef, TokenSecret | None]:
        """Return the metadata of Secrets, None for one that does not exist; nothing without the permission."""
        if not needed:
            return {}

        def read(text: bytes | bytearray) -> TokenSecret | None:
            found = fields.read_secret(text)
            meta = found["metadata"]
            is_needed = SecretRef(meta["namespace"], meta["name"]) in needed
            return token_secret({"metadata": meta}) if is_needed else None

        before = len(self.limits)
        found = await self.metadata(SECRETS, "whether Pods run the current token is unknown", read)
        if len(self.limits) > before:
            return {}
        return {**dict.fromkeys(needed), **{one.ref: one for one in found}}


def _metadata(text: bytes | bytearray) -> Object:
    meta: Object = fields.read_object(text)["metadata"]
    return meta
