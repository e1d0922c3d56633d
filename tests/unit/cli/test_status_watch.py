"""`status --watch`: what it shows, how it retries, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest
from rich.console import Console

from injector.cli.main import main
from injector.cli.status import watch
from injector.cli.status.report import summary
from injector.cli.status.views import Answer, View, nothing, parse
from injector.kube.errors import ForbiddenError, GoneError, NotFoundError, UnavailableError
from injector.kube.errors import Refusal as Answered
from tests.controlplane.polling import wait_for
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Store
from tests.unit.cli.objects import SHOP, pod, put_outdated_workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Capture = pytest.CaptureFixture[str]
OPEN: Final = {"containers": [{"name": "daprd"}]}


def filled(store: Store) -> Store:
    put_outdated_workload(store, pods=1)
    return store


def open_pod(name: str = "open") -> dict[str, Any]:
    return {**pod(name, owner=False), "spec": OPEN}


class StoppedError(Exception):
    """The test has seen enough."""


class Seen:
    """A screen that remembers what it is given."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, answer: Answer) -> None:
        self.shown.append(summary(answer.status.pods))

    def note(self, line: str) -> None:
        self.shown.append(line)


def polled(
    monkeypatch: pytest.MonkeyPatch, rounds: int, fault: Callable[[int], KubeError | None], target: str | None = None
) -> tuple[list[str], list[float], list[Answer]]:
    """What is shown in some rounds, the delays after them, and the last state; `fault` is by round."""
    delays: list[float] = []
    screen = Seen()
    last: list[Answer] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == rounds:
            raise StoppedError

    def failed(_verb: str, _resource: Resource) -> KubeError | None:
        return fault(len(delays))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    view = View(SHOP, parse(target) if target else None)
    api = StoreApi(filled(Store()), failed)
    with pytest.raises(StoppedError):
        asyncio.run(watch._poll(api, view, screen, 2, last))
    return screen.shown, delays, last


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("list pods", Answered(429, retry_after_seconds=9)),
        ForbiddenError("list pods", Answered(403)),
        GoneError("list pods", Answered(410)),
        UnavailableError("list pods"),
    ],
)
def test_error_is_shown_and_retried_after_its_delay(error: KubeError, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, delays, last = polled(monkeypatch, 7, lambda at: error if at in range(1, 6) else None)

    assert shown[0] == shown[-1] == "1 Dapr Pod in 1 namespace: 1 protected (1 outdated)"
    assert all(line.startswith(f"{error}; next try in ") for line in shown[1:-1])
    assert (delays[0], delays[-1]) == (2, 2)
    least = {429: 9, 403: 20}.get(error.refusal.status if error.refusal is not None else 0, 2)
    assert all(least <= delay <= 30 for delay in delays[1:-1])
    assert len(last[0].status.pods) == 1


@pytest.mark.parametrize("target", [None, "deployment/web", "secret/s"])
def test_object_that_is_deleted_ends_nothing(target: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _, last = polled(
        monkeypatch, 3, lambda at: NotFoundError("get namespaces/shop", Answered(404)) if at == 1 else None, target
    )

    assert shown[1] == "No Pod uses Dapr."
    assert shown[2].startswith("cannot get namespaces/shop: not found; next try")
    assert len(last[0].status.pods) == 1


def test_first_state_that_cannot_be_read_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    with ApiServer(folder=tmp_path) as server:
        assert main(["status", "-w", "-n", "none", "--kubeconfig", str(server.kubeconfig)]) == 2
    assert "namespaces/none" in capsys.readouterr().err


def interrupted(api: ApiServer, arguments: list[str], changes: Callable[[int], None], rounds: int) -> int:
    """The exit code of a watch that gets Ctrl-C after some lists of Pods."""
    lists = 0

    def called(call: str) -> None:
        nonlocal lists
        if "/pods" in call:
            lists += 1
            changes(lists)
            if lists == rounds:
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    api.called = called
    return main(["status", "--watch", "--interval", "1s", "--kubeconfig", str(api.kubeconfig), *arguments])


def test_lines_are_changes_and_the_exit_code_is_that_of_the_last(tmp_path: Path, capsys: Capture) -> None:
    with ApiServer(folder=tmp_path) as server:
        filled(server)

        def changes(at: int) -> None:
            if at == 2:
                server.put("pods", open_pod())
                server.remove("pods", SHOP, "web-1-1")

        code = interrupted(server, ["-n", SHOP], changes, 2)

    output = capsys.readouterr()
    first, summary, *lines = [line for line in output.out.splitlines() if not line.startswith(" ")][1:]
    assert (code, output.err) == (1, "")
    assert first.split()[0] == "deployment/web"
    assert summary == "1 Dapr Pod in 1 namespace: 1 protected (1 outdated)"
    assert [line.partition("Z ")[2] for line in lines] == [
        "shop deployment/web: protected reference 1/1 outdated -> gone",
        "shop pod/open-1-1: - -> open no-variable 1/1 -",
    ]


def test_namespace_that_is_deleted_leaves_nothing(tmp_path: Path, capsys: Capture) -> None:
    with ApiServer(folder=tmp_path) as server:
        filled(server)
        server.put("pods", open_pod())

        def changes(at: int) -> None:
            if at == 2:
                server.objects.clear()

        assert interrupted(server, ["-n", SHOP], changes, 2) == 0
    output = capsys.readouterr()
    assert "shop pod/open-1-1: open no-variable 1/1 - -> gone" in output.out
    assert "note: cannot get namespaces/shop: not found" in output.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_at_any_moment_ends_without_a_traceback(number: signal.Signals, tmp_path: Path) -> None:
    with ApiServer(folder=tmp_path) as server:
        filled(server)
        command = [sys.executable, "-m", "injector", "status", "-A", "-w", "--kubeconfig", str(server.kubeconfig)]
        for after in (0, 2):
            server.calls.clear()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            wait_for("the calls", lambda least=after: len(server.calls) > least)  # type: ignore[misc] # the default
            process.send_signal(number)
            _, error = process.communicate(timeout=60)
            assert process.returncode in {0, 2}
            assert "Traceback" not in error, error


@pytest.mark.slow
def test_closed_stdout_ends_without_a_traceback(tmp_path: Path) -> None:
    with ApiServer(folder=tmp_path) as server:
        filled(server)
        words = f"exec {sys.executable} -m injector status -A -w --interval 1s --kubeconfig {server.kubeconfig} >&-"
        process = subprocess.Popen(["bash", "-c", words], stderr=subprocess.PIPE, text=True)
        wait_for("the second list", lambda: sum("/pods" in call for call in server.calls) > 1)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode in {0, 2}
    assert "Traceback" not in error
    assert "internal error" not in error


@pytest.mark.slow
def test_reader_that_leaves_ends_the_watch_without_a_traceback(tmp_path: Path) -> None:
    with ApiServer(folder=tmp_path) as server:
        filled(server)

        def called(_: str) -> None:
            server.put("pods", open_pod(f"open{server.version}"))

        server.called = called
        words = f"{sys.executable} -m injector status -A -w --interval 1s --kubeconfig {server.kubeconfig} | head -n 1"
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


# --- the live table ---


def rendered(table: watch.StatusTable, width: int, height: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height).print(table.rendered(height))
    return file.getvalue().splitlines()


def answer(*pods: dict[str, Any]) -> Answer:
    store = filled(Store())
    for one in pods:
        store.put("pods", one)
    return asyncio.run(View(SHOP).read(StoreApi(store)))


def test_table_shows_the_worst_and_a_count() -> None:
    table = watch.StatusTable(with_namespace=False, is_wide=False)
    assert rendered(table, 80, 24) == ["reading"]
    table.show(answer(*(open_pod(f"open{number:02}") for number in range(30))))

    lines = rendered(table, 80, 10)
    assert [line.split()[0] for line in lines] == [
        "WORKLOAD",
        *(f"pod/open{at:02}-1-1" for at in range(7)),
        "and",
        "31",
    ]
    assert lines[-2].strip() == "and 24 more: 23 open, 1 protected"
    table.note("cannot list pods; next try in 5 seconds")
    lines = rendered(table, 80, 10)
    assert len(lines) == 10
    assert lines[-2].strip() == "cannot list pods; next try in 5 seconds"
    table.show(nothing("gone"))
    assert rendered(table, 80, 10) == ["gone", "No Pod uses Dapr."]


@pytest.mark.parametrize("height", range(1, 8))
def test_table_fits_a_small_terminal(height: int) -> None:
    table = watch.StatusTable(with_namespace=True, is_wide=True)
    table.show(answer(*(open_pod(f"o{number}") for number in range(3))))
    table.note("a note that is far longer than twenty columns")

    lines = rendered(table, 20, height)

    assert len(lines) <= max(height, 3)
    assert all(len(line) <= 20 for line in lines)


@pytest.mark.slow
def test_live_table_of_a_terminal_ends_with_the_last_state(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
    with ApiServer(folder=tmp_path) as server:
        filled(server)
        words = ["status", "-n", SHOP, "-w", "--interval", "1s", "--kubeconfig", str(server.kubeconfig)]
        environment = {**os.environ, "TERM": "xterm"}
        process = subprocess.Popen(
            [sys.executable, "-m", "injector", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        wait_for("the second list", lambda: sum("/pods" in call for call in server.calls) > 1)
        process.send_signal(signal.SIGINT)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        assert process.wait(60) == 0
    assert b"\x1b[?25l" in shown  # the cursor was hidden, and comes back
    assert b"\x1b[?25h" in shown
    assert shown.decode().splitlines()[-1] == "1 Dapr Pod in 1 namespace: 1 protected (1 outdated)"
