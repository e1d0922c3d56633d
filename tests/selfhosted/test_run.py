from __future__ import annotations

import os
import pty
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.controlplane.polling import wait_for
from tests.selfhosted.running import CHILD, COMMAND, MARKER, OTHER, PATIENCE, THIRD, Child, run, running, secret

SUPERVISED: Final = ("--restart-on-change", "--check-every", "0.05")
FORWARDED: Final = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
LEADER: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def token(tmp_path: Path) -> Path:
    return secret(tmp_path / "token", MARKER)


@pytest.fixture(params=[(), SUPERVISED], ids=["plain", "restart-on-change"])
def options(request: pytest.FixtureRequest, token: Path) -> list[str | Path]:
    return ["--token-file", token, *request.param]


def test_command_has_the_token_in_its_environment(options: list[str | Path]) -> None:
    done = run(*options, "--", "sh", "-c", "echo $DAPR_API_TOKEN")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{MARKER}\n", "")


def test_token_overrides_inherited_variable(options: list[str | Path]) -> None:
    done = run(*options, "sh", "-c", "echo $DAPR_API_TOKEN", env={"DAPR_API_TOKEN": OTHER})

    assert done.stdout == f"{MARKER}\n"


def test_both_tokens_are_given(options: list[str | Path], tmp_path: Path) -> None:
    app = secret(tmp_path / "app", OTHER)

    done = run(*options, "--app-token-file", app, "--", "sh", "-c", "echo $DAPR_API_TOKEN $APP_API_TOKEN")

    assert done.stdout == f"{MARKER} {OTHER}\n"


def test_token_comes_from_standard_input() -> None:
    done = run("--token-stdin", "--", "sh", "-c", "echo $DAPR_API_TOKEN; wc -c", stdin=MARKER.encode())

    assert done.stdout.split() == [MARKER, "0"]


def test_token_comes_from_a_pipe() -> None:
    command = (
        f"exec {sys.executable} -m injector run --token-file <(printf %s {MARKER}) -- sh -c 'echo $DAPR_API_TOKEN'"
    )

    assert subprocess.check_output(["bash", "-c", command], text=True) == f"{MARKER}\n"


def test_standard_input_is_the_commands(options: list[str | Path]) -> None:
    assert run(*options, "--", "cat", stdin=b"a line\n").stdout == "a line\n"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 77, 255])
def test_exit_code_is_the_commands(options: list[str | Path], code: int) -> None:
    assert run(*options, "--", "sh", "-c", f"exit {code}").returncode == code


def test_end_by_a_signal_is_seen_by_a_shell(options: list[str | Path]) -> None:
    done = run(*options, "--", "sh", "-c", "kill -9 $$")

    assert done.returncode in {-9, 128 + 9}  # the first when we have become the command: shells say 137 of both


def test_broken_pipe_ends_the_command(options: list[str | Path]) -> None:
    command = " ".join([sys.executable, "-m", "injector", "run", *map(str, options), "--", "yes", "|", "head", "-n1"])

    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["y", "141"]
    assert done.stderr == ""


def test_options_of_the_command_are_its_own(options: list[str | Path]) -> None:
    assert run(*options, "echo", "--token-file", "-h", "--", "x").stdout == "--token-file -h -- x\n"


@pytest.mark.parametrize("number", FORWARDED)
def test_signals_are_forwarded(options: list[str | Path], tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, options) as child:
        child.wait_for_words("started with cdef and none")
        child.send(number)
        child.wait_for_words("started with cdef and none", number.name)
        child.send(signal.SIGTERM)

        assert child.wait() == 5

    assert child.words == ["started with cdef and none", number.name, "SIGTERM"]


@pytest.mark.parametrize("supervised", [(), SUPERVISED], ids=["plain", "restart-on-change"])
def test_ctrl_c_on_terminal_reaches_command_once(supervised: tuple[str, ...], token: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    output = tmp_path / "output"
    script = tmp_path / "child.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "def tell(word):\n"
        "    open(sys.argv[1], 'a').write(word + '\\n')\n"
        "signal.signal(signal.SIGINT, lambda *_: tell('SIGINT'))\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (tell('SIGUSR1'), sys.exit(0)))\n"
        "tell(f'{os.isatty(0)} {os.tcgetpgrp(0) == os.getpgrp()}')\n"
        "tell(sys.stdin.readline().strip())\n"
        "while True: time.sleep(0.01)\n"
    )
    command = [*COMMAND, "run", "--token-file", str(token), *supervised, "--", sys.executable, str(script), str(output)]
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER, *command],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    child = Child(process, output, output)
    try:
        child.wait_for_words("True True")
        os.write(leader, b"typed\n")
        child.wait_for_words("True True", "typed")
        os.write(leader, b"\x03")
        child.wait_for_words("True True", "typed", "SIGINT")
        child.send(signal.SIGUSR1)
        assert child.wait() == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        os.close(leader)
        os.close(follower)
    assert child.words == ["True True", "typed", "SIGINT", "SIGUSR1"]


# --- restart ---


def test_new_token_restarts_the_command(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        secret(token, OTHER)
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with 6789 and none")
        secret(token, THIRD)
        child.wait_for_words(
            "started with cdef and none",
            "SIGTERM",
            "started with 6789 and none",
            "SIGTERM",
            "started with nmlk and none",
        )
        child.send(signal.SIGTERM)

        assert child.wait() == 5

    assert child.stderr.count(f"{token}: new token; restarting {sys.executable}") == 2


def test_new_app_token_restarts_the_command(token: Path, tmp_path: Path) -> None:
    app = secret(tmp_path / "app", OTHER)

    with running(tmp_path, ["--token-file", token, "--app-token-file", app, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and 6789")
        secret(app, THIRD)
        child.wait_for_words("started with cdef and 6789", "SIGTERM", "started with cdef and nmlk")


def test_swapped_link_is_a_change(tmp_path: Path) -> None:
    """As the kubelet updates a mounted Secret."""
    for name, value in (("one", MARKER), ("two", OTHER)):
        (tmp_path / name).mkdir()
        secret(tmp_path / name / "token", value)
    link = tmp_path / "data"
    link.symlink_to("one")

    with running(tmp_path, ["--token-file", link / "token", *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        temporary = tmp_path / "data.new"
        temporary.symlink_to("two")
        temporary.replace(link)
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with 6789 and none")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "it is empty"),
        ("short", "it has 5 bytes"),
        (f"{OTHER}\n", "it ends with a newline"),
        ("x" * 5000, "it has more than 4,096 bytes"),
    ],
)
def test_invalid_new_token_keeps_command_and_is_reported_once(
    token: Path, tmp_path: Path, value: str, why: str
) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        secret(token, value)
        child.wait_for_stderr("keeps its token")
        assert f"{token}: not a token: {why}" in child.stderr
        secret(token, THIRD)  # and a good one counts again
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with nmlk and none")

    assert child.stderr.count("keeps its token") == 1


def test_missing_token_file_keeps_command_running(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        token.unlink()
        child.wait_for_stderr(f"--token-file {token}: no such file or directory; {sys.executable} keeps its token")
        secret(token, OTHER)
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with 6789 and none")


def test_same_token_written_again_restarts_nothing(token: Path, tmp_path: Path) -> None:
    app = secret(tmp_path / "app", OTHER)

    with running(tmp_path, ["--token-file", token, "--app-token-file", app, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and 6789")
        secret(token, MARKER)
        secret(app, THIRD)  # looked at after the other file: when this one counts, that one did not
        child.wait_for_words("started with cdef and 6789", "SIGTERM", "started with cdef and nmlk")

    assert str(token) not in child.stderr


def test_command_that_ignores_sigterm_is_killed_after_grace(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED, "--grace", "0.2"], "deaf") as child:
        child.wait_for_words("started with cdef and none")
        secret(token, OTHER)
        child.wait_for_words("started with cdef and none", "started with 6789 and none")

    assert "did not end within 0.2 s: sending SIGKILL" in child.stderr


def test_sigterm_during_restart_ends_the_supervisor(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED, "--grace", "3600"], "slow") as child:
        child.wait_for_words("started with cdef and none")
        secret(token, OTHER)
        child.wait_for_words("started with cdef and none", "SIGTERM")
        child.send(signal.SIGTERM)
        child.wait_for_words("started with cdef and none", "SIGTERM", "SIGTERM")
        child.let_go()

        assert child.wait() == 5

    assert child.words == ["started with cdef and none", "SIGTERM", "SIGTERM"]


def test_command_that_exits_is_not_restarted(token: Path, tmp_path: Path) -> None:
    counted = tmp_path / "count"

    done = run("--token-file", token, *SUPERVISED, "--", "sh", "-c", f"echo >> {counted}; exit 4")

    assert done.returncode == 4
    assert counted.read_text() == "\n"


def test_orphans_are_reaped(token: Path, tmp_path: Path) -> None:
    """As process 1 of a container, which becomes the parent of orphans."""
    code = (
        "import ctypes, os, sys\n"
        "ctypes.CDLL(None).prctl(36, 1)\n"  # PR_SET_CHILD_SUBREAPER survives exec
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    pid = tmp_path / "pid"
    script = f"(sh -c 'echo $$ > {pid}.part; mv {pid}.part {pid}; read x < {tmp_path}/go' &) ; read x < {tmp_path}/end"
    for name in ("go", "end"):
        os.mkfifo(tmp_path / name)
    command = [sys.executable, "-c", code, "-m", "injector", "run", "--token-file", str(token), *SUPERVISED]
    process = subprocess.Popen([*command, "--", "sh", "-c", script])
    try:
        wait_for("the orphan", pid.exists, timeout_seconds=PATIENCE)
        (tmp_path / "go").write_text("\n")
        wait_for(
            "the orphan's collection",
            lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(),
            timeout_seconds=PATIENCE,
        )
        (tmp_path / "end").write_text("\n")
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


# --- how it ends ---


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_command_gets_sigterm_when_supervisor_is_killed(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        (pid,) = map(int, Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text().split())
        child.process.kill()
        child.wait_for_words("started with cdef and none", "SIGTERM")
        wait_for("the command's end", lambda: not is_running(pid), timeout_seconds=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP])
def test_supervisor_ends_by_the_commands_signal(options: list[str | Path], number: signal.Signals) -> None:
    done = run(*options, "--", "sh", "-c", f"kill -{int(number)} $$")

    assert done.returncode == -number


def test_sigwinch_from_another_process_is_forwarded(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        child.send(signal.SIGWINCH)
        child.wait_for_words("started with cdef and none", "SIGWINCH")


def test_inherited_files_are_the_commands(options: list[str | Path]) -> None:
    read, write = os.pipe()
    os.write(write, b"inherited\n")
    os.close(write)
    command = [*COMMAND, "run", *map(str, options), "--", "sh", "-c", f"cat /dev/fd/{read}"]
    try:
        assert subprocess.check_output(command, pass_fds=[read]) == b"inherited\n"
    finally:
        os.close(read)


def test_closed_stderr_does_not_end_the_command(token: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    read, write = os.pipe()
    command = [*COMMAND, "run", "--token-file", str(token), *SUPERVISED, "--", sys.executable, "-c", CHILD, str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=write)
    os.close(write)
    os.close(read)
    child = Child(process, output, Path(os.devnull))
    try:
        child.wait_for_words("started with cdef and none")
        secret(token, OTHER)
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with 6789 and none")
        child.send(signal.SIGTERM)
        assert child.wait() == 5
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def test_file_replaced_by_pipe_is_reported_without_blocking(token: Path, tmp_path: Path) -> None:
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        token.unlink()
        os.mkfifo(token)
        child.wait_for_stderr(f"{token}: no longer a regular file")
        token.unlink()
        secret(token, OTHER)
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with 6789 and none")


# --- usage errors ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "true"], "use either --token-file or --token-stdin"),
        (["--token-file", "T", "--token-stdin", "--", "true"], "use either --token-file or --token-stdin"),
        (["--token-stdin", "--restart-on-change", "--", "true"], "standard input does not change"),
        (
            ["--token-file", "/dev/null", "--restart-on-change", "--", "true"],
            "not a regular file, which --restart-on-change requires",
        ),
        (
            ["--token-file", "-", "--restart-on-change", "--", "true"],
            "not a regular file, which --restart-on-change requires",
        ),
        (["--token-file", "T"], "Missing argument"),
        (["--token-file", "T", "--", "no-such-command"], "no-such-command: command not found"),
        (["--token-file", "T", "--restart-on-change", "--", "no-such-command"], "no-such-command: command not found"),
        (["--token-file", "T", "--", "/"], "/: cannot start: permission denied"),
        (["--token-file", "T", "--restart-on-change", "--", "/"], "/: cannot start: permission denied"),
        (["--token-file", "T", "--", ""], "COMMAND: empty; give the command to run"),
        (["--token-file", "/no/such", "--", "true"], "--token-file /no/such: no such file or directory"),
        (["--token-file", "/dev/null", "--", "true"], "/dev/null: not a token: it is empty"),
        (["--token-file", "/dev/zero", "--", "true"], "/dev/zero: not a token: byte 1 is a control character"),
        (["--token-file", "/", "--", "true"], "is a directory"),
        (
            ["--token-file", "T", "--app-token-file", "/no/such", "--", "true"],
            "--token-file /no/such: no such file or directory",
        ),
        (["--token-file", "T", "--check-every", "0", "--", "true"], "0.05<=x"),
    ],
)
def test_usage_error_is_reported_in_one_line(arguments: list[str], message: str, token: Path) -> None:
    done = run(*(str(token) if word == "T" else word for word in arguments))

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_file_open_to_others_is_noted(token: Path) -> None:
    token.chmod(0o644)

    done = run("--token-file", token, "--", "true")

    assert done.returncode == 0
    assert done.stderr == f"note: {token}: other users can read it; run chmod 600\n"


# --- secrecy ---


def test_run_shows_no_token_in_arguments_or_output(tmp_path: Path) -> None:
    # Tokens of its own: other tests at the same time may show theirs.
    first, second = (f"marker-{secrets.token_hex(12)}-{end}" for end in ("cdef", "6789"))
    token = secret(tmp_path / "token", first)
    with running(tmp_path, ["--token-file", token, *SUPERVISED]) as child:
        child.wait_for_words("started with cdef and none")
        secret(token, second)
        child.wait_for_words("started with cdef and none", "SIGTERM", "started with 6789 and none")
        for entry in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "comm", "status"):
                try:
                    shown = (entry / name).read_bytes()
                except OSError:
                    continue  # it has ended
                assert first.encode() not in shown
                assert second.encode() not in shown
        supervisor = Path(f"/proc/{child.process.pid}/environ").read_bytes()

        assert b"marker-" not in supervisor
    assert "marker-" not in child.stderr


@pytest.mark.parametrize("value", [f"{MARKER}\n", f"{MARKER} {OTHER}", f"{MARKER}\0", f"ü{MARKER}", MARKER * 300])
def test_bad_token_is_never_shown(tmp_path: Path, value: str) -> None:
    bad = secret(tmp_path / "bad", value)

    for done in (run("--token-file", bad, "--", "true"), run("--token-stdin", "--", "true", stdin=value.encode())):
        assert done.returncode == 2
        assert "marker" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run --token-", {"--token-file", "--token-stdin"}),
        ("probe --token-", {"--token-file", "--token-stdin"}),
        ("probe --accept m", {"metadata-port", "metrics-port"}),
    ],
)
def test_completion_offers_flags_and_no_value(typed: str, offered: set[str]) -> None:
    env = {
        "_DAPR_TOKEN_INJECTOR_COMPLETE": "bash_complete",
        "COMP_WORDS": f"dapr-token-injector {typed}",
        "COMP_CWORD": str(len(typed.split())),
        "DAPR_API_TOKEN": MARKER,
    }
    script = Path(sys.executable).with_name("dapr-token-injector")

    done = subprocess.run([script], env={**os.environ, **env}, capture_output=True, text=True, check=True)

    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered
    assert "marker" not in done.stdout + done.stderr
