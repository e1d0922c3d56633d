"""Observes the cluster: which Pods use a Secret, and which workloads own them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from injector.core.rollout import SkipReason, Workload
from injector.core.token_state import PodUsage, Ref, annotation_for
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.kube.owners import controller_of, controllers
from injector.kube.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICASETS,
    ROLLOUTS,
    STATEFULSETS,
    Resource,
)
from injector.rotation import decode, decode_workloads, fields
from injector.rotation.reloader import restarted_by

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import TypeAlias

    from injector.core.ownership import SecretKey
    from injector.kube.client import Api

    # An owner and its uid: another object of the same name is another owner.
    _Identity: TypeAlias = tuple[Ref, str]

RESOURCES: Final[Mapping[str, Resource]] = {
    resource.kind: resource
    for resource in (DEPLOYMENTS, REPLICASETS, STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS, ROLLOUTS)
}


@dataclass(frozen=True, slots=True)
class Observed:
    """Pods that read or request the keys, or were created by their restart, and the workloads that they belong to.

    `sidecars`: of a Pod of each workload, the sidecar without its environment, and the list that it is in.
    """

    workloads: Mapping[Ref, Workload]
    pods: tuple[PodUsage, ...]
    sidecars: Mapping[Ref, tuple[str, dict[str, Any]]]

    def without(self, refs: Collection[Ref]) -> Observed:
        """Return all but these workloads and their Pods."""
        workloads = {ref: one for ref, one in self.workloads.items() if ref not in refs}
        return replace(self, workloads=workloads, pods=tuple(pod for pod in self.pods if pod.workload not in refs))


async def observe(api: Api, keys: Collection[SecretKey], owners: Owners) -> Observed:
    """Return everything that uses the keys; workloads are as `owners` read them first.

    Raises:
        KubeError: The API server rejects a request or does not answer.
    """
    namespaces = sorted({key.namespace for key in keys})
    lists = [await api.read_list(PODS, namespace, fields.read_pod) for namespace in namespaces]
    pods = [pod for found in lists for pod in found]
    return await among(pods, keys, owners)


async def among(pods: Collection[dict[str, Any]], keys: Collection[SecretKey], owners: Owners) -> Observed:
    """Return everything among `pods` that uses the keys."""
    index = decode.index(keys)
    marks = {namespace: {annotation_for(name): name for name in found} for namespace, found in index.items()}
    workloads: dict[Ref, Workload] = {}
    usages: list[PodUsage] = []
    sidecars: dict[Ref, tuple[str, dict[str, Any]]] = {}
    for pod in pods:
        if decode.has_ended(pod):
            continue
        namespace = pod["metadata"]["namespace"]
        secrets: Collection[str] = _secrets_of(pod, index.get(namespace, {}), marks.get(namespace, {}))
        secrets = secrets or await owners.secrets_of_siblings(pod)
        if not secrets:
            continue
        top, first_position = await owners.of(pod, secrets)
        usage = decode.pod_usage(pod, index[namespace], top.ref, first_position)
        if usage is not None:
            workloads[top.ref] = top
            usages.append(owners.with_history(usage))
            frame = decode.sidecar_frame(pod)
            if frame is not None:
                sidecars[top.ref] = frame
    return Observed(workloads, tuple(usages), sidecars)


def _secrets_of(pod: dict[str, Any], keys: decode.NamespaceKeys, marks: Mapping[str, str]) -> set[str]:
    """Names of the Secrets that a Pod reads, requests, or was restarted for (`marks`: Secret by annotation)."""
    used = {one.secret for one in decode.references(pod) if not one.key or one.key in keys.get(one.secret, ())}
    requested = {one.key.name for one in decode.missing_tokens(pod, keys)}
    marked = {marks[name] for name in pod["metadata"].get("annotations") or () if name in marks}
    return (used & keys.keys()) | requested | marked


class Owners:
    """Finds the owners of Pods; each object is read once, until `forget`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._seen: dict[_Identity, dict[str, Any] | None] = {}
        self._listed: set[str] = set()  # kinds
        self._running: frozenset[tuple[str, str, int | None]] = frozenset()
        # By the uid of a ReplicaSet of an Argo Rollout: the Secrets that its Pods use.
        self._of_rollouts: dict[str, Collection[str]] = {}
        # The same for each workload that another tool restarts.
        self._of_reloaded: dict[Ref, Collection[str]] = {}

    def remember_running(self, pods: Iterable[PodUsage]) -> None:
        """Remember these containers: those that still run after the Secret changed have the previous value."""
        self._running = frozenset((pod.uid, one.container, one.started) for pod in pods for one in pod.usages)

    def with_history(self, pod: PodUsage) -> PodUsage:
        """Return a Pod whose containers are marked if they are remembered."""
        usages = [
            replace(one, ran_before=one.started is not None and (pod.uid, one.container, one.started) in self._running)
            for one in pod.usages
        ]
        return replace(pod, usages=tuple(usages))

    async def secrets_of_siblings(self, pod: dict[str, Any]) -> Collection[str]:
        """Return the Secrets that other Pods of the same workload use, as far as observed, if a restart leaves no mark.

        A new Pod without its token has then nothing to be recognized by. An Argo Rollout keeps its template, and its
        Pods are those of the same ReplicaSet; another tool writes marks of its own.
        """
        owner = controller_of(pod["metadata"])
        if owner is None:
            return ()
        direct = Ref(owner.kind, pod["metadata"]["namespace"], owner.name)
        return self._of_rollouts.get(owner.uid) or self._of_reloaded.get(
            await self._deployment_of(direct, owner.uid) or direct, ()
        )

    async def _deployment_of(self, direct: Ref, uid: str) -> Ref | None:
        """Return the Deployment of a ReplicaSet, if another tool restarts it: others are not read."""
        above = Ref(DEPLOYMENTS.kind, direct.namespace, direct.name.rpartition("-")[0])
        if direct.kind != REPLICASETS.kind or above not in self._of_reloaded:
            return None
        found = await self._get((direct, uid), REPLICASETS)
        owner = controller_of(found["metadata"]) if found is not None else None
        return above if owner is not None and (owner.kind, owner.name) == (above.kind, above.name) else None

    def forget(self, workloads: Collection[Ref]) -> None:
        """Read these workloads again when they are needed; the objects between them and their Pods are kept."""
        self._seen = {known: found for known, found in self._seen.items() if known[0] not in workloads}

    async def read_all(self, namespace: str | None) -> None:
        """Read the metadata of every possible owner with a few lists; kinds that may not be listed are left out.

        An owner that a list does not have was deleted: the Pods were listed before.
        """
        for resource in RESOURCES.values():
            try:
                found = await self._api.read_list(resource, namespace, fields.read_metadata, metadata_only=True)
            except (ForbiddenError, NotFoundError):  # Argo Rollouts may not be installed
                continue
            self._listed.add(resource.kind)
            for meta in found:
                # The API server calls it a PartialObjectMetadata.
                self._seen[Ref(resource.kind, meta["namespace"], meta["name"]), meta["uid"]] = {
                    "kind": resource.kind,
                    "metadata": meta,
                }

    async def of(self, pod: dict[str, Any], secrets: Collection[str]) -> tuple[Workload, int]:
        """Return the object at the end of the owners, and the number of the first Pod of a StatefulSet."""
        namespace = pod["metadata"]["namespace"]
        direct = controller_of(pod["metadata"])
        if direct is None:
            return Workload(ref=Ref("Pod", namespace, pod["metadata"]["name"]), skip_reason=SkipReason.BARE_POD), 0
        known: dict[str, dict[str, Any]] = {}
        last = pod
        for version, kind, name, uid in controllers(direct, known):
            ref = Ref(kind, namespace, name)
            resource = RESOURCES.get(kind)
            if resource is None or resource.api_version != version:
                # Below it, what it writes: a ReplicaSet of another tool, or a Deployment that would be taken back.
                return Workload(ref=ref, skip_reason=SkipReason.OTHER_CONTROLLER), 0
            try:
                found = await self._get((ref, uid), resource)
            except ForbiddenError:
                if resource is not ROLLOUTS:
                    raise
                return Workload(ref=ref, skip_reason=SkipReason.OTHER_CONTROLLER), 0
            if found is None:
                return Workload(ref=ref, skip_reason=SkipReason.UNKNOWN_OWNER), 0
            known[uid], last = found["metadata"], found
        if last["kind"] == ROLLOUTS.kind:
            self._of_rollouts[direct.uid] = {*self._of_rollouts.get(direct.uid, ()), *secrets}
        start = ((last.get("spec") or {}).get("ordinals") or {}).get("start") or 0
        top = replace(decode_workloads.workload(last), restarted_by=restarted_by(last, secrets))
        if top.restarted_by:
            self._of_reloaded[top.ref] = {*self._of_reloaded.get(top.ref, ()), *secrets}
        return top, int(start)

    async def read(self, ref: Ref) -> dict[str, Any] | None:
        """Return a workload as it is now, with its template; None if it was deleted."""
        try:
            found = {"kind": ref.kind, **await self._api.get(RESOURCES[ref.kind], ref.name, ref.namespace)}
        except NotFoundError:
            return None
        spec = found.get("spec") or {}
        # An Argo Rollout may use the template of another object: https://argoproj.github.io/argo-rollouts/migrating/
        source = (spec.get("workloadRef") or {}) if ref.kind == ROLLOUTS.kind else {}
        if source.get("kind") in RESOURCES:
            other = await self.read(Ref(source["kind"], ref.namespace, source.get("name", "")))
            spec = {**spec, "template": ((other or {}).get("spec") or {}).get("template") or {}}
            return {**found, "spec": spec}
        return found

    async def _get(self, owner: _Identity, resource: Resource) -> dict[str, Any] | None:
        ref, _ = owner
        if owner not in self._seen and ref.kind in self._listed:
            return None
        if owner not in self._seen:
            try:
                self._seen[owner] = {"kind": ref.kind, **await self._api.get(resource, ref.name, ref.namespace)}
            except NotFoundError:
                self._seen[owner] = None
        return self._seen[owner]
