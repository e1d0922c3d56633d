"""`run` as a process of its own, with small children written in Python that tell what happens to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tests import forkserver
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence
    from pathlib import Path

COMMAND: Final = (sys.executable, "-m", "injector")
# Seconds; a machine may have much else to do.
PATIENCE: Final = 120.0
MARKER: Final = "marker-0123456789abcdef"
OTHER: Final = "marker-abcdef0123456789"
THIRD: Final = "marker-zyxwvutsrqponmlk"

# Appends its tokens' last characters and every signal to a file. SIGTERM ends it with code 5: at once, when a file says
# so if it is to be slow, never if it is to be deaf.
CHILD: Final = """
import os, signal, sys, time
def tell(word):
    with open(sys.argv[1], "a") as file:
        file.write(word + "\\n")
def on(number, frame):
    tell(signal.Signals(number).name)
    if number == signal.SIGTERM:
        while "slow" in sys.argv and not os.path.exists(sys.argv[1] + ".go"):
            time.sleep(0.01)
        sys.exit(5)
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGWINCH):
    signal.signal(number, on)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else on)
tell("started with " + os.environ["DAPR_API_TOKEN"][-4:] + " and " + os.environ.get("APP_API_TOKEN", "none")[-4:])
while True:
    time.sleep(0.01)
"""


def secret(path: Path, value: str) -> Path:
    """A file with a token in it, put in place as a whole, as `mv` does it."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(value)
    temporary.chmod(0o600)
    return temporary.replace(path)


def run(
    *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`run` to its end."""
    done = subprocess.run(
        [*forkserver.command(), "run", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def probed(*arguments: str | Path, token: str = "", env: dict[str, str] | None = None) -> tuple[int, Any, str]:
    """Exit code, targets, and all that was written."""
    command = [*forkserver.command(), "probe", "-o", "json", "--timeout", "60", *map(str, arguments)]
    if token:
        command.append("--token-stdin")
    done = subprocess.run(
        command, input=token, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False
    )
    assert "marker" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)["targets"] if done.stdout else None, done.stderr


class Child:
    """A running `run`, whose child writes what it sees into a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors

    @property
    def words(self) -> list[str]:
        """What the children have written so far."""
        return self._output.read_text().splitlines() if self._output.exists() else []

    def let_go(self) -> None:
        """Let a slow child end."""
        self._output.with_name(f"{self._output.name}.go").touch()

    @property
    def stderr(self) -> str:
        """What `run` itself has logged."""
        return self._errors.read_text()

    def wait_for_words(self, *words: str) -> None:
        """Wait until exactly these words have been written."""
        wait_for(
            f"the words {words}",
            lambda: self.words == list(words),
            timeout_seconds=PATIENCE,
            describe=lambda: f"written: {self.words}; stderr: {self.stderr}",
        )

    def wait_for_stderr(self, words: str) -> None:
        """Wait until `run` has logged this."""
        wait_for(
            f"{words!r} on stderr", lambda: words in self.stderr, timeout_seconds=PATIENCE, describe=lambda: self.stderr
        )

    def send(self, number: signal.Signals) -> None:
        """A signal to `run`, from another process."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code of `run`."""
        return self.process.wait(PATIENCE)


@contextmanager
def running(folder: Path, options: Sequence[str | Path], *words: str) -> Iterator[Child]:
    """Start `run OPTIONS -- CHILD`; kill what is left of it."""
    output, errors = folder / "output", folder / "errors"
    command = [*COMMAND, "run", *map(str, options), "--", sys.executable, "-c", CHILD, str(output), *words]
    with errors.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    child = Child(process, output, errors)
    try:
        yield child
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait(30)
