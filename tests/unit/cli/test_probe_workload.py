"""`probe` of a workload whose Pods come and go while it is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from injector.cli.main import main
from tests.fake_cluster.server import ApiServer
from tests.unit.cli.objects import SHOP, deployment, pod, replica_set

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
PODS = 50


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """Fifty Pods of one Deployment; no port of them can be forwarded."""
    with ApiServer(folder=tmp_path) as server:
        server.put("deployments", deployment("web"))
        server.put("replicasets", replica_set("web"))
        for number in range(PODS):
            server.put("pods", pod("web", number))
        owner = server.objects["pods", SHOP, "web-1-0"]["metadata"]["ownerReferences"][0]
        owner["uid"] = server.objects["replicasets", SHOP, "web-1"]["metadata"]["uid"]
        yield server


def probed(api: ApiServer, capsys: Capture, *targets: str) -> tuple[int, list[dict[str, Any]], list[str]]:
    code = main(["probe", "-o", "json", "-n", SHOP, "--kubeconfig", str(api.kubeconfig), *targets])
    output = capsys.readouterr()
    # The server's own words, of connections that were left, are not ours.
    return (
        code,
        json.loads(output.out)["targets"],
        [line for line in output.err.splitlines() if line.startswith("note:")],
    )


def test_probe_follows_pods_created_during_the_run(api: ApiServer, capsys: Capture) -> None:
    def churn(call: str) -> None:
        for number in (7, 8, 49):
            key = ("pods", SHOP, f"web-1-{number}")
            if f"web-1-{number}/portforward" in call and key in api.objects:
                del api.objects[key]
                api.put("pods", pod("web", 100 + number))

    api.called = churn

    code, targets, message = probed(api, capsys, "deployment/web")

    assert code == 2
    assert {target["target"] for target in targets} == {f"pod/{name}" for _, _, name in api.objects if "web-1-" in name}
    assert len(targets) == PODS
    assert message == [
        f"note: pod/web-1-{number} -n shop ended during the probe and is not reported" for number in (49, 7, 8)
    ]
    assert all("cannot reach the ports of pods/" in target["failure"] for target in targets)


def test_probe_stops_when_pods_are_replaced_too_fast(api: ApiServer, capsys: Capture) -> None:
    def churn(call: str) -> None:
        if call.endswith("/replicasets?limit=500"):
            api.put("pods", pod("web", 1000 + len(api.calls)))

    api.called = churn

    code, targets, _ = probed(api, capsys, "deployment/web")

    assert code == 2
    assert targets[0]["failure"] == "Pods are replaced faster than they can be probed; run it again"


def test_pod_by_name_that_ends_is_reported(api: ApiServer, capsys: Capture) -> None:
    def end(call: str) -> None:
        if "portforward" in call and ("pods", SHOP, "web-1-1") in api.objects:
            del api.objects["pods", SHOP, "web-1-1"]

    api.called = end

    code, (target,), message = probed(api, capsys, "pod/web-1-1")

    assert (code, message) == (2, [])
    assert target["failure"].startswith("cannot get pods/web-1-1 in namespace shop: not found")
