"""Looks at the cluster: which Pods use a Secret, and what stands at the end of their owners."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from injector.core.ownership import SecretRef
from injector.core.rollout import Hold, Holder, Ref, Workload
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.kube.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    Resource,
)
from injector.tokens import reading

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import TypeAlias

    from injector.kube.client import Api

    # An owner and its uid: another object of the same name is another owner.
    _Identity: TypeAlias = tuple[Ref, str]

RESOURCES: Final[Mapping[str, Resource]] = {
    resource.kind: resource for resource in (DEPLOYMENTS, REPLICASETS, STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS)
}


@dataclass(frozen=True, slots=True)
class Observed:
    """Pods that use the Secrets, and what they belong to."""

    workloads: Mapping[Ref, Workload]
    holders: tuple[Holder, ...]


async def observe(api: Api, keys: Mapping[SecretRef, str], owners: Owners) -> Observed:
    """Everything that uses these keys of these Secrets; workloads are as `owners` saw them first.

    Raises:
        KubeError: The API server does not tell.
    """
    pods = [pod for namespace in sorted({ref.namespace for ref in keys}) for pod in await api.list(PODS, namespace)]
    return await among(pods, keys, owners)


async def among(pods: Collection[dict[str, Any]], keys: Mapping[SecretRef, str], owners: Owners) -> Observed:
    """Everything among `pods` that uses these keys of these Secrets."""
    workloads: dict[Ref, Workload] = {}
    holders: list[Holder] = []
    for pod in pods:
        namespace = pod["metadata"]["namespace"]
        used = {
            ref.name
            for _, _, name, key in reading.references(pod)
            if (ref := SecretRef(namespace, name)) in keys and key in {"", keys[ref]}
        }
        if not used:
            continue
        top, start = await owners.of(pod, used)
        found = reading.holder(pod, keys, top.ref, start)
        if found is not None:
            workloads[top.ref] = top
            holders.append(found)
    return Observed(workloads, tuple(holders))


async def look(api: Api, ref: Ref) -> Workload | None:
    """One workload as it is now; None when it is gone."""
    try:
        found = await api.get(RESOURCES[ref.kind], ref.name, ref.namespace)
    except NotFoundError:
        return None
    return reading.workload({**found, "kind": ref.kind})


class Owners:
    """Walks up the owners of Pods; each object is asked for once, until it is to be forgotten."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._seen: dict[_Identity, dict[str, Any] | None] = {}

    def forget(self, workloads: Collection[Ref]) -> None:
        """Ask for these anew; what is below them, whose owner never changes, stays."""
        self._seen = {known: found for known, found in self._seen.items() if known[0] not in workloads}

    async def read_all(self, namespace: str | None) -> None:
        """Read every possible owner by a few lists, for who looks at many Pods; what may not be listed is left out."""
        for resource in RESOURCES.values():
            try:
                found = await self._api.list(resource, namespace)
            except ForbiddenError:
                continue
            for one in found:
                meta = one["metadata"]
                self._seen[Ref(resource.kind, meta["namespace"], meta["name"]), meta["uid"]] = one

    async def of(self, pod: dict[str, Any], secrets: Collection[str]) -> tuple[Workload, int]:
        """What stands at the end, and the number of the first Pod of a StatefulSet."""
        namespace = pod["metadata"]["namespace"]
        below: dict[str, Any] = {**pod, "kind": "Pod"}
        while (owner := reading.controller(below["metadata"])) is not None:
            version, kind, name, uid = owner
            ref = Ref(kind, namespace, name)
            resource = RESOURCES.get(kind)
            if kind == "Node":  # a mirror of a file on a node
                return Workload(ref=Ref("Pod", namespace, pod["metadata"]["name"]), hold=Hold.BARE_POD), 0
            if resource is None or resource.api_version != version:
                # Below it, what it writes: a ReplicaSet of another tool, or a Deployment that would be taken back.
                return Workload(ref=ref, hold=Hold.OTHER_CONTROLLER), 0
            found = await self._get((ref, uid), resource)
            if found is None:
                return Workload(ref=ref, hold=Hold.UNKNOWN_OWNER), 0
            below = found
        if below["kind"] == "Pod":
            return Workload(ref=Ref("Pod", namespace, pod["metadata"]["name"]), hold=Hold.BARE_POD), 0
        start = ((below.get("spec") or {}).get("ordinals") or {}).get("start") or 0
        top = replace(reading.workload(below), is_restarted_elsewhere=reading.restarted_by(below, secrets))
        return top, int(start)

    async def _get(self, owner: _Identity, resource: Resource) -> dict[str, Any] | None:
        ref, _ = owner
        if owner not in self._seen:
            try:
                self._seen[owner] = {"kind": ref.kind, **await self._api.get(resource, ref.name, ref.namespace)}
            except NotFoundError:
                self._seen[owner] = None
        return self._seen[owner]
