"""Checks of what sealed Pods need: env files in the API server and in the kubelets (docs/decisions/0035)."""

from __future__ import annotations

from collections import defaultdict
from shlex import quote
from typing import TYPE_CHECKING, Final

from injector.check import canary
from injector.check.admission import namespace_of_canary
from injector.check.cluster import parse_version
from injector.check.installation import policy_of
from injector.check.model import Category, Check, CheckProblem, Outcome, failed, unknown, warning
from injector.check.pods import all_pods, workloads
from injector.core import names
from injector.core.messages import listed
from injector.core.model import SealMode
from injector.kube.errors import InvalidError, KubeError, UnauthorizedError
from injector.kube.resources import NODES, PODS
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from injector.check.pods import PodFacts
    from injector.check.reader import ClusterReader
    from injector.kube.resources import Object

# On by default since: https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/3721-support-for-env-files
OLDEST: Final = (1, 35)
_OLDEST: Final = ".".join(map(str, OLDEST))
_NOT_SEALED: Final = Outcome(seen="no Pod is sealed", is_skipped=True)


async def _sealed(reader: ClusterReader) -> list[PodFacts]:
    return [pod for pod in await all_pods(reader) if pod.is_sealed]


async def _mode(reader: ClusterReader) -> SealMode:
    """Return which Pods the webhook seals: none without a Policy, or with one that is not valid.

    Raises:
        KubeError: The Policy cannot be read.
    """
    policy = await policy_of(reader)
    return policy.seal if policy is not None and policy.seal_image is not None else SealMode.OFF


# --- the API server ---


async def _accepted(reader: ClusterReader) -> Outcome:
    sealed, mode = await _sealed(reader), await _mode(reader)
    if not sealed and mode is SealMode.OFF:
        return _NOT_SEALED
    namespace = await namespace_of_canary(reader)
    seen = f"a Pod with a variable from a file, as a dry run in namespace {namespace}"
    try:
        answer, _ = await reader.api.dry_run_create(PODS, pod_with_file(namespace), namespace)
    except UnauthorizedError:
        raise
    except InvalidError as error:
        is_used = sealed or mode is SealMode.ALWAYS
        problem = (failed if is_used else warning)(
            f"the API server does not accept variables from files, so no sealed Pod starts: {error}"
        )
        return Outcome(seen=seen, problems=(problem,))
    except KubeError as error:
        return Outcome(seen=seen, problems=(canary.refusal(error, namespace),))
    (entry,) = answer["spec"]["containers"][0]["env"]
    if (entry.get("valueFrom") or {}).get("fileKeyRef") is None:
        return Outcome(seen=seen, problems=(unknown("another webhook or policy changed the variable of the Pod"),))
    return Outcome(seen=f"{seen} is accepted")


def pod_with_file(namespace: str) -> Object:
    """Return a Pod without a sidecar that has a variable from a file."""
    body = canary.pod(namespace, {})
    (container,) = body["spec"]["containers"]
    source = {"volumeName": names.SEAL_VOLUME, "path": names.SEAL_FILE, "key": names.API_TOKEN_ENV}
    container |= {"name": "env-files", "env": [{"name": names.API_TOKEN_ENV, "valueFrom": {"fileKeyRef": source}}]}
    body["spec"]["volumes"] = [{"name": names.SEAL_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}]
    return body


# --- the kubelets ---


async def _nodes(reader: ClusterReader) -> Outcome:
    sealed = await _sealed(reader)
    if not sealed and await _mode(reader) is SealMode.OFF:
        return _NOT_SEALED
    kubelets = await _kubelets(reader)
    return Outcome(seen=counted(len(kubelets), "node"), problems=tuple(node_problems(sealed, kubelets)))


async def _kubelets(reader: ClusterReader) -> Mapping[str, str]:
    """Return the version of the kubelet of each node.

    Raises:
        KubeError: Nodes cannot be listed.
    """
    found = await reader.once(_kubelets, lambda: reader.api.list(NODES, keep=_version_of))
    return {one["name"]: one["version"] for one in found}


def _version_of(node: Object) -> Object:
    version = ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or ""
    return {"name": node["metadata"]["name"], "version": str(version)[: names.MAX_SHOWN_VALUE]}


def node_problems(sealed: Iterable[PodFacts], kubelets: Mapping[str, str]) -> Iterator[CheckProblem]:
    """Yield the nodes on which sealed Pods do not start, and those on which they would not."""
    stuck = [pod for pod in sealed if pod.is_stuck]
    if stuck:
        nodes = listed([escaped(node) for node in sorted({pod.node for pod in stuck})])
        yield failed(
            f"{counted(len(stuck), 'sealed Pod')} cannot start on {nodes}, whose kubelet does not read env files: "
            f"{workloads(stuck)}"
        )
    old = sorted(node for node, version in kubelets.items() if _is_old(version))
    if old:
        shown = listed([escaped(f"{node} ({kubelets[node]})") for node in old])
        yield warning(
            f"sealed Pods do not start on {counted(len(old), 'node')} older than Kubernetes {_OLDEST}: {shown}",
            "kubectl get nodes",
        )
    yield from _unreadable(kubelets)


def _is_old(version: str) -> bool:
    found = parse_version(version)
    return found is not None and found < OLDEST


def _unreadable(kubelets: Mapping[str, str]) -> Iterator[CheckProblem]:
    unreadable = sorted(node for node, version in kubelets.items() if parse_version(version) is None)
    if unreadable:
        yield unknown(f"the version of the kubelet is not known: {listed([escaped(node) for node in unreadable])}")


async def _kept(reader: ClusterReader) -> Outcome:
    sealed = await _sealed(reader)
    if not sealed:
        return _NOT_SEALED
    kubelets = await _kubelets(reader)
    running = sum(not pod.is_stuck and bool(pod.node) for pod in sealed)
    return Outcome(
        seen=f"{counted(running, 'sealed Pod')} on {counted(len({pod.node for pod in sealed if pod.node}), 'node')}; "
        "whether their feature gate EnvFiles is on is visible only if another sealed Pod starts there",
        problems=tuple(kept_problems(sealed, kubelets)),
    )


def kept_problems(sealed: Iterable[PodFacts], kubelets: Mapping[str, str]) -> Iterator[CheckProblem]:
    """Yield the nodes that run sealed Pods, and whose kubelet does not read env files any more."""
    running: dict[str, list[PodFacts]] = defaultdict(list)
    stuck: set[str] = set()
    for pod in sealed:
        if pod.is_stuck:
            stuck.add(pod.node)
        elif pod.node:
            running[pod.node].append(pod)
    for node in sorted(running):
        version = kubelets.get(node, "")
        if _is_old(version) or node in stuck:
            why = f"has version {version}" if _is_old(version) else "does not read env files"
            yield failed(
                f"the kubelet of node {escaped(node)} {escaped(why)}; a sidecar of "
                f"{counted(len(running[node]), 'sealed Pod')} that restarts in place there is open: "
                f"{workloads(running[node])}",
                f"kubectl drain {quote(escaped(node))} --ignore-daemonsets --delete-emptydir-data",
            )
    yield from _unreadable({node: kubelets.get(node, "") for node in running})


CHECKS: Final = (
    Check(
        id="DTC005",
        name="env-files",
        category=Category.CLUSTER,
        summary="The API server accepts variables from files, if Pods may be sealed.",
        why="Containers of a sealed Pod have `fileKeyRef` variables. An API server that is older than Kubernetes "
        f"{_OLDEST}, or whose feature gate `EnvFiles` is off, drops the field after the webhook has set it and rejects "
        "the Pod, also under `failurePolicy: Ignore`. A downgrade of the control plane stops every sealed workload.",
        how="Sends a Pod with such a variable and without a sidecar as a server-side dry run, to the namespace of "
        "`--canary-namespace`. It has failed if the API server rejects the Pod as invalid; that is a warning if the "
        "Policy only allows sealing and no Pod is sealed. Of several API servers it sees the one that answers. Skipped "
        "if no Pod is sealed and the webhook's Policy allows none or is not valid; unknown if you may not read it.",
        fix=f"Upgrade the control plane to Kubernetes {_OLDEST} or newer, with the feature gate on. Until then, do not "
        "seal Pods.",
        run=_accepted,
    ),
    Check(
        id="DTC006",
        name="env-file-nodes",
        category=Category.CLUSTER,
        summary="Sealed Pods can start on every node.",
        why=f"A kubelet that is older than Kubernetes {_OLDEST}, or whose feature gate `EnvFiles` is off, sets "
        "variables from files to empty values. The container `dapr-token-injector-seal-check` then keeps the Pod from "
        "starting, because its sidecar would be open. Kubelets may be three minor versions older than the API server.",
        how="Reads the version of the kubelet of every node, and looks for sealed Pods whose container "
        "`dapr-token-injector-seal-check` ended with exit code 1. An old node is a warning, because no sealed Pod may "
        "be scheduled to it; a Pod that cannot start fails the check. Feature gates of kubelets are not visible. "
        "Skipped if no Pod is sealed and the webhook's Policy allows none or is not valid; unknown if you may not "
        "read it.",
        fix=f"Upgrade all node pools to Kubernetes {_OLDEST} or newer, with the feature gate `EnvFiles` on, before "
        "Pods are sealed. Until then, do not seal them.",
        run=_nodes,
    ),
    Check(
        id="DTC007",
        name="sealed-pods-keep-tokens",
        category=Category.CLUSTER,
        summary="The kubelet of every running sealed Pod still reads env files.",
        why="If the feature is switched off on a kubelet under a running sealed Pod, or the kubelet is downgraded in "
        "place, a sidecar that restarts in place has an empty variable, and its API is open. The check container does "
        "not run again.",
        how="Compares the nodes of sealed Pods with the versions of their kubelets, and with sealed Pods that cannot "
        "start on the same node. The feature gate of a kubelet is not visible without permissions for its metrics, so "
        "a gate that was switched off is only seen once another sealed Pod starts there. A container that already "
        "restarted is not seen; `probe` shows whether it is open. Skipped if no Pod is sealed.",
        fix="Replace the sealed Pods of the node, or drain it before its kubelet is changed: `kubectl drain NODE "
        "--ignore-daemonsets --delete-emptydir-data`. Then prove that no sidecar is open: `dapr-token-injector probe "
        "-A`.",
        run=_kept,
    ),
)
