"""Observes the cluster: which Pods use a Secret, and which workloads own them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.ownership import SecretKey
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
from injector.rotation import decode, decode_workloads, fields, reloader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import TypeAlias

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
    living = (pod for pod in pods if not decode.has_ended(pod))
    # Pods that may miss the default Secret come last: others of their workloads show it.
    for pod in sorted(living, key=decode.lacks_unrequested_token):
        namespace = pod["metadata"]["namespace"]
        keys_here = index.get(namespace, {})
        secrets = _secrets_of(pod, keys_here, marks.get(namespace, {}))
        defaults = await owners.missing_defaults(pod, keys_here)
        secrets |= {key.name for key in defaults}
        if not secrets:
            continue
        top, first_position = await owners.of(pod, secrets)
        usage = decode.pod_usage(pod, keys_here, top.ref, first_position, defaults)
        if usage is not None:
            workloads[top.ref] = top
            usages.append(owners.with_history(usage))
            owners.remember_defaults(usage)
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


def _has(keys: decode.NamespaceKeys, key: SecretKey) -> bool:
    return key.key in keys.get(key.name, ())


def _recorded(metadata: dict[str, Any]) -> SecretKey | None:
    """Return the key of the default Secret that the metadata of a workload records."""
    name, _, key = ((metadata.get("annotations") or {}).get(names.OBSERVED_DEFAULT) or "").partition("/")
    return SecretKey(metadata["namespace"], name, key) if name and key else None


def _defaults_of(workload: dict[str, Any], keys: decode.NamespaceKeys, pod: dict[str, Any]) -> Collection[SecretKey]:
    """Return the keys that the sidecars of a workload should have from the Policy's default Secret.

    Its record says so, or Reloader's annotation, if the Pod has no other use for the Secret.
    """
    recorded = _recorded(workload["metadata"])
    if recorded is not None and _has(keys, recorded):
        return (recorded,)
    used = {one.secret for one in decode.references(pod) if one.variable != names.API_TOKEN_ENV}
    used |= {name for _, name, _ in decode.missing_requests(pod)}
    named = sorted(keys.keys() & reloader.named_secrets(workload) - used)
    return [key for name in named for key in decode.unnamed_keys(keys[name])]


@dataclass(frozen=True, slots=True)
class _Top:
    """The end of a chain of owners: the object, or None and why the chain ends there."""

    ref: Ref
    found: dict[str, Any] | None
    skip_reason: SkipReason | None = None


class Owners:
    """Finds the owners of Pods; each object is read once, until `forget`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._seen: dict[_Identity, dict[str, Any] | None] = {}
        self._listed: set[str] = set()  # kinds
        self._running: frozenset[tuple[str, str, int | None]] = frozenset()
        self._forbidden: dict[_Identity, ForbiddenError] = {}
        self._defaults: dict[Ref, set[SecretKey]] = {}  # of workloads

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

    def remember_defaults(self, pod: PodUsage) -> None:
        """Remember which keys the sidecar of a Pod has from the Policy's default Secret, for Pods of its workload."""
        if pod.defaults:
            self._defaults.setdefault(pod.workload, set()).update(pod.defaults)

    def recorded_defaults(self) -> set[SecretKey]:
        """Return the keys that the metadata of all objects that were read records."""
        found = (_recorded(one["metadata"]) for one in self._seen.values() if one is not None)
        return {one for one in found if one is not None}

    async def missing_defaults(self, pod: dict[str, Any], keys: decode.NamespaceKeys) -> Collection[SecretKey]:
        """Return the keys that the sidecar of a Pod should have from the Policy's default Secret, and has not.

        Nothing in the Pod shows it (docs/decisions/0043). Another Pod of the workload does, also one that was observed
        before, or the workload itself.
        """
        if not keys or not decode.lacks_unrequested_token(pod):
            return ()
        try:
            top = await self._top(pod)
        except ForbiddenError:  # what the Pods of the keys need is read by `of`
            return ()
        if top.ref in self._defaults:
            return sorted(self._defaults[top.ref])
        return _defaults_of(top.found, keys, pod) if top.found is not None else ()

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
        top = await self._top(pod)
        if top.found is None:
            return Workload(ref=top.ref, skip_reason=top.skip_reason), 0
        start = ((top.found.get("spec") or {}).get("ordinals") or {}).get("start") or 0
        return replace(
            decode_workloads.workload(top.found), restarted_by=reloader.restarted_by(top.found, secrets)
        ), int(start)

    async def _top(self, pod: dict[str, Any]) -> _Top:
        """Return the end of the owners of a Pod.

        Raises:
            ForbiddenError: One of them may not be read.
        """
        namespace = pod["metadata"]["namespace"]
        last = _Top(Ref(PODS.kind, namespace, pod["metadata"]["name"]), None, SkipReason.BARE_POD)
        known: dict[str, dict[str, Any]] = {}
        for version, kind, name, uid in controllers(controller_of(pod["metadata"]), known):
            ref = Ref(kind, namespace, name)
            resource = RESOURCES.get(kind)
            if resource is None or resource.api_version != version:
                # Below it, what it writes: a ReplicaSet of another tool, or a Deployment that would be taken back.
                return _Top(ref, None, SkipReason.OTHER_CONTROLLER)
            try:
                found = await self._get((ref, uid), resource)
            except ForbiddenError:
                if resource is not ROLLOUTS:
                    raise
                return _Top(ref, None, SkipReason.OTHER_CONTROLLER)
            if found is None:
                return _Top(ref, None, SkipReason.UNKNOWN_OWNER)
            known[uid], last = found["metadata"], _Top(ref, found)
        return last

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
        if owner in self._forbidden:
            raise self._forbidden[owner]
        if owner not in self._seen:
            try:
                self._seen[owner] = {"kind": ref.kind, **await self._api.get(resource, ref.name, ref.namespace)}
            except NotFoundError:
                self._seen[owner] = None
            except ForbiddenError as error:
                self._forbidden[owner] = error
                raise
        return self._seen[owner]
