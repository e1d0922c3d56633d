"""Two commands at the same time: `tests.alongside`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.controlplane.polling import wait_for

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "tests.alongside"]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [("true", "true", 0), ("false", "true", 1), ("true", "exit 3", 3), ("sh -c 'exit 4'", "exit 3", 3)],
)
def test_fails_if_one_of_them_fails(first: str, second: str, code: int) -> None:
    ran = subprocess.run([*COMMAND, first, "--", "sh", "-c", second], cwd=ROOT, capture_output=True, check=False)
    assert ran.returncode == code


def test_output_of_the_first_is_in_one_piece() -> None:
    first = "sh -c 'echo one; echo two >&2; echo three'"
    ran = subprocess.run(
        [*COMMAND, first, "--", "echo", "alone"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "alone\n" in ran.stdout
    assert f"\n$ {first}\none\ntwo\nthree\n" in ran.stdout
    assert (ran.stderr, ran.returncode) == ("", 0)


def test_last_lines_of_the_first_are_repeated_if_it_failed() -> None:
    first = "sh -c 'seq 100; exit 1'"
    ran = subprocess.run(
        [*COMMAND, first, "--", "echo", "alone"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = "".join(f"{number}\n" for number in range(61, 101))
    assert ran.stdout.endswith(f"\n$ {first}\nfailed:\n{last}")
    assert ran.stdout.count("\n60\n") == 1


def test_interrupt_ends_both(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    first = f"sh -c 'trap \"echo interrupted; exit 1\" INT; echo > {begun}; while :; do sleep 0.05; done'"
    process = subprocess.Popen(
        [*COMMAND, first, "--", "sleep", "600"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for("both commands", lambda: begun.exists() and "sleep" in _children(process.pid))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "interrupted" in output
    assert process.returncode == 128 + signal.SIGINT


def test_interrupt_after_the_first_has_ended_ends_the_second() -> None:
    process = subprocess.Popen(
        [*COMMAND, "echo ended", "--", "sleep", "600"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == ["\n", "$ echo ended\n", "ended\n"]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.communicate()


# Interrupted when the second command is to be started.
_EARLY = """
import signal, subprocess, sys
from tests import alongside

popen, started = subprocess.Popen, []

def start(*arguments, **options):
    if started:
        signal.raise_signal(signal.SIGINT)
    started.append(popen(*arguments, **options))
    return started[-1]

subprocess.Popen = start
sys.exit(alongside.main())
"""


def test_interrupt_before_the_second_has_begun_ends_it() -> None:
    command = [sys.executable, "-c", _EARLY, "true", "--", "sleep", "600"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert ran.returncode == 128 + signal.SIGINT


def _children(pid: int) -> str:
    """Return the names of a process's children."""
    numbers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return " ".join(Path(f"/proc/{number}/comm").read_text().strip() for number in numbers)


def test_usage_names_both_commands() -> None:
    ran = subprocess.run([*COMMAND, "true"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, "'COMMAND' -- OTHER COMMAND" in ran.stderr) == (2, True)
