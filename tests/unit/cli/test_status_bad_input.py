"""`status` and `secret list` when the API server misbehaves: an error, never a part of the answer as the whole."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from injector.kube import client, transport
from tests.fake_cluster import faults
from tests.fake_cluster.faults import Fault
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.property.work import TIMES, Meter, is_in_proportion
from tests.unit.cli.objects import SHOP, deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fake_cluster.faults import Send

Capture = pytest.CaptureFixture[str]
STATUS: Final = ("status", "-A", "-o", "json")
LIST: Final = ("secret", "list", "-o", "json")
COMMANDS: Final = pytest.mark.parametrize("command", [STATUS, LIST], ids=["status", "secret list"])


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Four Pods of a workload, in lists of two objects, and a client with little patience."""
    monkeypatch.setattr(client, "PAGE", 2)
    monkeypatch.setattr(client, "Request", functools.partial(transport.Request, timeout_seconds=0.5))
    with ApiServer(folder=tmp_path) as server:
        server.put("namespaces", namespace())
        server.put("secrets", secret("s"))
        server.put("deployments", deployment("web"))
        server.put("replicasets", replica_set("web"))
        for number in range(4):
            server.put("pods", pod("web", number))
        yield server


def shown(api: ApiServer, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--kubeconfig", str(api.kubeconfig)])
    output = capsys.readouterr()
    return code, output.out, output.err


def pods_in(out: str) -> int:
    found: Any = json.loads(out)
    return int(found["summary"]["pods"]) if "summary" in found else int(found["secrets"][0]["pods"])


BODIES: Final[dict[str, tuple[Send, str]]] = {
    "cut": (faults.cut, "the connection failed"),
    "cut without a length": (faults.cut_unnoticed, "not a list of objects"),
    "closed": (faults.closed, "the connection failed"),
    "silent": (faults.silence, "no answer in time"),
    "slow": (faults.drip, "no answer in time"),
    "html": (faults.garbage(b"<html>login</html>"), "not a list of objects"),
    "empty": (faults.garbage(b""), "not a list of objects"),
    "object": (faults.garbage(b"{}"), "not a list of objects"),
    "null": (faults.garbage(b"null"), "not a list of objects"),
    "a Status": (faults.garbage(b'{"kind":"Status","metadata":{},"status":"Success"}'), "not a list of objects"),
    "numbers": (faults.garbage(b'{"metadata":{},"items":[1]}'), "not a list of objects"),
    "nameless": (faults.garbage(b'{"metadata":{},"items":[{}]}'), "not a list of objects"),
    "without namespace": (faults.garbage(b'{"metadata":{},"items":[{"metadata":{"name":"x"}}]}'), "not a list"),
    "not UTF-8": (faults.garbage(b'{"metadata":{},"items":[{"metadata":{"name":"\xff"}}]}'), "not a list"),
    "brackets": (faults.garbage(b"[" * 100_000), "not a list of objects"),
}


@COMMANDS
@pytest.mark.parametrize("skip", [0, 1], ids=["first page", "second page"])
@pytest.mark.parametrize("kind", BODIES)
def test_bad_body_is_an_error_and_no_answer(
    kind: str, skip: int, command: tuple[str, ...], api: ApiServer, capsys: Capture
) -> None:
    send, message = BODIES[kind]
    api.faults.append(Fault("GET .*/pods", send, skip=skip))

    code, out, error = shown(api, capsys, *command)

    assert (code, out) == (2, "")
    assert error.startswith("Error: cannot list pods in all namespaces: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("plural", ["replicasets", "secrets", "namespaces"])
def test_bad_body_of_another_list_is_an_error_too(plural: str, api: ApiServer, capsys: Capture) -> None:
    api.faults.append(Fault(f"GET .*/{plural}", faults.cut))

    code, out, error = shown(api, capsys, *STATUS)

    assert (code, out) == (2, "")
    assert f"cannot list {plural}" in error


def test_endless_body_is_not_read_to_the_end(api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Request", functools.partial(transport.Request, timeout_seconds=30))
    monkeypatch.setattr(transport, "_LONGEST_ANSWER", 4_000_000)
    api.faults.append(Fault("GET .*/pods", faults.endless))

    code, out, error = shown(api, capsys, *STATUS)

    assert (code, out) == (2, "")
    assert "the answer is too long" in error


def test_endless_body_of_an_error_is_not_read_to_the_end(api: ApiServer, capsys: Capture) -> None:
    api.faults.append(Fault("GET .*/pods", functools.partial(faults.endless, status=500)))

    code, out, error = shown(api, capsys, *STATUS)

    assert (code, out) == (2, "")
    assert "no answer in time" in error or "the answer is too long" in error


@COMMANDS
def test_list_without_end_is_an_error(
    command: tuple[str, ...], api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST_PAGES", 50)
    api.is_endless = True

    code, out, error = shown(api, capsys, *command)

    assert (code, out) == (2, "")
    assert "the list does not end after 50 pages" in error


@COMMANDS
def test_list_that_expires_between_pages_starts_again(
    command: tuple[str, ...], api: ApiServer, capsys: Capture
) -> None:
    api.expires = 2
    code, out, _ = shown(api, capsys, *command)
    assert (code, pods_in(out)) == (0, 4)

    api.expires = 1 << 30
    code, out, error = shown(api, capsys, *command)
    assert (code, out) == (2, "")
    assert "the resource version is too old" in error
    assert sum("/pods" in call for call in api.calls) < 16


@COMMANDS
@pytest.mark.parametrize(("status", "retry_after"), [(429, "1"), (429, ""), (503, "1")])
def test_requested_retry_comes_after_the_requested_time(
    status: int, retry_after: str, command: tuple[str, ...], api: ApiServer, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    api.refusals.append(Refusal("GET .*/pods", status, "later", "TooManyRequests", times=2, retry_after=retry_after))

    code, out, _ = shown(api, capsys, *command)

    assert (code, pods_in(out)) == (0, 4)
    assert len(waits) == 2
    assert all(wait >= (float(retry_after) if retry_after else 0.25) for wait in waits)
    assert max(waits) <= 30


@pytest.mark.parametrize(
    ("status", "retry_after", "requests"), [(429, "", 5), (429, "3600", 1), (500, "", 1), (503, "3600", 1)]
)
def test_retries_end(
    status: int, retry_after: str, requests: int, api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None: ...

    monkeypatch.setattr(asyncio, "sleep", sleep)
    api.refusals.append(Refusal("GET .*/pods", status, "busy", "", retry_after=retry_after))

    code, out, error = shown(api, capsys, *STATUS)

    assert (code, out) == (2, "")
    assert f"the API server answers with status {status}: busy; run it again" in error
    assert sum("/pods" in call for call in api.calls) == requests


def test_namespace_that_is_deleted_during_the_run_is_reported(api: ApiServer, capsys: Capture) -> None:
    def delete(call: str) -> None:
        if "/pods" in call and ("namespaces", "", SHOP) in api.objects:
            api.remove("namespaces", "", SHOP)

    api.called = delete

    code, out, error = shown(api, capsys, "status", "-n", SHOP)
    assert code == 0
    assert "4 protected" in out
    assert error.startswith("note: defaults and exemptions of namespaces are not known: cannot get namespaces/shop: ")

    code, out, _ = shown(api, capsys, *STATUS)
    assert (code, pods_in(out)) == (0, 4)


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_clock_of_the_api_server_counts(ahead: int, api: ApiServer, capsys: Capture) -> None:
    """Ours is an hour behind, right, or an hour ahead."""
    api.ahead_seconds = ahead
    api.remove("secrets", SHOP, "s")
    for waits, severity in ((60, "info"), (600, "warning"), (-3600, "warning")):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead - waits))
        for number in range(4):
            made = pod("web", number)
            made["status"] = {"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}]}
            api.put("pods", made)

        _, out, _ = shown(api, capsys, *STATUS)

        found = json.loads(out)["pods"]
        assert {(one["protection"], one["severity"]) for one in found} == {("waiting", severity)}


def test_long_annotations_cost_no_more_than_their_bytes(api: ApiServer, capsys: Capture) -> None:
    def cost(length: int) -> int:
        for number in range(4):
            made = pod("web", number)
            made["metadata"]["annotations"] = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "$(" * length}
            api.put("pods", made)
        with Meter() as meter:
            code, out, _ = shown(api, capsys, *STATUS)
        assert code == 0
        assert {one["protection"] for one in json.loads(out)["pods"]} == {"custom"}
        assert "$(" not in out
        return meter.count

    assert is_in_proportion(cost(3_125), cost(3_125 * TIMES))


# Ctrl-C at the n-th event that the interpreter reports (an import, a file, a socket): the same moments on any machine.
_INTERRUPTED: Final = """
import os, signal, sys
from injector.__main__ import main

moment, count, connected = int(sys.argv.pop(1)), 0, 0

def hook(event, arguments):
    global count, connected
    count += 1
    if event == "socket.connect":
        connected = connected or count
    if count == moment:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(hook)
code = main()
if not moment:
    print(connected, count, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_interrupted_status_ends_without_a_traceback(api: ApiServer) -> None:
    """At moments while modules are imported, and then from the first connection to the end."""

    def run(moment: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _INTERRUPTED, str(moment), *STATUS, "--kubeconfig", str(api.kubeconfig)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    whole = run(0)
    connected, events = map(int, whole.stderr.split())
    assert whole.returncode == 0
    codes = set()
    for moment in (1, connected // 2, *(connected + part * (events - connected) // 5 for part in range(6))):
        done = run(moment)
        codes.add(done.returncode)
        assert done.stderr.split() in ([], ["Aborted."])
        assert not done.stdout or json.loads(done.stdout)["summary"]["pods"] == 4
    assert codes - {0} == {2, -signal.SIGINT}  # 0: a run with fewer events than the first had ended before its moment
