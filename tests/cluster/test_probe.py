"""`probe` against a real API server without a node: the Pods that it selects, and its errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, deployment, pod, token_variable
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import free_port
from tests.selfhosted.running import probed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

RUNNING = {"phase": "Running", "containerStatuses": [{"name": "daprd", "state": {"running": {}}, "ready": True}]}
READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


def ask(kubectl: Kubectl, *arguments: str, kubeconfig: Path | None = None) -> tuple[int, Any, str]:
    return probed(*arguments, "-n", kubectl.namespace, "--kubeconfig", kubeconfig or kubectl.kubeconfig)


def failure(kubectl: Kubectl, target: str, kubeconfig: Path | None = None) -> str:
    """Why a target could not be asked."""
    code, reports, error = ask(kubectl, target, kubeconfig=kubeconfig)
    assert (code, error) == (2, "")
    (report,) = reports
    assert report["verdict"] == "unknown"
    return str(report["failure"])


def run_in_name(kubectl: Kubectl, name: str, status: Json | None = None) -> None:
    """Say of a Pod that it runs, as a kubelet would."""
    patch = json.dumps({"status": status or RUNNING})
    kubectl.run("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)


def on_node(item: Json, name: str) -> Json:
    """The Pod, bound to a node."""
    return {**item, "spec": {**item["spec"], "nodeName": name}}


def test_missing_pod_is_reported(kubectl: Kubectl) -> None:
    message = failure(kubectl, "pod/shop")

    assert message.startswith(f"cannot get pods/shop in namespace {kubectl.namespace}: not found")


def test_pending_pod_is_reported(kubectl: Kubectl) -> None:
    kubectl.create(pod(ASKING))

    assert failure(kubectl, "pod/shop").startswith("the Pod is not scheduled yet")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"waiting": {"reason": "CreateContainerConfigError"}},
            "daprd cannot start: a Secret, ConfigMap or key that it references does not exist",
        ),
        ({"terminated": {"exitCode": 1, "reason": "Error"}}, "daprd has ended with exit code 1: Error"),
    ],
)
def test_sidecar_that_is_not_running_is_reported(kubectl: Kubectl, state: Json, message: str) -> None:
    kubectl.create(on_node(pod(ASKING), "far"))
    run_in_name(kubectl, "shop", {"phase": "Pending", "containerStatuses": [{"name": "daprd", "state": state}]})

    assert failure(kubectl, "pod/shop") == message


def test_pod_without_sidecar_is_reported(kubectl: Kubectl) -> None:
    kubectl.create(pod({}, APP))

    assert failure(kubectl, "pod/shop") == "no container daprd"


def test_pod_missed_by_the_dapr_injector_is_reported(kubectl: Kubectl) -> None:
    kubectl.create(pod(ASKING, APP))

    assert failure(kubectl, "pod/shop").endswith("requests one: Dapr's injector did not process this Pod")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dapr-http-port", "$(PORT)"], "cannot probe daprd: its --dapr-http-port is not a port number"),
        (
            ["--unix-domain-socket", "/var/run"],
            "daprd listens on Unix sockets (--unix-domain-socket); there is no port to probe",
        ),
    ],
)
def test_unknown_ports_are_reported(kubectl: Kubectl, args: list[str], message: str) -> None:
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "args": args}))
    run_in_name(kubectl, "shop")

    assert failure(kubectl, "pod/shop") == message


def test_rejected_port_forward_is_reported(kubectl: Kubectl) -> None:
    kubectl.create(pod(ASKING))
    run_in_name(kubectl, "shop")

    assert failure(kubectl, "pod/shop") == "the Pod is not scheduled yet"


def test_unreachable_node_is_reported(kubectl: Kubectl) -> None:
    name = f"far-{kubectl.namespace}"
    kubectl.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": free_port()}},
    }
    kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    try:
        kubectl.create(on_node(pod(ASKING), name))
        run_in_name(kubectl, "shop")

        message = failure(kubectl, "pod/shop")
    finally:
        kubectl.run("delete", "node", name)

    assert message.startswith(f"the kubelet of node {name} does not forward the port (status 50")


def test_workload_without_pods_is_reported(kubectl: Kubectl) -> None:
    wanted = deployment(ASKING)
    wanted["spec"]["replicas"] = 0
    kubectl.apply(wanted)

    assert failure(kubectl, "deployment/shop") == "no running Pods"


def test_pods_are_those_controlled_by_the_workload(kubectl: Kubectl) -> None:
    """Pods with the same labels, ended Pods and Pods of other workloads are not selected."""
    kubectl.apply(deployment(ASKING))
    kubectl.apply(deployment(ASKING, name="other"))
    names = wait_for("four Pods", lambda: _pods_of(kubectl, 4))
    stray = pod(ASKING)
    stray["metadata"]["labels"] = {"app": "shop"}
    kubectl.create(stray)

    code, reports, _ = ask(kubectl, "deployment/shop", "deploy/shop")
    assert code == 2
    assert sorted(target["target"] for target in reports) == sorted(
        f"pod/{name}" for name in names if name[:5] == "shop-"
    )

    over = next(name for name in names if name.startswith("shop-"))
    run_in_name(kubectl, over, {"phase": "Failed"})
    _, reports, _ = ask(kubectl, "deployments/shop")
    assert f"pod/{over}" not in [target["target"] for target in reports]


def _pods_of(kubectl: Kubectl, count: int) -> list[str]:
    found = [item["metadata"]["name"] for item in kubectl.list("pods")]
    return found if len(found) == count else []


def test_pods_of_a_cronjob_are_found_through_its_jobs(kubectl: Kubectl) -> None:
    template = {"spec": {**pod({}, APP)["spec"], "restartPolicy": "Never"}, "metadata": {"annotations": ASKING}}
    kubectl.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "shop"},
            "spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": template}}},
        }
    )
    kubectl.run("create", "job", "--from=cronjob/shop", "now")
    (name,) = wait_for("a Pod", lambda: _pods_of(kubectl, 1))

    for target in ("cronjob/shop", "job/now"):
        _, reports, _ = ask(kubectl, target)
        assert [report["target"] for report in reports] == [f"pod/{name}"]


def test_selected_pods_are_those_with_sidecar_and_labels(kubectl: Kubectl) -> None:
    for name, containers in (("shop-b", ()), ("shop-a", ()), ("plain", (APP,))):
        made = pod(ASKING if not containers else {}, *containers)
        made["metadata"] |= {"name": name, "labels": {"team": kubectl.namespace}}
        kubectl.create(made)
    kubectl.create(pod(ASKING))

    for scope in (["-n", kubectl.namespace], ["-A"]):
        code, reports, error = probed(*scope, "-l", f"team={kubectl.namespace}", "--kubeconfig", kubectl.kubeconfig)
        assert code == 2
        assert [(one["namespace"], one["target"]) for one in reports] == [
            (kubectl.namespace, "pod/shop-a"),
            (kubectl.namespace, "pod/shop-b"),
        ]
        assert error == "note: 1 Pod without a sidecar not probed\n"


def test_invalid_selector_is_rejected_in_one_line(kubectl: Kubectl) -> None:
    code, reports, error = probed("-A", "-l", "a in (", "--kubeconfig", kubectl.kubeconfig)

    assert (code, reports) == (2, None)
    assert error.startswith("Error: cannot list pods in all namespaces: the API server rejects the object")
    assert error.count("\n") == 1


# --- rights ---


def limited(kubectl: Kubectl, folder: Path, *rules: Json) -> Path:
    """A kubeconfig of a ServiceAccount with only these permissions."""
    kubectl.run("create", "serviceaccount", "asker")
    kubectl.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "asker"},
            "rules": list(rules),
        }
    )
    account = f"--serviceaccount={kubectl.namespace}:asker"
    kubectl.run("create", "rolebinding", "asker", "--role=asker", account)
    token = kubectl.token("asker")
    path = folder / "kubeconfig"
    path.write_bytes(kubectl.kubeconfig.read_bytes())
    path.chmod(0o600)
    other = ("--kubeconfig", str(path))
    kubectl.run("config", *other, "set-credentials", "asker", f"--token={token}")
    kubectl.run("config", *other, "set-context", "--current", "--user=asker", f"--namespace={kubectl.namespace}")
    return path


def test_missing_permission_to_get_pods_is_reported(kubectl: Kubectl, tmp_path: Path) -> None:
    message = failure(kubectl, "pod/shop", limited(kubectl, tmp_path))

    assert message.startswith(f"cannot get pods/shop in namespace {kubectl.namespace}: not allowed: ")
    assert 'cannot get resource "pods"' in message


def test_missing_permission_to_forward_ports_is_reported(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.create(pod(ASKING))
    run_in_name(kubectl, "shop")

    message = failure(kubectl, "pod/shop", limited(kubectl, tmp_path, READ_PODS))

    assert "not allowed: " in message
    assert 'resource "pods/portforward"' in message


def test_namespace_defaults_to_the_context(kubectl: Kubectl, tmp_path: Path) -> None:
    code, reports, _ = probed("pod/shop", "--kubeconfig", limited(kubectl, tmp_path, READ_PODS))

    assert code == 2
    assert f"in namespace {kubectl.namespace}: not found" in reports[0]["failure"]


def test_missing_context_is_reported(kubectl: Kubectl) -> None:
    code, reports, error = probed("pod/shop", "--kubeconfig", kubectl.kubeconfig, "--context", "no-such")

    assert (code, reports) == (2, None)
    assert error.startswith("Error: cannot read the namespace of the kubeconfig")
    assert error.count("\n") == 1


@pytest.mark.parametrize("variable", [token_variable(), {"name": "DAPR_API_TOKEN", "value": "marker-0123456789abcdef"}])
def test_failed_probe_shows_no_token(kubectl: Kubectl, variable: Json) -> None:
    """`probed` searches all output for the token."""
    kubectl.run("create", "secret", "generic", "dapr-api-token", "--from-literal=token=marker-0123456789abcdef")
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [variable]}))
    run_in_name(kubectl, "shop")

    assert ask(kubectl, "pod/shop")[0] == 2
