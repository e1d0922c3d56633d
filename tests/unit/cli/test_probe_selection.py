"""`probe -A` and `probe -l`: which Pods are probed, in which order, how many at a time, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from injector.kube.client import Api
from injector.probe.pods import pods_with_sidecar
from tests.controlplane.polling import wait_for
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal, Store
from tests.unit.cli.objects import Json, pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.kube.transport import Request

Capture = pytest.CaptureFixture[str]
PLAIN: Final = {"containers": [{"name": "app"}], "nodeName": "node"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as server:
        yield server


def put(api: Store, namespace: str, name: str, **changes: Any) -> Json:  # noqa: ANN401 - parts of a Pod
    """Store a Pod with a sidecar; the port of none can be forwarded."""
    found = pod(name)
    found["metadata"] |= {"namespace": namespace, "name": name, "labels": {"app": name[0]}}
    found["metadata"] |= changes.pop("metadata", {})
    return api.put("pods", {**found, **changes})


def probed(api: ApiServer, capsys: Capture, *arguments: str) -> tuple[int, list[str], str]:
    code = main(["probe", "-o", "json", "--kubeconfig", str(api.kubeconfig), *arguments])
    output = capsys.readouterr()
    targets = json.loads(output.out)["targets"] if output.out else []
    return code, [f"{one.get('namespace')} {one['target']}" for one in targets], output.err


def test_all_namespaces_are_probed_in_order_of_names(api: ApiServer, capsys: Capture) -> None:
    for namespace, name in (("b", "b2"), ("a", "z"), ("b", "b1"), ("a", "a")):
        put(api, namespace, name)

    code, targets, _ = probed(api, capsys, "-A")

    assert (code, targets) == (2, ["a pod/a", "a pod/z", "b pod/b1", "b pod/b2"])


def test_pods_without_sidecar_are_counted_unless_they_request_one(api: ApiServer, capsys: Capture) -> None:
    put(api, "a", "sound")
    put(api, "a", "missed", spec=PLAIN, metadata={"annotations": {"dapr.io/enabled": "true"}})
    put(api, "a", "plain", spec=PLAIN)
    put(api, "a", "plain2", spec=PLAIN, metadata={"annotations": {"dapr.io/enabled": "false"}})
    put(api, "a", "over", status={"phase": "Succeeded"})
    put(api, "a", "ending", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})

    code, targets, error = probed(api, capsys, "-A")

    assert (code, targets) == (2, ["a pod/missed", "a pod/sound"])
    assert "note: 2 Pods without a sidecar not probed" in error


def test_selector_selects_in_one_namespace_and_in_all(api: ApiServer, capsys: Capture) -> None:
    for namespace, name in (("a", "x1"), ("a", "y1"), ("b", "x2")):
        put(api, namespace, name)

    assert probed(api, capsys, "-l", "app=x", "-n", "a")[1] == ["a pod/x1"]
    assert probed(api, capsys, "-l", "app=x", "-A")[1] == ["a pod/x1", "b pod/x2"]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["-A"], "all namespaces"),
        (["-l", "app=no", "-n", "a"], "namespace a with app=no"),
        (["-A", "-l", "app=no"], "all namespaces with app=no"),
    ],
)
def test_selection_without_pods_is_unknown(arguments: list[str], where: str, api: ApiServer, capsys: Capture) -> None:
    put(api, "a", "plain", spec=PLAIN)

    code, targets, _ = probed(api, capsys, *arguments)

    assert (code, targets) == (2, [f"None {where}"])


def test_missing_permission_names_the_smaller_scope(api: ApiServer, capsys: Capture) -> None:
    message = 'pods is forbidden: User "x" cannot list resource "pods" in API group "" at the cluster scope'
    api.refusals.append(Refusal("GET .*/pods", 403, message, "Forbidden"))

    code, _, error = probed(api, capsys, "-A")

    assert code == 2
    assert "cannot list pods in all namespaces: not allowed: " in error
    assert "; probe one namespace with -n NAMESPACE, or request that permission" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a TARGET, or select Pods with -A or -l SELECTOR"),
        (["-A", "pod/x"], "-A selects the Pods; it cannot be combined with 'pod/x'"),
        (["-l", "a=b", "http://127.0.0.1:3500"], "-l selects the Pods; it cannot be combined with"),
        (["-A", "-n", "a"], "--namespace and --all-namespaces cannot be combined; use one of them"),
        (["-l", " "], "-l: the selector is empty; use for example -l app=shop"),
    ],
)
def test_contradictory_selection_is_a_usage_error(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(["probe", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_few_pods_are_probed_at_a_time(api: ApiServer, capsys: Capture) -> None:
    for number in range(60):
        put(api, "a", f"x{number:02}")
    lock = threading.Lock()
    running, most = 0, 0

    def count(call: str) -> None:
        nonlocal running, most
        if "portforward" in call:
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.005)
            with lock:
                running -= 1

    api.called = count

    code, targets, _ = probed(api, capsys, "-A")

    assert (code, len(targets)) == (2, 60)
    assert 1 < most <= 8


class LargeCluster(Api):
    """Answers lists of Pods, page by page, with Pods of 40 KB."""

    pages = 20

    def __init__(self) -> None:
        """Connect to nothing."""
        self.skew_seconds = 0.0

    async def fetch(self, request: Request) -> bytes:
        """Return the next page; there are no other objects."""
        query = dict(request.query)
        if not request.path.endswith("/pods"):
            return b'{"metadata":{},"items":[]}'
        size, at = int(query["limit"]) // 10, int(query.get("continue", "0"))
        after = {"continue": str(at + 1)} if at + 1 < self.pages else {}
        items = [_large(at * size + number) for number in range(size)]
        return json.dumps({"metadata": after, "items": items}).encode()


def _large(number: int) -> Json:
    found = pod("x", number)
    found["metadata"] |= {"uid": str(number), "annotations": {"note": f"{number}" + "x" * 40_000}}
    return found


def test_selection_keeps_little_of_each_pod() -> None:
    tracemalloc.start()
    try:
        pods, _ = asyncio.run(pods_with_sidecar(LargeCluster(), None, ""))
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(pods) == 1000
    assert kept / len(pods) < 6000
    assert most < 10_000_000  # of 40 MB
    assert "note" not in str(pods[0])


def test_table_shows_namespaces_and_common_advice_once(api: ApiServer, capsys: Capture) -> None:
    put(api, "a", "x1", status={"phase": "Running"})
    put(api, "b", "x2", status={"phase": "Running"})

    assert main(["probe", "-A", "--kubeconfig", str(api.kubeconfig)]) == 2

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["NAMESPACE", "TARGET"]
    assert [line.split()[:2] for line in lines[1:3]] == [["a", "pod/x1"], ["b", "pod/x2"]]
    assert lines[3:] == [
        "",
        "pod/x1 -n a,",
        "pod/x2 -n b:",
        "  the kubelet has not reported that daprd runs (phase Running)",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_probe_ends_with_one_line_and_leaves_no_file(number: signal.Signals, api: ApiServer) -> None:
    for at in range(40):
        put(api, "a", f"x{at:02}")
    reached, end = threading.Event(), threading.Event()

    def hang(call: str) -> None:
        if "portforward" in call:
            reached.set()
            end.wait(300)

    api.called = hang
    # Not `tmp_path`: the path of a socket has at most 107 bytes.
    temporary = Path(tempfile.mkdtemp(prefix="probe-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "injector", "probe", "-A", "--timeout", "60", "--kubeconfig", str(api.kubeconfig)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        assert reached.wait(300)
        wait_for("sockets", lambda: list(temporary.iterdir()))
        process.send_signal(number)
        output, error = process.communicate(timeout=300)
    finally:
        end.set()
        process.kill()
        left = list(temporary.iterdir())
        shutil.rmtree(temporary)

    assert (process.returncode, output, error.strip()) == (2, "", "Aborted.")
    assert left == []
