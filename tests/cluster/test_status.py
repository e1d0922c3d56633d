"""`status` against a real API server: with the ClusterRole `view`, with more, and with less."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped] # it has no types to offer
import pytest

from injector.cli.main import main
from injector.cli.status.documents import status_schema
from tests.cluster.objects import APP, ASKING, SIDECAR, pod, token_variable
from tests.cluster.test_probe import READ_PODS, limited
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

Capture = pytest.CaptureFixture[str]
SECRET = "dapr-api-token"


@pytest.fixture
def two_pods(kubectl: Kubectl) -> Iterator[None]:
    """A Pod with its token, one that admission has missed, and the webhook's Deployment with its Policy."""
    kubectl.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "policy"}, "data": {"policy.yaml": "{}"}}
    )
    labels = {"app.kubernetes.io/name": "dapr-token-injector"}
    spec = {
        "containers": [{"name": "webhook", "image": "webhook"}],
        "volumes": [{"name": "policy", "configMap": {"name": "policy"}}],
    }
    kubectl.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "webhook", "labels": labels},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
    )
    kubectl.run("create", "secret", "generic", SECRET, "--from-literal=token=marker-0123456789abcdef")
    for name, sidecar in (("sound", {**SIDECAR, "env": [token_variable(SECRET)]}), ("missed", SIDECAR)):
        made = pod(ASKING, APP, sidecar)
        made["metadata"]["name"] = name
        kubectl.create(made)
    yield
    kubectl.delete("deployment", "webhook")


def status(capsys: Capture, kubeconfig: Path, *arguments: str) -> tuple[int, Any, str]:
    code, out, error = shown(capsys, kubeconfig, "-o", "json", *arguments)
    found = json.loads(out) if out else None
    if found is not None:
        jsonschema.validate(found, status_schema())
    return code, found, error


def shown(capsys: Capture, kubeconfig: Path, *arguments: str) -> tuple[int, str, str]:
    code = main(["status", "--kubeconfig", str(kubeconfig), *arguments])
    output = capsys.readouterr()
    assert "marker" not in output.out + output.err
    return code, output.out, output.err


def protections(found: Json) -> dict[str, str]:
    return {one["name"]: f"{one['protection']} {one['reason']}" for one in found["pods"]}


def without_policy(found: Json) -> list[str]:
    """What limits a status, except that a Deployment of an earlier test may still be there with another Policy."""
    return [one for one in found["limits"] if not one.startswith("the webhook's Policy is not known: ")]


EXPECTED = {"missed": "open not-injected", "sound": "protected reference"}


@pytest.mark.usefixtures("two_pods")
def test_currency_is_read_from_metadata(kubectl: Kubectl, capsys: Capture) -> None:
    code, found, error = status(capsys, kubectl.kubeconfig, "-n", kubectl.namespace)

    assert (code, error, without_policy(found)) == (1, "", [])
    assert protections(found) == EXPECTED
    (sound,) = (one for one in found["pods"] if one["name"] == "sound")
    assert [(one["secret"], one["currency"]) for one in sound["currencies"]] == [(SECRET, "current")]
    assert [(one["workload"], one["findings"]) for one in found["pods"]][1][0] == "Pod/sound"


@pytest.mark.usefixtures("two_pods")
def test_report_has_no_token_and_all_pods(kubectl: Kubectl, capsys: Capture) -> None:
    code = main(["status", "-o", "html", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace])

    report = capsys.readouterr().out
    assert code == 1
    assert "marker" not in report
    assert all(text in report for text in ("pod/missed", "pod/sound", "not-injected", kubectl.namespace))


@pytest.mark.usefixtures("two_pods")
def test_role_view_is_enough_for_the_protection(kubectl: Kubectl, tmp_path: Path, capsys: Capture) -> None:
    kubeconfig = limited(kubectl, tmp_path, READ_PODS)
    account = f"--serviceaccount={kubectl.namespace}:asker"
    binding = f"viewer-{kubectl.namespace}"
    kubectl.run("create", "clusterrolebinding", binding, "--clusterrole=view", account)
    try:
        wait_for("the binding", lambda: status(capsys, kubeconfig, "-A")[0] == 1)
        for scope in (["-A"], ["-n", kubectl.namespace]):
            _, found, _ = status(capsys, kubeconfig, *scope)
            mine = {**found, "pods": [one for one in found["pods"] if one["namespace"] == kubectl.namespace]}
            assert protections(mine) == EXPECTED
            assert [one["currencies"][0]["currency"] for one in mine["pods"] if one["name"] == "sound"] == ["unknown"]
            (limit,) = without_policy(found)
            assert limit.startswith("whether Pods run the current token is unknown: cannot list secrets in")
    finally:
        kubectl.run("delete", "clusterrolebinding", binding)


@pytest.mark.usefixtures("two_pods")
def test_right_to_list_pods_is_enough_for_an_answer(kubectl: Kubectl, tmp_path: Path, capsys: Capture) -> None:
    code, found, _ = status(capsys, limited(kubectl, tmp_path, READ_PODS), "-n", kubectl.namespace)

    assert (code, protections(found)) == (1, EXPECTED)
    assert [one.partition(": ")[0] for one in found["limits"]] == [
        "whether Pods run the current token is unknown",
        "defaults and exemptions of namespaces are not known",
        "the webhook's Policy is not known",
    ]


@pytest.mark.usefixtures("two_pods")
def test_one_pod_has_a_line_for_each_container(kubectl: Kubectl, capsys: Capture) -> None:
    code, out, error = shown(capsys, kubectl.kubeconfig, "pod/missed", "-n", kubectl.namespace)

    assert (code, "Error" in error) == (1, False)
    assert out.splitlines()[1].split()[:4] == ["missed", "daprd", "open", "not-injected"]
    assert any(line.startswith(f"    kubectl get pod/missed -n {kubectl.namespace}") for line in out.splitlines())
    code, out, error = shown(capsys, kubectl.kubeconfig, "deployment/none", "-n", kubectl.namespace)
    assert (code, out) == (2, "")
    assert "not found" in error


@pytest.mark.usefixtures("two_pods")
def test_secret_is_shown_from_its_metadata_with_its_events(kubectl: Kubectl, capsys: Capture) -> None:
    kubectl.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "one"},
            "involvedObject": {"kind": "Pod", "name": "sound", "namespace": kubectl.namespace},
            "type": "Warning",
            "reason": "FailedMount",
            "message": f'secret "{SECRET}" not found',
        }
    )
    code, found, error = status(capsys, kubectl.kubeconfig, f"secret/{SECRET}", "-n", kubectl.namespace)

    assert (code, error, without_policy(found)) == (1, "", [])
    (row,) = found["secrets"]
    assert (row["key"], row["exists"], row["hasKey"], row["pods"]) == ("token", True, True, 2)
    assert (row["open"], row["owner"]) == (["missed"], "kubectl-create")
    assert row["changed"]
    assert [one["object"] for one in found["events"]] == ["Pod/sound"]
    _, out, _ = shown(capsys, kubectl.kubeconfig, f"secret/{SECRET}", "-n", kubectl.namespace)
    assert "  token (api), managed by kubectl-create; used by Pod/missed, Pod/sound" in out.splitlines()


def test_facts_about_our_token_end_when_another_tool_writes_it(kubectl: Kubectl, capsys: Capture) -> None:
    assert main(["secret", "create", f"{kubectl.namespace}/ours", "--kubeconfig", str(kubectl.kubeconfig)]) == 0
    capsys.readouterr()

    def row() -> Json:
        _, found, _ = status(capsys, kubectl.kubeconfig, "secret/ours", "-n", kubectl.namespace)
        (row,) = found["secrets"]
        return {name: row[name] for name in ("id", "issued")}

    assert all(row().values())
    other = base64.b64encode(b"marker-fedcba9876543210").decode()
    kubectl.run("patch", "secret", "ours", "--type=merge", f'--patch={{"data": {{"token": "{other}"}}}}')
    assert not any(row().values())
