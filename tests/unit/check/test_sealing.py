"""The checks of what sealed Pods need, against the store of the fake API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.check.model import Result
from injector.check.sealing import pod_with_file
from injector.core.names import MAX_LISTED
from injector.kube.errors import DeniedError, ForbiddenError, InvalidError, Refusal
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.sealing import CHECK, file_env, sealed_spec
from tests.unit.check.checking import outcome
from tests.unit.check.objects import pod
from tests.unit.check.sound_webhook import forbidding

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Json = dict[str, Any]
NAMES: Final = ("env-files", "env-file-nodes", "sealed-pods-keep-tokens")
REFUSED: Final = Refusal(422, message='spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: x')


def sealed(name: str = "web", node: str = "a", *, is_stuck: bool = False) -> Json:
    found = pod(deployment=name)
    found["spec"] = {**sealed_spec("token", {"name": "daprd", "env": [file_env()]}), "nodeName": node}
    if is_stuck:
        waits = {"waiting": {"reason": "CrashLoopBackOff"}}
        ended = {"terminated": {"exitCode": 1}}
        status = {"name": CHECK, "state": waits, "lastState": ended}
        found["status"] = {"phase": "Pending", "initContainerStatuses": [status]}
    return found


def cluster(*pods: Json, admitted: Callable[[Json], Json] = lambda pod: pod, **nodes: str | None) -> Store:
    store = Store(admitted=admitted)
    store.put("namespaces", {"metadata": {"name": "default"}})
    for number, one in enumerate(pods):
        one["metadata"]["name"] += f"-{number}"
        store.put("pods", one)
    for name, version in nodes.items():
        add_node(store, name, version)
    return store


def add_node(store: Store, name: str, version: str | None) -> None:
    store.put("nodes", {"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}})


def found(name: str, store: Store) -> tuple[Result, list[str]]:
    result = outcome(name, StoreApi(store), namespace="d")
    return result.result, [one.message for one in result.problems]


@pytest.mark.parametrize("name", NAMES)
def test_cluster_that_seals_pods_passes(name: str) -> None:
    assert found(name, cluster(sealed(), sealed("new", ""), a="v1.35.0", b="v1.37.2+k3s1")) == (Result.PASSED, [])


@pytest.mark.parametrize("name", NAMES)
def test_cluster_without_sealed_pods_is_not_checked(name: str) -> None:
    broken = sealed()
    broken["spec"]["volumes"] = []
    assert found(name, cluster(pod(), broken, a="v1.30.0")) == (Result.SKIPPED, [])


def with_policy(store: Store, text: str) -> Store:
    """The cluster with a webhook that has this Policy."""
    labels = {"app.kubernetes.io/name": "dapr-token-injector"}
    meta = {"name": "webhook", "namespace": "d", "labels": labels}
    volume = {"name": "policy", "configMap": {"name": "policy"}}
    store.put("deployments", {"metadata": meta, "spec": {"template": {"spec": {"volumes": [volume]}}}})
    store.put("configmaps", {"metadata": {"name": "policy", "namespace": "d"}, "data": {"policy.yaml": text}})
    return store


OLD: Final = "sealed Pods do not start on 1 node older than Kubernetes 1.35: a (v1.34.9)"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("seal: always\nsealImage: x\n", (Result.WARNING, [OLD])),
        ("sealImage: x\n", (Result.WARNING, [OLD])),
        ("seal: always\n", (Result.SKIPPED, [])),
        ("seal: 'off'\nsealImage: x\n", (Result.SKIPPED, [])),
        ("seal: nonsense\n", (Result.SKIPPED, [])),
    ],
)
def test_nodes_are_checked_before_the_first_pod_is_sealed(policy: str, expected: tuple[Result, list[str]]) -> None:
    assert found("env-file-nodes", with_policy(cluster(a="v1.34.9"), policy)) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("seal: always\nsealImage: x\n", Result.FAILED), ("sealImage: x\n", Result.WARNING), ("{}", Result.SKIPPED)],
)
def test_api_server_is_asked_before_the_first_pod_is_sealed(policy: str, expected: Result) -> None:
    def fault(verb: str, resource: Resource) -> KubeError | None:
        return InvalidError("create", REFUSED) if (verb, resource.plural) == ("create", "pods") else None

    api = StoreApi(with_policy(cluster(), policy), fault)
    assert outcome("env-files", api, namespace="d").result is expected


@pytest.mark.parametrize(
    ("name", "plural"), [*((name, "pods") for name in NAMES), *((name, "nodes") for name in NAMES[1:])]
)
def test_missing_permission_is_unknown(name: str, plural: str) -> None:
    def fault(verb: str, resource: Resource) -> KubeError | None:
        return ForbiddenError(f"{verb} {plural}", Refusal(403)) if resource.plural == plural else None

    result = outcome(name, StoreApi(cluster(sealed(), a="v1.35.0"), fault), namespace="d")
    assert result.result is Result.UNKNOWN
    assert plural in result.problems[0].message


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("plural", ["deployments", "configmaps"])
def test_policy_that_may_not_be_read_is_unknown(name: str, plural: str) -> None:
    store = with_policy(cluster(pod(), a="v1.34.9"), "seal: always\nsealImage: x\n")

    (problem,) = outcome(name, StoreApi(store, forbidding(plural)), namespace="d").problems

    assert (problem.result, plural in problem.message) == (Result.UNKNOWN, True)


# --- the API server ---


@pytest.mark.parametrize(
    ("error", "result", "words"),
    [
        (InvalidError("create", REFUSED), Result.FAILED, "does not accept variables from files"),
        (DeniedError("create", Refusal(403, message="exceeded quota: q")), Result.UNKNOWN, "exceeded quota"),
    ],
)
def test_refused_pod_is_reported_with_its_cause(error: KubeError, result: Result, words: str) -> None:
    def fault(verb: str, resource: Resource) -> KubeError | None:
        return error if (verb, resource.plural) == ("create", "pods") else None

    (problem,) = outcome("env-files", StoreApi(cluster(sealed()), fault), namespace="d").problems
    assert problem.result is result
    assert words in problem.message


def test_variable_that_another_webhook_changed_shows_nothing() -> None:
    def admitted(pod: Json) -> Json:
        pod["spec"]["containers"][0]["env"][0] = {"name": "DAPR_API_TOKEN"}
        return pod

    assert found("env-files", cluster(sealed(), admitted=admitted))[0] is Result.UNKNOWN


def test_pod_that_is_sent_has_no_sidecar() -> None:
    (container,) = pod_with_file("default")["spec"]["containers"]
    assert container["name"] == "env-files"
    assert container["env"] == [file_env()]


# --- the kubelets ---


def test_old_nodes_are_named_with_their_versions() -> None:
    store = cluster(sealed(), a="v1.35.0", b="v1.34.9", c="v1.9.0")
    assert found("env-file-nodes", store) == (
        Result.WARNING,
        ["sealed Pods do not start on 2 nodes older than Kubernetes 1.35: b (v1.34.9), c (v1.9.0)"],
    )
    assert found("sealed-pods-keep-tokens", store) == (Result.PASSED, [])


def test_many_old_nodes_are_counted() -> None:
    store = cluster(sealed())
    for number in range(MAX_LISTED + 5):
        add_node(store, f"n{number}", "v1.30.0")
    (message,) = found("env-file-nodes", store)[1]
    assert "25 nodes" in message
    assert "5 more" in message


@pytest.mark.parametrize("version", [None, "", "dev", "v1", "\x1b[2Jv"])
def test_version_that_cannot_be_read_is_unknown(version: str | None) -> None:
    for name in NAMES[1:]:
        result, (message,) = found(name, cluster(sealed(), a=version))
        assert (result, message) == (Result.UNKNOWN, "the version of the kubelet is not known: a")


def test_node_that_is_gone_is_unknown() -> None:
    assert found("sealed-pods-keep-tokens", cluster(sealed(), b="v1.35.0"))[0] is Result.UNKNOWN
    assert found("env-file-nodes", cluster(sealed(), b="v1.35.0"))[0] is Result.PASSED


def test_pod_that_its_check_container_stops_fails_the_check() -> None:
    assert found("env-file-nodes", cluster(sealed(is_stuck=True), a="v1.37.2")) == (
        Result.FAILED,
        ["1 sealed Pod cannot start on a, whose kubelet does not read env files: Deployment shop/web"],
    )


@pytest.mark.parametrize(
    ("pods", "version", "why"),
    [
        ((sealed(),), "v1.34.0", "has version v1.34.0"),
        ((sealed(), sealed("new", is_stuck=True)), "v1.37.2", "does not read env files"),
    ],
)
def test_kubelet_that_lost_the_feature_fails_the_check(pods: tuple[Json, ...], version: str, why: str) -> None:
    result = outcome("sealed-pods-keep-tokens", StoreApi(cluster(*pods, a=version)), namespace="d")
    (problem,) = result.problems
    assert (problem.result, problem.fix.split()[:3]) == (Result.FAILED, ["kubectl", "drain", "a"])
    assert problem.message == (
        f"the kubelet of node a {why}; a sidecar of 1 sealed Pod that restarts in place there is open: "
        "Deployment shop/web"
    )


def test_stuck_pods_alone_run_nothing_that_could_open() -> None:
    assert found("sealed-pods-keep-tokens", cluster(sealed(is_stuck=True), a="v1.37.2")) == (Result.PASSED, [])
    assert (
        found("sealed-pods-keep-tokens", cluster(sealed("x", "b"), sealed(is_stuck=True), a="v1.37.2", b="v1.37.2"))[0]
        is Result.PASSED
    )
