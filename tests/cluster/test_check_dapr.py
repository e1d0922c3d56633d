"""`check` of Dapr, tokens and neighbours against a real API server: each fails for the reason that it exists."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from injector.check.dapr import COMPONENTS, INJECTOR, image_problems
from injector.check.model import Result
from injector.check.pods import pod_facts
from tests.cluster.kubelet import Kubelet
from tests.cluster.objects import APP, ASKING, SIDECAR, deployment, pod, pods_of, token_variable, tokens
from tests.cluster.policies import refusal
from tests.cluster.test_check import check
from tests.cluster.test_probe import READ_PODS, limited
from tests.cluster.tokencommands import Commands
from tests.controlplane.cluster import own_namespace
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import dapr_sidecar_injector
from tests.controlplane.webhook import SIDECAR_IMAGE, DaprInjector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.target import Cluster

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def found(kubectl: Kubectl, capsys: Capture) -> Callable[..., tuple[str, list[Json]]]:
    """Run one check; return its result and those of its problems that name the test's namespace."""

    def run(name: str, kubeconfig: Path | None = None) -> tuple[str, list[Json]]:
        _, report = check(capsys, kubeconfig or kubectl.kubeconfig, "--only", name)
        one = report[name]
        return one["result"], [problem for problem in one["problems"] if kubectl.namespace in str(problem)]

    return run


Found = Any


def registration(kubectl: Kubectl, policy: str, **fields: object) -> Json:
    """Return the registration of Dapr's injector by a Service of the test's namespace, and for that alone."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    entry = {
        "name": "sidecar-injector.dapr.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": kubectl.namespace, "name": INJECTOR, "path": "/mutate"}},
        "failurePolicy": policy,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}},
        "sideEffects": "None",
        "rules": [rule],
        **fields,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": INJECTOR},
        "webhooks": [entry],
    }


def component(name: str) -> Json:
    """Return a component of Dapr's control plane with one replica, which needs a kubelet to become ready."""
    resource, _ = COMPONENTS[name]
    made = deployment({}, {"name": name, "image": "example.invalid/x:1.18.3"}, name=name)
    made["kind"] = resource.kind
    made["spec"]["replicas"] = 1
    return made


# --- Dapr ---


def test_control_plane_that_is_not_there_or_not_ready(
    kubectl: Kubectl, found: Found, register: Callable[[Json], None]
) -> None:
    register(registration(kubectl, "Ignore"))
    result, (problem,) = found("dapr-control-plane")
    assert (result, problem["message"]) == (
        "failed",
        f"Dapr is not installed in namespace {kubectl.namespace}: no Pod gets a sidecar",
    )

    for name in COMPONENTS:
        kubectl.create(component(name))
    _, problems = found("dapr-control-plane")
    assert [problem["message"].split()[1] for problem in problems] == list(COMPONENTS)
    assert all(problem["message"].endswith(" has no ready replica") for problem in problems)

    with Kubelet(kubectl):
        wait_for("a sound control plane", lambda: found("dapr-control-plane") == ("passed", []))


def test_injector_that_is_not_registered(found: Found, capsys: Capture, kubectl: Kubectl) -> None:
    code, report = check(capsys, kubectl.kubeconfig, "--only", "dapr-injector-registered", "--pre")

    assert (code, report["dapr-injector-registered"]["result"]) == (1, "failed")
    assert found("dapr-injector-available")[0] == "skipped"


def test_injector_with_ignore_and_absent(kubectl: Kubectl, found: Found, register: Callable[[Json], None]) -> None:
    register(registration(kubectl, "Ignore"))
    created = kubectl.create(pod({**ASKING, "dapr.io/app-id": "x"}, APP))

    assert [one["name"] for one in created["spec"]["containers"]] == ["web"]
    assert found("dapr-injector-failure-policy")[0] == "warning"
    result, (problem,) = found("dapr-injector-available")
    assert result == "failed"
    assert problem["message"].endswith("Pods with dapr.io/enabled are created without a sidecar")


def test_injector_with_fail_and_absent(kubectl: Kubectl, found: Found, register: Callable[[Json], None]) -> None:
    register(registration(kubectl, "Fail"))

    assert "failed calling webhook" in wait_for("the webhook is called", lambda: refusal(kubectl, pod({}, APP)))
    assert found("dapr-injector-failure-policy") == ("passed", [])
    result, (problem,) = found("dapr-injector-available")
    assert result == "failed"
    assert problem["message"].endswith("Pods in the namespaces that it selects cannot be created")


def test_injector_with_fail_for_all_namespaces(
    kubectl: Kubectl, found: Found, register: Callable[[Json], None]
) -> None:
    rule = {"apiGroups": ["example.invalid"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}
    register(registration(kubectl, "Fail", rules=[rule], namespaceSelector=None))

    result, (problem,) = found("dapr-injector-failure-policy")

    assert result == "warning"
    assert "not even theirs" in problem["message"]


def test_injector_with_ready_endpoint(kubectl: Kubectl, found: Found, register: Callable[[Json], None]) -> None:
    register(registration(kubectl, "Fail"))
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": INJECTOR}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "https", "port": 4000}],
    }
    kubectl.create(endpoints)

    assert found("dapr-injector-available") == ("passed", [])


def test_daprd_with_an_advisory(kubectl: Kubectl, found: Found) -> None:
    kubectl.create(pod({}, {"name": "daprd", "image": "example.invalid:5000/x/daprd:1.13.0-linux-amd64"}))

    result, (problem,) = found("daprd-advisories")

    assert result == "failed"
    assert "daprd 1.13.0, which has GO-2024-2879, GO-2026-5242" in problem["message"]
    assert "--version 1.15.14" in problem["fix"]


def test_sidecar_of_daprs_own_injector_without_a_version(
    kubectl: Kubectl, found: Found, cluster: Cluster, report: binaries.Report, register: Callable[[Json], None]
) -> None:
    started = DaprInjector.start(cluster.folder / "checked-injector", host=cluster.webhook_host, report=report)
    with started.process:
        register(dapr_sidecar_injector(started.endpoint, namespace=kubectl.namespace, name=INJECTOR))
        wanted = pod({**ASKING, "dapr.io/app-id": "shop"}, APP)
        wait_for("the sidecar", lambda: len(kubectl.dry_run(wanted)["spec"]["containers"]) == 2)
        kubectl.create(wanted)

        result, _ = found("daprd-advisories")
        assert (found("dapr-injector-registered")[0], found("dapr-injector-available")[0]) == ("passed", "unknown")

    assert result in {"unknown", "failed"}  # other Pods of the cluster count, too
    facts = pod_facts(kubectl.get("pod", "shop"))
    assert facts is not None
    # The report names the first of these images in the whole cluster, and the first of their workloads.
    (problem,) = image_problems({image: [facts] for image in facts.images}, "dapr-system")
    assert problem.result is Result.UNKNOWN
    assert SIDECAR_IMAGE in problem.message


# --- tokens ---


def test_token_that_expires(kubectl: Kubectl, found: Found) -> None:
    assert Commands(kubectl, kubectl.kubeconfig).run("secret", "create", f"{kubectl.namespace}/old").code == 0
    assert found("token-expiry")[1] == []
    kubectl.run("annotate", "--overwrite", "secret", "old", "dapr-token-injector/token-expires=2020-01-01T00:00:00Z")

    result, (problem,) = found("token-expiry")
    assert (result, problem["fix"]) == (
        "failed",
        f"dapr-token-injector secret rotate {kubectl.namespace}/old --restart",
    )

    kubectl.run("annotate", "--overwrite", "secret", "old", "dapr-token-injector/token-expires=garbage")
    assert [one["result"] for one in found("token-expiry")[1]] == ["unknown"]


OURS = {"dapr-token-injector/token": "api", "app.kubernetes.io/managed-by": "dapr-token-injector"}
MARKER = {"token": "marker-0123456789abcdef"}


def test_secret_or_key_that_does_not_exist(kubectl: Kubectl, found: Found) -> None:
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [token_variable("gone")]}))
    result, (problem,) = found("token-secret-exists")
    assert (result, problem["fix"]) == ("failed", f"dapr-token-injector secret create {kubectl.namespace}/gone")

    kubectl.run("create", "secret", "generic", "gone", "--from-literal=other=x")
    assert [one["message"].partition(";")[0] for one in found("token-secret-exists")[1]] == [
        f"Secret {kubectl.namespace}/gone has no key token"
    ]

    kubectl.run("delete", "secret", "gone")
    applied = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gone"}, "stringData": MARKER}
    kubectl.apply(applied, "--server-side")
    assert found("token-secret-exists")[1] == []
    kubectl.apply({**applied, "stringData": {}, "data": {"other": ""}}, "--server-side", "--field-manager=another")
    assert found("token-secret-exists")[1] == []


def test_secret_that_no_pod_uses(kubectl: Kubectl, capsys: Capture) -> None:
    with own_namespace(kubectl, prefix="a") as first:  # of all namespaces: the report names the first Secrets only
        first.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "left", "labels": OURS}})
        _, report = check(capsys, kubectl.kubeconfig, "--only", "token-secret-used")

    assert report["token-secret-used"]["result"] == "warning"
    assert f"{first.namespace}/left" in report["token-secret-used"]["problems"][0]["message"]


def test_role_view_cannot_list_secrets(kubectl: Kubectl, found: Found, capsys: Capture, tmp_path: Path) -> None:
    kubeconfig = limited(kubectl, tmp_path, READ_PODS)
    binding = f"check-{kubectl.namespace}"
    account = f"--serviceaccount={kubectl.namespace}:asker"
    kubectl.run("create", "clusterrolebinding", binding, "--clusterrole=view", account)
    try:
        wait_for("the binding", lambda: found("dapr-shared-token", kubeconfig)[0] != "unknown")
        _, report = check(capsys, kubeconfig, "--only", "token-expiry", "--only", "token-secret-exists")
    finally:
        kubectl.run("delete", "clusterrolebinding", binding)

    for one in report.values():
        assert one["result"] == "unknown"
        assert one["problems"][0]["message"].startswith("cannot list secrets in all namespaces: not allowed")


# --- neighbours ---


@pytest.mark.usefixtures("injecting")
def test_reloader_does_not_see_an_injected_reference_until_the_fix(kubectl: Kubectl, found: Found) -> None:
    watching = deployment({}, {"name": "reloader", "image": "ghcr.io/stakater/reloader:v1.4.21"}, name="reloader")
    kubectl.create(watching)
    watched = deployment(ASKING, APP, SIDECAR)
    watched["metadata"]["annotations"] = {"reloader.stakater.com/auto": "true"}
    kubectl.create(watched)
    wait_for("injected Pods", lambda: (pods := pods_of(kubectl, "shop")) and all(map(tokens, pods)))

    result, (problem,) = found("reloader-sees-tokens")
    assert result == "warning"
    assert problem["message"].startswith(f"Reloader does not restart Deployment {kubectl.namespace}/shop when")

    words = shlex.split(problem["fix"])
    assert words[0] == "kubectl"
    kubectl.run(*words[1:])
    assert found("reloader-sees-tokens") == ("passed", [])


def test_dapr_shared_is_unknown(kubectl: Kubectl, found: Found) -> None:
    kubectl.create(pod({}, {**SIDECAR, "env": [token_variable("shared", "dapr-api-token")]}))

    result, (problem,) = found("dapr-shared-token")

    assert result == "unknown"
    assert problem["fix"] == f"dapr-token-injector probe --namespace {kubectl.namespace} pod/shop"
