"""Assesses the Pods of a namespace or a cluster. It only reads, and never a value of a Secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.config.policy import parse_policy
from injector.core import names
from injector.core.assess import assess, has_no_dapr
from injector.core.assessment import Assessment, Known
from injector.core.errors import ConfigError
from injector.core.ownership import SecretRef, TokenSecret
from injector.core.rollout import Ref
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.kube.owners import controller_of
from injector.kube.resources import CONFIGMAPS, DEPLOYMENTS, JOBS, NAMESPACES, PODS, REPLICASETS, SECRETS, Resource
from injector.rotation.observation import observation
from injector.tokens.decode import token_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from injector.core.model import Policy
    from injector.kube.client import Api

Object = dict[str, Any]
# Kinds between a workload and its Pods.
_BETWEEN: Final = {resource.kind: resource for resource in (REPLICASETS, JOBS)}
# The webhook's Deployment, and where it mounts its Policy from: charts/.../templates/webhook/deployment.yaml.
_WEBHOOK: Final = f"app.kubernetes.io/name={names.MANAGER}"
_POLICY_VOLUME: Final = "policy"
_POLICY_KEY: Final = "policy.yaml"


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

    Raises:
        KubeError: Pods cannot be listed, or the API server does not answer.
    """
    found = [one["observed"] for one in await api.list(PODS, namespace, keep=_observed)]
    reader = _Reader(api, namespace)
    kinds = {owner.kind for _, owner in found}
    between = {
        (kind, meta["namespace"], meta["name"]): meta
        for kind, resource in _BETWEEN.items()
        if kind in kinds
        for meta in await reader.metadata(resource, "workloads are shown by their ReplicaSets and Jobs")
    }
    needed = {one.key.secret for pod, _ in found if pod.usage is not None for one in pod.usage.usages}
    secrets = await reader.secrets(needed)
    labels = {
        meta["name"]: meta.get("labels") or {}
        for meta in await reader.namespaces("defaults and exemptions of namespaces are not known")
    }
    policy = await reader.policy() if found else None
    pods = [
        PodStatus(_workload(owner, between), assess(pod, _known(now, secrets, policy, labels.get(pod.namespace) or {})))
        for pod, owner in found
    ]
    return Status(
        tuple(sorted(pods, key=lambda one: (one.assessment.namespace, one.assessment.name))), tuple(reader.limits)
    )


def _observed(pod: Object) -> Object | None:
    meta = pod["metadata"]
    controller = controller_of(meta)
    kind, name = (controller.kind, controller.name) if controller is not None else ("Pod", str(meta["name"]))
    owner = Ref(kind, str(meta["namespace"]), name)
    found = observation(pod, owner)
    return None if has_no_dapr(found) else {"observed": (found, owner)}


def _workload(owner: Ref, between: Mapping[tuple[str, str, str], Object]) -> Ref:
    meta = between.get((owner.kind, owner.namespace, owner.name))
    controller = controller_of(meta) if meta is not None else None
    return owner if controller is None else Ref(controller.kind, owner.namespace, controller.name)


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


def _policies(deployment: Object) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of the ConfigMaps that are mounted as the Policy."""
    for volume in deployment["spec"]["template"]["spec"].get("volumes") or ():
        name = (volume.get("configMap") or {}).get("name")
        if volume.get("name") == _POLICY_VOLUME and name:
            yield deployment["metadata"]["namespace"], name


class _Reader:
    """Reads metadata; `limits` are the permissions that are missing, and what is missing without them."""

    def __init__(self, api: Api, namespace: str | None) -> None:
        self._api = api
        self._namespace = namespace
        self.limits: list[str] = []

    async def metadata(
        self, resource: Resource, without: str, keep: Callable[[Object], Object | None] = lambda item: item
    ) -> list[Object]:
        """Return the metadata of all objects of a kind; none without the permission."""
        try:
            items = await self._api.list(resource, self._namespace, keep=keep, metadata_only=True)
        except ForbiddenError as error:
            self.limits.append(f"{without}: {error}")
            return []
        return [item["metadata"] for item in items]

    async def namespaces(self, without: str) -> list[Object]:
        """Return the metadata of the namespaces."""
        if self._namespace is None:
            return await self.metadata(NAMESPACES, without)
        try:
            return [(await self._api.get(NAMESPACES, self._namespace))["metadata"]]
        except ForbiddenError as error:
            self.limits.append(f"{without}: {error}")
            return []

    async def policy(self) -> Policy | None:
        """Return the Policy in the ConfigMap that the webhook's Deployment mounts, None if that cannot be read."""
        without = "the webhook's Policy is not known"
        try:
            deployments = await self._api.list(DEPLOYMENTS, label_selector=_WEBHOOK)
            mounted = {ref for one in deployments for ref in _policies(one)}
            if len(mounted) != 1:
                self.limits.append(
                    f"{without}: {len(mounted)} ConfigMaps are volumes {_POLICY_VOLUME} of Deployments with {_WEBHOOK}"
                )
                return None
            namespace, name = mounted.pop()
            found = await self._api.get(CONFIGMAPS, name, namespace)
            return parse_policy(str((found.get("data") or {}).get(_POLICY_KEY) or ""), name)
        except (ForbiddenError, NotFoundError, ConfigError) as error:
            self.limits.append(f"{without}: {error}")
            return None

    async def secrets(self, needed: Collection[SecretRef]) -> dict[SecretRef, TokenSecret | None]:
        """Return the metadata of Secrets, None for one that does not exist; nothing without the permission."""
        if not needed:
            return {}
        before = len(self.limits)
        found = await self.metadata(
            SECRETS,
            "whether Pods run the current token is unknown",
            lambda item: item if _ref(item) in needed else None,
        )
        if len(self.limits) > before:
            return {}
        secrets = (token_secret({"metadata": meta}) for meta in found)
        return {**dict.fromkeys(needed), **{one.ref: one for one in secrets}}


def _ref(item: Object) -> SecretRef:
    return SecretRef(item["metadata"]["namespace"], item["metadata"]["name"])
