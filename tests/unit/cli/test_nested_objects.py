"""Commands on objects whose managedFields are nested as deep as an API server accepts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from tests.fake_cluster.server import ApiServer, nested
from tests.unit.cli.controllers import Controllers
from tests.unit.cli.objects import SHOP, admitted, deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
# More than copies of objects follow, than codecs follow, and nearly what an API server accepts.
LEVELS: Final = (400, 900, 5_000, 9_900)


@pytest.fixture(params=LEVELS)
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """A Deployment with one Pod that uses Secret `s`; all of them are nested."""
    objects = {
        "namespaces": namespace(SHOP),
        "secrets": secret("s"),
        "pods": pod("web"),
        "replicasets": replica_set("web"),
        "deployments": deployment("web"),
    }
    with ApiServer(folder=tmp_path) as running:
        running.admitted = admitted
        for plural, item in objects.items():
            entry = {"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": nested(request.param)}}
            fields: list[dict[str, Any]] = item["metadata"].setdefault("managedFields", [])
            fields.append(entry)
            running.put(plural, item)
        yield running


def run(server: ApiServer, capsys: Capture, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints."""
    assert main([*arguments, "-o", "json", "--kubeconfig", str(server.kubeconfig)]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_secret_list_reports_nested_pods(server: ApiServer, capsys: Capture) -> None:
    (found,) = run(server, capsys, "secret", "list")["secrets"]
    assert (found["workloads"], found["pods"]) == (["Deployment/web"], 1)


def test_secret_rotate_restarts_nested_workload(server: ApiServer, capsys: Capture) -> None:
    controllers = Controllers(server)
    found = run(server, capsys, "secret", "rotate", "shop/s", "--restart", "--propagation-delay", "0s")
    assert [one["state"] for one in found["workloads"]] == ["ready"]
    assert controllers.restarted == ["web"]


def test_secret_create_keeps_nested_secret(server: ApiServer, capsys: Capture) -> None:
    (found,) = run(server, capsys, "secret", "create", "shop/s")["secrets"]
    assert found["outcome"] == "exists"


def test_probe_reaches_nested_pod(server: ApiServer, capsys: Capture) -> None:
    (target,) = run(server, capsys, "probe", "-n", SHOP, "deployment/web", code=2)["targets"]
    assert target["target"] == "pod/web-1-1"
    assert target["failure"].startswith("cannot reach the ports of pods/web-1-1")
