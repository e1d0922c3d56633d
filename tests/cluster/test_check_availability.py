"""The checks of availability and rights against a real API server and its controllers: each fails for its reason.

There is no node, so the tests write what a scheduler and a kubelet would: the status of Pods.
"""

from __future__ import annotations

import base64
import functools
import json
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.policies import rights
from tests.cluster.test_check import check
from tests.cluster.test_probe import limited
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import NAME, ServiceEndpoint, token_injector
from tests.unit.check.certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

Capture = pytest.CaptureFixture[str]
LABELS: Final = {"app.kubernetes.io/name": NAME}
DAY: Final = 24 * 3600
REJECTED: Final = "the API server rejects Pods that request a token (failurePolicy Fail)"


def service(**spec: Any) -> Json:  # noqa: ANN401 - a part of an object
    ports = [{"name": "https", "port": 443, "targetPort": "webhook"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": LABELS, "ports": ports, **spec},
    }


def deployment(*, node: str, image: str = "example.invalid/webhook:1", account: str = "default", **spec: Any) -> Json:  # noqa: ANN401
    """Return a Deployment on a node that exists, or its Pods would be no endpoints; they end without a kubelet."""
    container = {
        "name": "webhook",
        "image": image,
        "args": ["serve", "--tls-mode=self"],
        "ports": [{"name": "webhook", "containerPort": 10250}],
    }
    pod = {
        "serviceAccountName": account,
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


def node(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


class Installation:
    """A registration, a Service and a Deployment in the test's namespace."""

    def __init__(self, kubectl: Kubectl, capsys: Capture) -> None:
        self.kubectl = kubectl
        self._capsys = capsys

    def pods(self, number: int) -> list[str]:
        """Return the names of the Pods as soon as there are as many."""

        def found() -> list[str] | None:
            names = [pod["metadata"]["name"] for pod in self.kubectl.list("pods")]
            return sorted(names) if len(names) == number else None

        return wait_for(f"{number} Pods", found)

    def set_status(self, pod: str, **status: Any) -> None:  # noqa: ANN401 - a part of an object
        self.kubectl.run(
            "patch", "pod", pod, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"
        )

    def set_ready(self, *pods: str) -> None:
        for number, pod in enumerate(pods, 1):
            address = f"10.1.0.{number}"
            conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
            self.set_status(pod, phase="Running", podIP=address, podIPs=[{"ip": address}], conditions=conditions)

    def set_waiting(self, pod: str, reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        container = {"name": "webhook", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        self.set_status(pod, phase="Pending", containerStatuses=[container])

    def result(self, name: str, wanted: str) -> Json:
        """Return what a check reports as soon as it ends that way: controllers need a moment."""
        last: list[Json] = []

        def found() -> Json | None:
            _, reports = check(self._capsys, self.kubectl.kubeconfig, "--only", name)
            last[:] = [reports[name]]
            return reports[name] if reports[name]["result"] == wanted else None

        return wait_for(f"{name} {wanted}", found, describe=lambda: str(last))

    def problems(self, name: str, wanted: str) -> list[str]:
        return [one["message"] for one in self.result(name, wanted)["problems"]]


@pytest.fixture
def installation(kubectl: Kubectl, capsys: Capture, register: Callable[[Json], None]) -> Installation:
    register(token_injector(ServiceEndpoint(kubectl.namespace, NAME, None), namespace=kubectl.namespace))
    register(node(kubectl.namespace))
    kubectl.create(service())
    kubectl.create(deployment(node=kubectl.namespace))
    return Installation(kubectl, capsys)


def test_endpoints_gone(installation: Installation) -> None:
    where = f"Service {installation.kubectl.namespace}/{NAME}"
    pods = installation.pods(2)
    gone = f"the endpoints of {where} are gone, none is ready: {REJECTED}"

    assert installation.problems("endpoints", "failed") == [gone]
    installation.set_ready(*pods)
    assert installation.result("endpoints", "passed")["seen"] == f"2 of 2 endpoints of {where} ready"
    installation.set_status(pods[0], conditions=[{"type": "Ready", "status": "False"}])
    assert installation.problems("endpoints", "warning") == [
        f"only one endpoint of {where} is ready: while its Pod is replaced, {REJECTED}"
    ]
    installation.kubectl.run("scale", f"deployment/{NAME}", "--replicas=0")
    assert installation.problems("endpoints", "failed") == [gone]
    assert installation.problems("rolled-out", "failed") == [f"Deployment {NAME} is scaled to 0 replicas"]
    wait_for("no Pods", lambda: not installation.kubectl.list("pods"))
    assert "has no Pod with the labels" in installation.problems("pods-start", "failed")[0]


def test_endpoints_without_the_registered_port(installation: Installation) -> None:
    installation.set_ready(*installation.pods(2))
    installation.result("endpoints", "passed")

    ports = [{"name": "https", "port": 443, "targetPort": "renamed"}]
    installation.kubectl.run("patch", "service", NAME, f"--patch={json.dumps({'spec': {'ports': ports}})}")

    assert "are gone, none is ready" in installation.problems("endpoints", "failed")[0]


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CrashLoopBackOff"])
def test_pod_that_cannot_start(installation: Installation, reason: str) -> None:
    first, second = installation.pods(2)
    installation.set_ready(first)
    installation.set_waiting(second, reason, "the words of the kubelet")

    assert installation.problems("pods-start", "failed") == [
        f"Pod {second}: container webhook does not start: {reason}: the words of the kubelet"
    ]


def test_pod_that_cannot_be_scheduled(installation: Installation) -> None:
    first, second = installation.pods(2)
    installation.set_ready(first)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    installation.set_status(second, conditions=[condition])

    assert installation.problems("pods-start", "failed") == [
        f"Pod {second}: cannot be scheduled: Unschedulable: 0/1 nodes"
    ]


def test_previous_replica_set_is_stuck(installation: Installation) -> None:
    installation.set_ready(*installation.pods(2))
    installation.result("rolled-out", "passed")
    rolling = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}

    name = installation.kubectl.namespace
    changed = deployment(node=name, image="example.invalid/webhook:2", progressDeadlineSeconds=1, strategy=rolling)
    installation.kubectl.apply(changed)

    assert installation.problems("rolled-out", "failed") == [
        f"Deployment {NAME} is stuck: 1 of 2 Pods run its current template, and Pods of a previous one remain"
    ]


def test_deployment_that_cannot_create_pods(installation: Installation) -> None:
    installation.pods(2)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "2"}}}
    installation.kubectl.create(quota)
    wait_for("the quota in force", lambda: "hard" in (installation.kubectl.get("resourcequota", "none")["status"]))

    installation.kubectl.run("scale", f"deployment/{NAME}", "--replicas=3")

    assert "exceeded quota: none" in installation.problems("rolled-out", "failed")[0]


def test_disruption_budget_that_blocks_drains(installation: Installation) -> None:
    installation.set_ready(*installation.pods(2))
    assert "no PodDisruptionBudget selects the Pods" in installation.problems("disruption-budget", "warning")[0]

    create = ("create", "poddisruptionbudget")
    installation.kubectl.run(*create, "all", f"--selector=app.kubernetes.io/name={NAME}", "--min-available=2")
    assert installation.problems("disruption-budget", "failed") == [
        "PodDisruptionBudget all allows no eviction, with 2 Pods healthy: node drains do not end"
    ]
    installation.kubectl.run(*create, "one", f"--selector=app.kubernetes.io/name={NAME}", "--max-unavailable=1")
    assert "several PodDisruptionBudgets" in installation.problems("disruption-budget", "failed")[0]
    installation.kubectl.delete("poddisruptionbudget", "all")
    installation.result("disruption-budget", "passed")


def test_endpoints_on_one_node_and_in_one_zone(
    kubectl: Kubectl, capsys: Capture, register: Callable[[Json], None]
) -> None:
    endpoint = ServiceEndpoint(kubectl.namespace, "hook", None)  # of another name
    register(token_injector(endpoint, namespace=kubectl.namespace))
    kubectl.create(endpoint.service())
    kubectl.create(endpoint.slice_of("10.1.0.1", "10.1.0.2", port=10250))
    installation = Installation(kubectl, capsys)

    def place(*places: tuple[str, str]) -> None:
        changes = [
            {"op": "add", "path": f"/endpoints/{number}/{key}", "value": value}
            for number, (node, zone) in enumerate(places)
            for key, value in (("nodeName", node), ("zone", zone))
        ]
        kubectl.patch("endpointslice", "hook", changes)

    prefix = kubectl.namespace
    for zone in ("x", "y"):
        register(node(f"{prefix}-{zone}", **{"topology.kubernetes.io/zone": f"{prefix}-{zone}"}))

    place(("a", f"{prefix}-x"), ("a", f"{prefix}-x"))
    assert "are on node a: if it fails" in installation.problems("spread", "warning")[0]
    place(("a", f"{prefix}-x"), ("b", f"{prefix}-x"))
    assert f"are in zone {prefix}-x, and there are others ({prefix}-y)" in installation.problems("spread", "warning")[0]
    place(("a", f"{prefix}-x"), ("b", f"{prefix}-y"))
    installation.result("spread", "passed")


@pytest.mark.parametrize(("left", "result"), [(0.05, "failed"), (0.2, "warning"), (0.5, "passed")])
def test_ca_close_to_its_end(
    kubectl: Kubectl, capsys: Capture, register: Callable[[Json], None], left: float, result: str
) -> None:
    ends = int(time.time() + left * DAY)
    ca = self_signed(begins=ends - DAY, ends=ends).certificate
    configuration = token_injector(ServiceEndpoint(kubectl.namespace, NAME, ca), namespace=kubectl.namespace)
    assert {entry["clientConfig"]["caBundle"] for entry in configuration["webhooks"]} == {base64.b64encode(ca).decode()}
    register(configuration)

    Installation(kubectl, capsys).result("ca-certificate", result)


def test_serving_certificate_without_a_kubelet_is_unknown(installation: Installation) -> None:
    installation.set_ready(*installation.pods(2))

    (first, _) = installation.problems("serving-certificate", "unknown")
    assert first.startswith("cannot read the certificate that pods/")


# --- rights ---


def test_permission_that_the_webhook_lacks(kubectl: Kubectl, capsys: Capture, register: Callable[[Json], None]) -> None:
    register(token_injector(ServiceEndpoint(kubectl.namespace, NAME, None), namespace=kubectl.namespace))
    kubectl.run("create", "serviceaccount", NAME)
    for item in rights(namespace=kubectl.namespace, name=NAME):
        (kubectl.create if "namespace" in item["metadata"] else register)(item)
    kubectl.create(service())
    register(node(kubectl.namespace))
    kubectl.create(deployment(node=kubectl.namespace, account=NAME))
    installation = Installation(kubectl, capsys)
    installation.pods(2)
    installation.result("webhook-rights", "passed")

    kubectl.delete("rolebinding", NAME)

    who, what = f"ServiceAccount {kubectl.namespace}/{NAME}", f"get, watch, update secrets {NAME}-ca"
    assert installation.problems("webhook-rights", "failed") == [
        f"{who} may not {what}: it can neither read nor replace its CA"
    ]


COMMANDS: Final = ("status", "currency", "secret-list", "secret-create", "secret-rotate", "probe", "check")


def test_permissions_that_the_caller_lacks(kubectl: Kubectl, capsys: Capture, tmp_path: Path) -> None:
    names = [f"{command}-rights" for command in COMMANDS]
    only = [word for name in names for word in ("--only", name)]
    everything = functools.partial(check, capsys, kubectl.kubeconfig, *only)
    asker = limited(kubectl, tmp_path, {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})

    _, mine = everything()
    code, found = check(capsys, asker, *only, "--namespace", kubectl.namespace)

    assert {one["result"] for one in mine.values()} == {"passed"}
    assert (code, {one["result"] for one in found.values()}) == (0, {"warning"})
    (problem,) = found["currency-rights"]["problems"]
    assert problem["fix"] == 'request the rule {apiGroups: [""], resources: [secrets], verbs: [list]}'
    in_namespace = [one["message"] for one in found["check-rights"]["problems"]]
    assert any(f"list deployments in namespace {kubectl.namespace}" in message for message in in_namespace)
    assert not any(f"list pods in namespace {kubectl.namespace}" in message for message in in_namespace)


def test_permissions_that_an_installer_lacks(
    kubectl: Kubectl, capsys: Capture, tmp_path: Path, register: Callable[[Json], None]
) -> None:
    asker = limited(kubectl, tmp_path, {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["*"]})
    group, kind = "rbac.authorization.k8s.io", "mutatingwebhookconfigurations"
    rule = {"apiGroups": ["admissionregistration.k8s.io"], "resources": [kind], "verbs": ["get"]}
    role = {"apiVersion": f"{group}/v1", "metadata": {"name": kubectl.namespace}}
    subject = {"kind": "ServiceAccount", "name": "asker", "namespace": kubectl.namespace}
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": kubectl.namespace}
    register({**role, "kind": "ClusterRole", "rules": [rule]})
    register({**role, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]})
    only = ("--pre", "--only", "install-rights", "--namespace", kubectl.namespace)

    _, mine = check(capsys, kubectl.kubeconfig, *only)
    code, found = check(capsys, asker, *only)

    assert mine["install-rights"]["result"] == "passed"
    assert (code, found["install-rights"]["result"]) == (1, "failed")
    messages = [one["message"] for one in found["install-rights"]["problems"]]
    assert f"you may not create {kind}: the installation fails half-way" in messages
    assert not any("secrets" in message or "deployments" in message for message in messages)
    assert any("RBAC rejects the Role of the webhook" in message for message in messages)
