"""What a fork has in common with a program that was started: everything that a test looks at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests import forkserver
from tests.controlplane.netns import network_namespace, reason_unavailable
from tests.controlplane.polling import wait_for
from tests.controlplane.requirement import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM: Final = "tests.forkserver.program"
STARTED: Final = (sys.executable, "-m", PROGRAM)

both: Final = pytest.mark.parametrize(
    "command", [lambda: STARTED, lambda: forkserver.command(PROGRAM)], ids=["started", "forked"]
)


def run(command: Callable[[], Sequence[str]], *words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(forkserver.ROOT), "WORD": "\u00fc"}
    return subprocess.run(  # type: ignore[call-overload,no-any-return] # options of the caller's
        [*command(), *words], capture_output=True, check=False, env=environment, **options
    )


@both
def test_program_has_arguments_folder_environment_and_streams(
    command: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    done = run(command, "show", "a b", "", "\u00fc", cwd=tmp_path, input=b"typed")

    wanted = f"['show', 'a b', '', '\u00fc'] {tmp_path} \u00fc typed False".encode()
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted + b"\n", b"to stderr\n")


@both
@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("text", 1), ("raise", 1), ("hard", 9), ("kill", -9)])
def test_program_ends_with_its_exit_code(command: Callable[[], Sequence[str]], how: str, code: int) -> None:
    done = run(command, how)

    assert done.returncode == code
    assert (b"Traceback" in done.stderr) is (how == "raise")


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_program_gets_signals(command: Callable[[], Sequence[str]], number: signal.Signals) -> None:
    with subprocess.Popen([*command(), "wait"], cwd=forkserver.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)

        assert (process.stdout.read(), process.wait(60)) == (f"{number.name}\n", 3)


@both
def test_program_without_handler_ends_by_the_signal(command: Callable[[], Sequence[str]]) -> None:
    with subprocess.Popen([*command(), "pause"], cwd=forkserver.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.terminate()

        assert process.wait(60) == -signal.SIGTERM


def test_program_is_in_the_network_namespace_of_the_test() -> None:
    require(reason_unavailable())
    outside = run(lambda: forkserver.command(PROGRAM), "network").stdout

    with network_namespace(["192.0.2.1"]) as network, network.entered():
        inside = run(lambda: forkserver.command(PROGRAM), "network").stdout
        expected = Path("/proc/thread-self/ns/net").readlink()

    assert inside.decode() == f"{expected}\n"
    assert inside != outside
    assert run(lambda: forkserver.command(PROGRAM), "network").stdout == outside


def test_killed_client_takes_program_and_its_children_along() -> None:
    command = [*forkserver.command(PROGRAM), "parent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()

    wait_for("both gone", lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and cmdline(pid) for pid in pids))


def cmdline(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_programs_run_at_the_same_time() -> None:
    processes = [
        subprocess.Popen([*forkserver.command(PROGRAM), "wait"], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
    for process in reversed(processes):
        process.terminate()
        assert process.wait(60) == 3
        assert process.stdout is not None
        process.stdout.close()


def test_server_ends_with_the_process_that_started_it() -> None:
    script = (
        "import os, subprocess, sys; from tests import forkserver\n"
        "subprocess.run([*forkserver.command('tests.forkserver.program'), 'exit'])\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read()\n"
        "print(children, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=forkserver.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    (server,) = map(int, done.stdout.split())
    wait_for("the server gone", lambda: not cmdline(server))
