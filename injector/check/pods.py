"""The Pods that run daprd or read Secrets: one walk for all checks, of which few fields are kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from injector.core import names
from injector.core.messages import listed
from injector.core.ownership import SecretKey
from injector.core.sealed import FOUND_EXIT_CODE
from injector.core.sidecar import is_dapr_shared, is_daprd
from injector.core.token_state import Ref
from injector.kube.errors import ForbiddenError
from injector.kube.owners import controller_of, owner_refs
from injector.kube.resources import JOBS, PODS
from injector.rotation import decode, fields
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object, Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What checks need of a Pod.

    `images`: of its containers that run daprd. `secrets`: names of all Secrets that its containers read, or that it
    requests. `tokens`: variables and the keys that its containers read for them; also those that it requests by
    annotation and its sidecar has no value for, then with an empty key for the default one of the Policy. `uses_dapr`:
    `dapr.io/enabled` is true. `requests_token`: by annotation. `labels`: only of those that request one. `node`: of
    sealed ones, empty before they are scheduled. `is_stuck`: its kubelet does not read env files.
    """

    workload: Ref
    images: frozenset[str]
    secrets: frozenset[str]
    tokens: frozenset[tuple[str, SecretKey]]
    is_shared: bool
    uses_dapr: bool
    requests_token: bool
    labels: Mapping[str, str]
    is_sealed: bool = False
    is_stuck: bool = False
    node: str = ""


async def all_pods(reader: ClusterReader) -> tuple[PodFacts, ...]:
    """Return the Pods of all namespaces that use Dapr or a Secret, without those that have ended.

    Raises:
        KubeError: They cannot be listed.
    """
    return await reader.once(all_pods, lambda: _read_all(reader))


async def _read_all(reader: ClusterReader) -> tuple[PodFacts, ...]:
    found = [(one["facts"], one["owner"]) for one in await reader.api.list(PODS, keep=_kept)]
    jobs: Objects = []
    if any(facts.workload.kind == JOBS.kind for facts, _ in found):
        with suppress(ForbiddenError):  # then Pods of CronJobs are shown by their Jobs
            jobs = await reader.api.read_list(JOBS, None, fields.read_metadata, metadata_only=True)
    known = {meta.get("uid", ""): meta for meta in jobs}
    return tuple(
        replace(facts, workload=owner_refs(facts.workload.namespace, "", owner, known)[-1])
        if facts.workload.kind == JOBS.kind
        else facts
        for facts, owner in found
    )


def workloads(pods: Iterable[PodFacts]) -> str:
    """Return the workloads of Pods as text; of many, the first ones and the number of the others."""
    return listed([escaped(str(ref)) for ref in sorted({pod.workload for pod in pods})])


def _kept(pod: Object) -> Object | None:
    facts = pod_facts(pod)
    return {"facts": facts, "owner": controller_of(pod["metadata"])} if facts is not None else None


def pod_facts(pod: Object) -> PodFacts | None:
    """Return what checks need of a Pod; None if it has ended, or uses neither Dapr nor a Secret."""
    if decode.has_ended(pod):
        return None
    namespace = pod["metadata"]["namespace"]
    references = tuple(decode.references(pod))
    daprds = {one["name"]: one.get("image") or "" for one in _containers(pod) if _is_daprd(one)}
    tokens = set(decode.token_keys(pod)) | {
        (variable, SecretKey(namespace, name, key)) for variable, name, key in decode.missing_requests(pod)
    }
    secrets = {one.secret for one in references} | {key.name for _, key in tokens}
    annotations = pod["metadata"].get("annotations") or {}
    uses_dapr = decode.requests_sidecar(pod)
    requests_token = bool(annotations.get(names.API_TOKEN_SECRET) or annotations.get(names.APP_TOKEN_SECRET))
    if not (secrets or daprds or uses_dapr or requests_token):
        return None
    is_sealed = any(one.is_sealed for one in references)
    return PodFacts(
        workload=workload_of(pod["metadata"]),
        images=frozenset(daprds.values()),
        secrets=frozenset(secrets),
        tokens=frozenset(tokens),
        is_shared=any(
            is_dapr_shared(is_requested=uses_dapr, key=one.key)
            for one in references
            if one.container in daprds and one.variable == names.API_TOKEN_ENV
        ),
        uses_dapr=uses_dapr,
        requests_token=requests_token,
        labels=(pod["metadata"].get("labels") or {}) if requests_token else {},
        is_sealed=is_sealed,
        is_stuck=is_sealed and decode.exit_code(pod, names.SEAL_CHECK_CONTAINER) == FOUND_EXIT_CODE,
        node=((pod.get("spec") or {}).get("nodeName") or "") if is_sealed else "",
    )


def _containers(pod: Object) -> Iterable[Object]:
    spec = pod.get("spec") or {}
    return (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))


def _is_daprd(container: Object) -> bool:
    return is_daprd(container.get("image") or "", (*(container.get("command") or ()), *(container.get("args") or ())))


def workload_of(metadata: Mapping[str, Any]) -> Ref:
    """Return the workload of a Pod, or its Job. A ReplicaSet is not read: its name is that of its owner and the hash.

    https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label
    """
    namespace = metadata["namespace"]
    (owner,) = owner_refs(namespace, metadata["name"], controller_of(metadata), {})
    labels = metadata.get("labels") or {}
    for label, kind in (("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")):
        name = owner.name.removesuffix(f"-{labels.get(label)}")
        if owner.kind == "ReplicaSet" and name != owner.name:
            return Ref(kind, namespace, name)
    return owner
