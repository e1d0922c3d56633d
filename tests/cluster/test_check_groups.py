"""The checks of two groups of replicas (`webhook.redundancy: 2`) on a real API server: sound, then each changed.

Helm installs the chart once. There is no node: the tests bind the Pods and write what a kubelet would, and a fake
kubelet forwards to certificates on loopback.
"""

from __future__ import annotations

import base64
import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.kubelet_ports import forwarding_node
from tests.cluster.test_check import check
from tests.cluster.test_check_registration import BINDING, MUTATING, NAME, VALIDATING, changed, problem, replace
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for
from tests.unit.check.installed import replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

Capture = pytest.CaptureFixture[str]
SECOND: Final = f"{NAME}-2"
REQUESTED: Final = f"{NAME}-requested"
GROUPS: Final = {NAME: "group-1", SECOND: "group-2"}
# Checks that are not about this installation, such as those of Dapr and of tokens, are left out.
CHECKS: Final = {
    "one-installation": "passed",
    "registered": "passed",
    "entries-as-installed": "passed",
    "failure-policy": "passed",
    "namespaces-covered": "passed",
    "ca-bundle": "passed",
    "served-certificate": "passed",
    "registered-service": "passed",
    "called-after-dapr": "skipped",
    "warnings-registered": "passed",
    "endpoints": "passed",
    "pods-start": "passed",
    "rolled-out": "passed",
    "disruption-budget": "passed",
    "spread": "passed",
    "serving-certificate": "passed",
    "ca-certificate": "passed",
    "webhook-rights": "passed",
    "same-version": "passed",
    "objects-of-one-version": "passed",
    "requested-bound": "passed",
    "entries-alike": "passed",
    "groups-alike": "passed",
}
ONLY: Final = [word for name in CHECKS for word in ("--only", name)]
NARROW: Final = {"matchLabels": {"team": "other"}}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("webhook-ca")


@pytest.fixture(scope="module")
def installed(own_control_plane: ControlPlane, authority: Authority, report: binaries.Report) -> Iterator[Kubectl]:
    """The chart with two groups of one replica, and a CA in all entries."""
    kubectl = own_control_plane.kubectl.within(NAME)
    helm = Helm.find(own_control_plane.folder, own_control_plane.kubeconfig, report=report)
    values = "webhook.redundancy=2,requested.action=Deny,replicas=2"
    helm.run("install", NAME, str(CHART), "--namespace", NAME, "--create-namespace", "--set", values)
    try:
        for kind, name in ((MUTATING, NAME), (MUTATING, SECOND), (VALIDATING, NAME)):
            found = kubectl.get(kind, name)
            for entry in found["webhooks"]:
                entry["clientConfig"]["caBundle"] = base64.b64encode(authority.pem).decode()
            replace(kubectl, found)
        yield kubectl
    finally:
        helm.run("uninstall", NAME, "--namespace", NAME)
        kubectl.delete("namespace", NAME)
        wait_for("the namespace gone", lambda: kubectl.find("namespace", NAME) is None)


@contextlib.contextmanager
def running(
    own: ControlPlane, kubectl: Kubectl, authority: Authority, folder: Path, hosts: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, str]]:
    """Have a ready Pod of each group on a node of its own, with a certificate for these hosts; yield their names."""
    pods: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for number, (group, node) in enumerate(GROUPS.items(), 1):
            pod = wait_for(f"a Pod of {group}", partial(pod_of, kubectl, group))
            (folder / node).mkdir()
            port = stack.enter_context(replica(authority.issue_server(hosts=hosts[group]), folder / node))
            stack.enter_context(forwarding_node(own, node, {pod: port}, folder / node))
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            kubectl.create({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target})
            set_ready(kubectl, pod, number)
            pods[group] = pod
        try:
            yield pods
        finally:
            kubectl.run("delete", "pods", "--all", "--force", "--grace-period=0")


def pod_of(kubectl: Kubectl, group: str) -> str | None:
    found = kubectl.list("pods", labelSelector=f"app.kubernetes.io/name={group}")
    names = [one["metadata"]["name"] for one in found if not one["spec"].get("nodeName")]
    return names[0] if names else None


def set_ready(kubectl: Kubectl, pod: str, number: int, status: str = "True") -> None:
    address = f"10.1.0.{number}"
    conditions = [{"type": kind, "status": status} for kind in ("Ready", "ContainersReady")]
    change = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
    patch = json.dumps({"status": change})
    kubectl.run("patch", "pod", pod, "--subresource=status", "--type=merge", f"--patch={patch}")


def results(capsys: Capture, kubectl: Kubectl) -> tuple[dict[str, str], dict[str, Json]]:
    _, found = check(capsys, kubectl.kubeconfig, *ONLY)
    return {name: str(one["result"]) for name, one in found.items()}, found


def has_problems(capsys: Capture, kubectl: Kubectl, wanted: dict[str, str]) -> dict[str, Json]:
    """Wait until these checks have these results, and all others those of a sound installation."""
    last: list[dict[str, Json]] = []

    def found() -> dict[str, Json] | None:
        words, reports = results(capsys, kubectl)
        last[:] = [{name: one for name, one in reports.items() if words[name] != CHECKS[name]}]
        return reports if words == CHECKS | wanted else None

    return wait_for(f"the results {wanted}", found, describe=lambda: json.dumps(last, indent=1))


def named(group: str) -> list[str]:
    return [f"{group}.{NAME}.svc"]


def test_sound_installation_and_lost_groups(
    own_control_plane: ControlPlane, installed: Kubectl, authority: Authority, capsys: Capture, tmp_path: Path
) -> None:
    hosts = {group: named(group) for group in GROUPS}
    left = f"if Service {NAME}/{NAME} does not answer either, Pods that request a token are denied"
    with running(own_control_plane, installed, authority, tmp_path, hosts) as pods:
        has_problems(capsys, installed, {})

        set_ready(installed, pods[SECOND], 2, "False")
        found = has_problems(capsys, installed, {"endpoints": "failed"} | LOST)
        (gone,) = found["endpoints"]["problems"]
        assert gone["message"].startswith(f"the endpoints of Service {NAME}/{SECOND} are gone, none is ready: {left}")

        installed.run("scale", f"deployment/{SECOND}", "--replicas=0")
        try:
            found = has_problems(
                capsys,
                installed,
                {"endpoints": "failed", "pods-start": "failed", "rolled-out": "failed"} | LOST,
            )
            (scaled,) = found["rolled-out"]["problems"]
            assert scaled["message"] == f"Deployment {SECOND} is scaled to 0 replicas"
        finally:
            installed.run("scale", f"deployment/{SECOND}", "--replicas=1")


# What is not visible without a ready Pod of a group.
LOST: Final = {"served-certificate": "unknown", "spread": "skipped"}


def test_certificate_of_files_without_the_second_name(
    own_control_plane: ControlPlane, installed: Kubectl, authority: Authority, capsys: Capture, tmp_path: Path
) -> None:
    """As with `tls.mode: files`, where both groups mount one Secret."""
    with running(own_control_plane, installed, authority, tmp_path, dict.fromkeys(GROUPS, named(NAME))) as pods:
        found = has_problems(capsys, installed, {"served-certificate": "failed"})

    (message,) = [one["message"] for one in found["served-certificate"]["problems"]]
    assert message.startswith(f"Pod {pods[SECOND]} serves a certificate that caBundle of inject-2.{NAME}.svc, ")
    assert f"does not verify for {SECOND}.{NAME}.svc" in message


@pytest.mark.parametrize("name", [NAME, SECOND])
def test_deleted_configuration(installed: Kubectl, capsys: Capture, name: str) -> None:
    before = installed.get(MUTATING, name)
    installed.delete(MUTATING, name)
    try:
        other = SECOND if name == NAME else NAME
        assert problem(capsys, installed, "registered") == (
            f"MutatingWebhookConfiguration {name} does not exist: only MutatingWebhookConfiguration {other} protects "
            "Pods"
        )
    finally:
        replace(installed, before)


def edit(**fields: Any) -> Callable[[Json], Any]:  # noqa: ANN401 - JSON
    """Change the first entry."""
    return lambda item: item["webhooks"][0].update(fields)


def set_config(**fields: Any) -> Callable[[Json], Any]:  # noqa: ANN401 - JSON
    """Change `clientConfig` of all entries."""

    def change(item: Json) -> None:
        for entry in item["webhooks"]:
            entry["clientConfig"] |= fields

    return change


OF_FIRST: Final = {"name": NAME, "namespace": NAME, "path": "/mutate", "port": 443}


# The configuration, what is changed, the check that reports it, how, and a part of its message.
CHANGES: Final[dict[str, tuple[str, Callable[[Json], Any], str, str, str]]] = {
    "no inject entry": (
        SECOND, lambda item: item["webhooks"].pop(0), "registered", "failed", f"{SECOND} has no entry inject-2.",
    ),
    "no default entry": (
        SECOND, lambda item: item["webhooks"].pop(), "entries-alike", "failed", f"default-2.{NAME}.svc does not:",
    ),
    "namespace selector": (
        SECOND, edit(namespaceSelector=NARROW), "entries-alike", "failed", "have different namespaceSelector",
    ),
    "object selector": (
        NAME, edit(objectSelector=NARROW), "entries-alike", "failed", "have different objectSelector",
    ),
    "rules": (
        SECOND,
        lambda item: item["webhooks"][0]["rules"][0]["operations"].append("UPDATE"),
        "entries-alike", "failed", "have different rules",
    ),
    "no condition": (
        SECOND, edit(matchConditions=[]), "entries-as-installed", "failed", "asks-for-token is missing",
    ),
    "another condition": (
        SECOND,
        lambda item: item["webhooks"][0]["matchConditions"][-1].update(expression="true"),
        "entries-as-installed", "failed", "not-yet-served does not match this version of the chart",
    ),
    "timeout": (NAME, edit(timeoutSeconds=5), "entries-as-installed", "warning", "timeoutSeconds is 5: use 1"),
    "failure policy": (
        NAME, edit(failurePolicy="Fail"), "entries-as-installed", "failed", "failurePolicy is not Ignore",
    ),
    "Service": (
        SECOND, set_config(service=OF_FIRST), "registered-service", "failed", "which is that of the other group",
    ),
    "no caBundle": (SECOND, set_config(caBundle=""), "ca-bundle", "failed", "caBundle is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_changed_entry(installed: Kubectl, capsys: Capture, case: str) -> None:
    group, change, name, result, message = CHANGES[case]

    with changed(installed, MUTATING, group, change):
        assert message in problem(capsys, installed, name, result)
    assert check(capsys, installed.kubeconfig, "--only", name)[0] == 0


def test_policy_requested_is_lost(installed: Kubectl, capsys: Capture) -> None:
    with changed(installed, BINDING, REQUESTED, lambda item: item["spec"].update(validationActions=["Audit"])):
        assert "does not deny" in problem(capsys, installed, "requested-bound")
    policy = "validatingadmissionpolicy"
    before = [installed.get(kind, REQUESTED) for kind in (BINDING, policy)]
    for kind in (BINDING, policy):
        installed.delete(kind, REQUESTED)
    try:
        assert "has failurePolicy Ignore: while no group answers" in problem(capsys, installed, "failure-policy")
    finally:
        for item in before:
            replace(installed, item)
    assert check(capsys, installed.kubeconfig, "--only", "failure-policy")[0] == 0


def test_different_groups(installed: Kubectl, capsys: Capture) -> None:
    def set_image(item: Json) -> None:
        item["spec"]["template"]["spec"]["containers"][0]["image"] = "example.invalid/x:9.0.0"

    def set_policy(item: Json) -> None:
        item["spec"]["template"]["metadata"]["annotations"]["checksum/policy"] = "0" * 64

    for change, what in ((set_image, "images"), (set_policy, "Policies")):
        with changed(installed, "deployment", SECOND, change):
            assert problem(capsys, installed, "groups-alike").startswith(f"the groups have different {what}")
