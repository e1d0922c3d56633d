"""Assesses the Pods of a namespace or a cluster. It only reads, and never a value of a Secret."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from injector.core import names
from injector.core.assess import assess, not_applicable
from injector.core.assessment import Assessment, Known, Observation, ProtectionReason
from injector.core.errors import ConfigError
from injector.core.ownership import SecretRef, TokenSecret
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.kube.lists import item_meta
from injector.kube.owners import BETWEEN, ControllerRef, controller_of, owner_refs
from injector.kube.resources import (
    NAMESPACES,
    PODS,
    SECRETS,
    Resource,
)
from injector.rotation import fields
from injector.rotation.observation import observation
from injector.rotation.usage import token_uses
from injector.rotation.webhook_policy import read_policy
from injector.tokens.decode import token_secret

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from injector.core.assess import Seen
    from injector.core.model import Policy
    from injector.core.observed import Specs
    from injector.core.token_state import Ref
    from injector.kube.client import Api
    from injector.kube.lists import Read, T
    from injector.kube.resources import Object
    from injector.rotation.usage import KeyUse


@dataclass(frozen=True, slots=True)
class StatusSelection:
    """Which Pods to read.

    `workload`: those of this workload, ReplicaSet or Job, or this Pod, which may also have ended or not use Dapr.
    `secret`: those that read or request the Secret of this name. `ended`: also those that have ended or are ending.
    """

    workload: Ref | None = None
    secret: str = ""
    ended: bool = False

    @property
    def pod(self) -> str:
        """The name of the Pod, if it is one."""
        return self.workload.name if self.workload is not None and self.workload.kind == PODS.kind else ""

    def has(self, pod: str, owners: Collection[Ref]) -> bool:
        """Return whether a Pod is one of `workload`."""
        if self.pod or self.workload is None:
            return self.pod in {"", pod}
        return _same_case(self.workload) in map(_same_case, owners)


def _same_case(ref: Ref) -> Ref:
    """Return an object whose kind is in lower case: users write `statefulset.apps.kruise.io`."""
    return replace(ref, kind=ref.kind.lower())


@dataclass(frozen=True, slots=True)
class AssessedPod:
    """A Pod's assessment and the workload that it belongs to; `uses` is empty unless a Secret is selected.

    `uses`: the keys of the Secret that it reads or requests. The key is empty if all are used.
    """

    workload: Ref
    assessment: Assessment
    uses: Mapping[str, KeyUse] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """All Pods that use Dapr, and why a part of the answer is missing, one line for each missing permission.

    `secrets`: metadata of the Secrets that the Pods use, None for one that does not exist.
    """

    pods: tuple[AssessedPod, ...]
    limits: tuple[str, ...]
    secrets: Mapping[SecretRef, TokenSecret | None] = field(default_factory=dict)


async def read_status(
    api: Api, namespace: str | None, now: int, selected: StatusSelection = StatusSelection()
) -> StatusReport:
    """Return the assessment of every selected Pod that uses Dapr, in a namespace or (None) in all.

    `now` is by the local clock. Waits count by that of the API server, which may differ.

    Raises:
        KubeError: Pods cannot be listed, or the API server does not answer.
    """
    specs: Specs = {}
    selectors = (("fieldSelector", f"metadata.name={selected.pod}"),) if selected.pod else ()
    found = await api.read_list(PODS, namespace, lambda text: _observed(text, selected, specs), selectors=selectors)
    now += round(api.skew_seconds)
    reader = _MetadataReader(api, namespace)
    kinds = {owner_refs(pod.namespace, pod.name, owner, {})[0].kind for pod, owner, _ in found}
    without = "workloads are shown by their ReplicaSets and Jobs"
    between = {
        meta.get("uid", ""): meta
        for resource in dict.fromkeys(BETWEEN.values())
        if resource.kind in kinds
        for meta in await reader.metadata(resource, without, fields.read_metadata)
    }
    owned = [
        (pod, owners[-1], uses)
        for pod, owner, uses in found
        if selected.has(pod.name, owners := owner_refs(pod.namespace, pod.name, owner, between))
    ]
    needed = {one.key.secret for pod, _, _ in owned if pod.usage is not None for one in pod.usage.usages}
    if selected.secret and namespace is not None:
        needed.add(SecretRef(namespace, selected.secret))
    secrets = await reader.secrets(needed)
    labels = {
        meta["name"]: meta.get("labels") or {}
        for meta in await reader.namespaces("defaults and exemptions of namespaces are not known", exists=bool(found))
    }
    policy = await reader.policy() if found else None
    seen: Seen = {}
    pods = [
        AssessedPod(top, assess(pod, _known(now, secrets, policy, labels.get(pod.namespace) or {}), seen), uses)
        for pod, top, uses in owned
    ]
    ordered = tuple(sorted(pods, key=lambda one: (one.assessment.namespace, one.assessment.name)))
    return StatusReport(ordered, tuple(reader.limits), secrets)


_Owned: TypeAlias = "tuple[Observation, ControllerRef | None, Mapping[str, KeyUse]]"


def _observed(text: bytes | bytearray, selected: StatusSelection, specs: Specs) -> _Owned | None:
    """Return a Pod, the owner that its metadata shows, and its uses of the Secret; None for one that is not shown."""
    try:
        pod = fields.read_pod(text)
    except msgspec.ValidationError:
        at = item_meta(text)
        malformed = Observation(namespace=at.namespace, name=at.name, pod=None)
        return None if selected.secret else (malformed, None, {})
    uses: Mapping[str, KeyUse] = {}
    if selected.secret:
        uses = token_uses(pod, selected.secret)
        if not uses:
            return None
    meta = pod["metadata"]
    owner = controller_of(meta)
    found = observation(pod, owner_refs(str(meta["namespace"]), str(meta["name"]), owner, {})[0], specs)
    reason = None if selected.pod else not_applicable(found)
    is_shown = reason is None or (selected.ended and reason is not ProtectionReason.NO_DAPR)
    return (found, owner, uses) if is_shown else None


def _known(
    now: int, secrets: Mapping[SecretRef, TokenSecret | None], policy: Policy | None, labels: Mapping[str, str]
) -> Known:
    return Known(
        now=now,
        secrets=secrets,
        policy=policy,
        injects_default=labels.get(names.INJECT_DEFAULT_LABEL) == "enabled",
        guard=labels.get(names.GUARD_LABEL, ""),
    )


class _MetadataReader:
    """Reads metadata; `limits` are the permissions that are missing, and what is missing without them."""

    def __init__(self, api: Api, namespace: str | None) -> None:
        self._api = api
        self._namespace = namespace
        self.limits: list[str] = []

    async def metadata(self, resource: Resource, without: str, read: Read[T]) -> list[T]:
        """Return what `read` keeps of the metadata of all objects of a kind; none without the permission."""
        try:
            return await self._api.read_list(resource, self._namespace, read, metadata_only=True)
        except ForbiddenError as error:
            self.limits.append(f"{without}: {error}")
            return []

    async def namespaces(self, without: str, *, exists: bool) -> list[Object]:
        """Return the metadata of the namespaces.

        Raises:
            NotFoundError: The namespace does not exist. One that `exists` was deleted in the meantime.
        """
        if self._namespace is None:
            return await self.metadata(NAMESPACES, without, fields.read_metadata)
        try:
            return [(await self._api.get(NAMESPACES, self._namespace))["metadata"]]
        except (ForbiddenError, NotFoundError) as error:
            if isinstance(error, NotFoundError) and not exists:
                raise
            self.limits.append(f"{without}: {error}")
            return []

    async def policy(self) -> Policy | None:
        """Return the Policy in the ConfigMap that the webhook's Deployment mounts, None if that cannot be read."""
        try:
            return await read_policy(self._api)
        except (ForbiddenError, NotFoundError, ConfigError, LookupError) as error:
            self.limits.append(f"the webhook's Policy is not known: {error}")
            return None

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
