"""The checks of cluster, registration and versions fail on a real API server for the reason that each exists.

Helm installs the chart once. There is no node: the API server calls a webhook process by its URL.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.kubelet_ports import forwarding_node
from tests.cluster.objects import APP, ASKING, pod
from tests.cluster.test_check import check
from tests.cluster.test_probe import limited
from tests.controlplane.cluster import own_namespace
from tests.controlplane.errors import KubectlError
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for
from tests.unit.check.installed import replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

Capture = pytest.CaptureFixture[str]
NAME: Final = "dapr-token-injector"
GUARD: Final = f"{NAME}-guard"
MUTATING: Final = "mutatingwebhookconfiguration"
VALIDATING: Final = "validatingwebhookconfiguration"
BINDING: Final = "validatingadmissionpolicybinding"
CHECKS: Final = {
    "kubernetes-version": "passed",
    "admission-apis": "passed",
    "clock-skew": "passed",
    "one-installation": "passed",
    "registered": "passed",
    "entries-as-installed": "passed",
    "failure-policy": "passed",
    "namespaces-covered": "passed",
    "ca-bundle": "passed",
    "served-certificate": "passed",
    "registered-service": "skipped",  # the entries have a URL
    "called-after-dapr": "skipped",  # Dapr is not installed
    "guard-bound": "passed",
    "warnings-registered": "passed",
    "same-version": "passed",
    "objects-of-one-version": "passed",
}


def by_url(configuration: Json, webhook: Webhook) -> None:
    for entry in configuration["webhooks"]:
        entry["clientConfig"] = webhook.endpoint.client_config(entry["clientConfig"]["service"]["path"])


def replace(kubectl: Kubectl, item: Json) -> None:
    """Put an object in place of what is stored, or create it again."""
    for key in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
        item["metadata"].pop(key, None)
    item.pop("status", None)
    if kubectl.find(item["kind"].lower(), item["metadata"]["name"]) is None:
        kubectl.create(item)
    else:
        kubectl.run("replace", "-f", "-", stdin=item)


@pytest.fixture(scope="module")
def installed(own_control_plane: ControlPlane, webhook: Webhook, report: binaries.Report) -> Iterator[Kubectl]:
    """The chart, with a webhook that answers, and a namespace with a Pod that requests a token."""
    kubectl = own_control_plane.kubectl.within(NAME)
    helm = Helm.find(own_control_plane.folder, own_control_plane.kubeconfig, report=report)
    helm.run("install", NAME, str(CHART), "--namespace", NAME, "--create-namespace", "--set", "guard.action=Audit")
    try:
        for kind in (MUTATING, VALIDATING):
            found = kubectl.get(kind, NAME)
            by_url(found, webhook)
            replace(kubectl, found)
        with own_namespace(own_control_plane.kubectl) as shop:
            wait_for("the webhook called", lambda: created(shop))
            yield kubectl
    finally:
        helm.run("uninstall", NAME, "--namespace", NAME)
        kubectl.delete("namespace", NAME)
        wait_for("the namespace gone", lambda: kubectl.find("namespace", NAME) is None)


def created(shop: Kubectl) -> bool:
    try:
        shop.create(pod(ASKING))
    except KubectlError:
        return False
    return True


@contextlib.contextmanager
def changed(kubectl: Kubectl, kind: str, name: str, change: Callable[[Json], Any]) -> Iterator[None]:
    """Change an object during the block."""
    before = kubectl.get(kind, name)
    after = copy.deepcopy(before)
    change(after)
    replace(kubectl, after)
    try:
        yield
    finally:
        replace(kubectl, before)


def problem(capsys: Capture, kubectl: Kubectl, name: str, result: str = "failed") -> str:
    """The message of a check that has this result, and no other way to exit."""
    code, found = check(capsys, kubectl.kubeconfig, "--only", name)
    assert (found[name]["result"], code) == (result, {"failed": 1, "unknown": 2}.get(result, 0)), found
    return str(found[name]["problems"][0]["message"])


def test_sound_installation_has_no_problem(installed: Kubectl, capsys: Capture) -> None:
    only = [word for name in CHECKS for word in ("--only", name)]

    code, found = check(capsys, installed.kubeconfig, *only)

    assert {name: one["result"] for name, one in found.items()} == CHECKS, json.dumps(found, indent=1)
    assert code == 0


def test_sound_cluster_before_the_installation(installed: Kubectl, capsys: Capture) -> None:
    only = [word for name in list(CHECKS)[:4] for word in ("--only", name)]

    code, found = check(capsys, installed.kubeconfig, "--pre", "-n", NAME, *only)
    assert (code, {one["result"] for one in found.values()}) == (0, {"passed"})

    code, found = check(capsys, installed.kubeconfig, "--pre", "-n", "elsewhere", *only)
    assert (code, found["one-installation"]["result"]) == (1, "failed")


def test_deleted_registration(installed: Kubectl, capsys: Capture) -> None:
    before = installed.get(MUTATING, NAME)
    installed.delete(MUTATING, NAME)
    try:
        assert "does not exist" in problem(capsys, installed, "registered")
        assert "registration was deleted" in problem(capsys, installed, "one-installation", "warning")
    finally:
        replace(installed, before)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("entries-as-installed", {"matchConditions": [{"name": "never", "expression": "false"}]}, "never is added"),
        ("entries-as-installed", {"reinvocationPolicy": "Never"}, "reinvocationPolicy is not IfNeeded"),
        ("namespaces-covered", {"namespaceSelector": {"matchLabels": {"team": "other"}}}, "that no entry matches: "),
        ("namespaces-covered", {"objectSelector": {"matchLabels": {"team": "other"}}}, "that no entry matches: "),
        (
            "registered-service",
            {"clientConfig": {"service": {"name": NAME, "namespace": NAME, "path": "/mutate", "port": 444}}},
            "has no port 444",
        ),
        (
            "ca-bundle",
            {"clientConfig": {"service": {"name": NAME, "namespace": NAME, "path": "/mutate"}}},
            "caBundle is empty",
        ),
    ],
)
def test_changed_entries(installed: Kubectl, capsys: Capture, name: str, change: Json, message: str) -> None:
    def apply(configuration: Json) -> None:
        for entry in configuration["webhooks"]:
            entry.update(change)

    with changed(installed, MUTATING, NAME, apply):
        code, found = check(capsys, installed.kubeconfig, "--only", name)
        assert (code, found[name]["result"]) == (1, "failed")
        assert message in json.dumps(found[name]["problems"])


def test_ignored_failures(installed: Kubectl, capsys: Capture) -> None:
    with changed(installed, MUTATING, NAME, lambda item: item["webhooks"][0].update(failurePolicy="Ignore")):
        assert "has failurePolicy Ignore" in problem(capsys, installed, "failure-policy", "warning")


def test_foreign_bundle(installed: Kubectl, capsys: Capture) -> None:
    foreign = base64.b64encode(Authority.create("webhook-ca").pem).decode()

    with changed(installed, MUTATING, NAME, lambda item: item["webhooks"][0]["clientConfig"].update(caBundle=foreign)):
        message = problem(capsys, installed, "served-certificate")
        assert "caBundle of inject.dapr-token-injector.svc does not verify" in message


def test_service_without_ready_pods_is_unknown(installed: Kubectl, capsys: Capture, webhook: Webhook) -> None:
    with changed(installed, MUTATING, NAME, to_service(webhook.endpoint.ca_pem)):
        assert "has no ready Pod" in problem(capsys, installed, "served-certificate", "unknown")
        assert check(capsys, installed.kubeconfig, "--only", "registered-service")[0] == 0


def to_service(bundle: bytes) -> Callable[[Json], None]:
    def change(item: Json) -> None:
        for entry in item["webhooks"]:
            service = {"name": NAME, "namespace": NAME, "path": "/mutate"}
            entry["clientConfig"] = {"service": service, "caBundle": base64.b64encode(bundle).decode()}

    return change


def test_one_replica_with_a_foreign_certificate(
    installed: Kubectl, own_control_plane: ControlPlane, capsys: Capture, tmp_path: Path
) -> None:
    """Through the port forwarding of the API server, to the Pods behind the Service."""
    right, foreign = Authority.create("webhook-ca"), Authority.create("webhook-ca")
    node = "check-node"
    endpoints = []
    for name in ("right", "foreign"):
        created_pod = {**pod({}, APP), "metadata": {"name": name}}
        created_pod["spec"] = {**created_pod["spec"], "nodeName": node}
        endpoints.append({"addresses": ["10.9.9.9"], "targetRef": {"kind": "Pod", "name": name}, "nodeName": node})
        installed.create(created_pod)
    labels = {"kubernetes.io/service-name": NAME}
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, authority in (("right", right), ("foreign", foreign)):
            (tmp_path / name).mkdir()
            pair = authority.issue_server(hosts=[f"{NAME}.{NAME}.svc"])
            ports[name] = stack.enter_context(replica(pair, tmp_path / name))
        stack.enter_context(forwarding_node(own_control_plane, node, ports, tmp_path))
        installed.create(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": "check", "labels": labels},
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": [{"name": "https", "port": 10250}],
            }
        )
        stack.callback(installed.delete, "endpointslice", "check")
        with changed(installed, MUTATING, NAME, to_service(right.pem)):
            _, found = check(capsys, installed.kubeconfig, "--only", "served-certificate")

    messages = [one["message"] for one in found["served-certificate"]["problems"] if one["result"] == "failed"]
    assert len(messages) == 1, json.dumps(found)
    assert messages[0].startswith("Pod foreign serves a certificate that caBundle of ")
    assert "2 ready Pods of Service" in found["served-certificate"]["seen"]
    assert found["served-certificate"]["result"] == "failed"


def test_missing_permissions_are_unknown(installed: Kubectl, capsys: Capture, tmp_path: Path) -> None:
    with own_namespace(installed) as elsewhere:
        only = [word for name in CHECKS for word in ("--only", name)]
        code, found = check(capsys, limited(elsewhere, tmp_path), *only, "-n", NAME)

    public = {"kubernetes-version", "admission-apis", "clock-skew"}  # every user may read these
    results = {name: one["result"] for name, one in found.items()}
    assert results == dict.fromkeys(CHECKS, "unknown") | dict.fromkeys(public, "passed")
    assert code == 2
    assert all("not allowed" in one["problems"][0]["message"] for name, one in found.items() if name not in public)


def test_dapr_called_later(installed: Kubectl, capsys: Capture) -> None:
    dapr = copy.deepcopy(installed.get(MUTATING, NAME))
    dapr["metadata"] = {"name": "zz-dapr"}
    dapr["webhooks"] = [dapr["webhooks"][0] | {"name": "sidecar-injector.dapr.io", "failurePolicy": "Ignore"}]
    installed.create(dapr)
    try:
        assert check(capsys, installed.kubeconfig, "--only", "called-after-dapr")[0] == 0
        with changed(installed, MUTATING, NAME, lambda item: item["webhooks"][0].update(reinvocationPolicy="Never")):
            assert "called before zz-dapr and not again" in problem(capsys, installed, "called-after-dapr")
    finally:
        installed.delete(MUTATING, "zz-dapr")


def test_second_installation(installed: Kubectl, capsys: Capture) -> None:
    second = copy.deepcopy(installed.get(MUTATING, NAME))
    second["metadata"] = {"name": "second"}
    installed.create(second)
    try:
        assert "MutatingWebhookConfiguration second has an entry" in problem(capsys, installed, "one-installation")
    finally:
        installed.delete(MUTATING, "second")


def test_unbound_guard(installed: Kubectl, capsys: Capture) -> None:
    before = installed.get(BINDING, GUARD)
    installed.delete(BINDING, GUARD)
    try:
        assert f"{GUARD} does not exist" in problem(capsys, installed, "guard-bound")
    finally:
        replace(installed, before)
    with changed(installed, BINDING, f"{GUARD}-deny", lambda item: item["spec"].update(validationActions=["Warn"])):
        assert "deny has no effect" in problem(capsys, installed, "guard-bound")


def test_changed_warnings(installed: Kubectl, capsys: Capture, webhook: Webhook) -> None:
    def change(item: Json) -> None:
        item["webhooks"][0]["clientConfig"] = webhook.endpoint.client_config("/mutate")

    with changed(installed, VALIDATING, NAME, change):
        assert "to the path /mutate" in problem(capsys, installed, "warnings-registered")


def test_versions(installed: Kubectl, capsys: Capture) -> None:
    def label(item: Json) -> None:
        item["metadata"]["labels"]["app.kubernetes.io/version"] = "0.2.0"

    def image(tag: str) -> Callable[[Json], None]:
        def change(item: Json) -> None:
            item["spec"]["template"]["spec"]["containers"][0]["image"] = f"example.invalid/x{tag}"

        return change

    with changed(installed, MUTATING, NAME, label):
        assert "have several versions" in problem(capsys, installed, "objects-of-one-version")
    with changed(installed, "deployment", NAME, image(":9.0.0")):
        assert "the webhook 9.0.0" in problem(capsys, installed, "same-version")
    with changed(installed, "deployment", NAME, image(f"@sha256:{'0' * 64}")):  # no replica runs, and so no metrics
        assert "the metrics of the webhook cannot be read" in problem(capsys, installed, "same-version", "unknown")


def test_cluster(installed: Kubectl, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("injector.check.cluster.OLDEST", (99, 0))
    assert "is older than 99.0" in problem(capsys, installed, "kubernetes-version")
    monkeypatch.setattr("injector.check.cluster._DISCOVERY_PATH", "/apis/admissionregistration.k8s.io/v9")
    assert "does not serve" in problem(capsys, installed, "admission-apis")
    late = SimpleNamespace(time=lambda: time.time() + 3600)
    monkeypatch.setattr("injector.kube.transport.time", late)
    assert "behind the clock here" in problem(capsys, installed, "clock-skew", "warning")


def test_wait_for_a_repair(installed: Kubectl, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    before = installed.get(MUTATING, NAME)
    installed.delete(MUTATING, NAME)
    rounds: list[str] = []

    def repair(line: str) -> None:
        rounds.append(line)
        if len(rounds) == 1:
            replace(installed, before)

    monkeypatch.setattr("injector.cli.check.command.show_progress", repair)

    code, found = check(capsys, installed.kubeconfig, "--only", "registered", "--wait", "5m")

    assert (code, found["registered"]["result"]) == (0, "passed")
    assert rounds[0].startswith("1 check: 1 failed; ")
