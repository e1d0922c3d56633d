"""A real `serve` process: started, asked, stopped, and its log read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests import forkserver
from tests.controlplane.polling import wait_for
from tests.http.certificates import Files, Issuer, key_pem, new_key
from tests.http.client import PATIENCE, client_context, connected, ops, sample
from tests.http.reviews import review

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.http.client import Answer, Connection


class Serving:
    """One running process. Its log lines are collected as they come.

    The thread that reads the pipe is the one that closes it: a pipe that is closed under a reader breaks the reader.
    """

    def __init__(self, process: subprocess.Popen[bytes], files: Files, issuer: Issuer, *, deaf: bool = False) -> None:
        self.port = self.ops_port = 0  # until it listens
        self.process = process
        self.files = files
        self.issuer = issuer
        self.context: ssl.SSLContext = client_context(issuer.pem)
        self.lines: list[str] = []
        self._deaf = deaf
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_listening(self) -> None:
        """Wait for the ports."""
        listening = self.wait_for_line("listening")
        self.port = int(listening["port"])
        self.ops_port = int(listening["ops_port"])

    def connect(self, context: ssl.SSLContext | None = None) -> AbstractContextManager[Connection]:
        """A TLS connection to the admission port."""
        return connected(self.port, context or self.context)

    def post(self, body: bytes, path: str = "/mutate?timeout=10s") -> Answer:
        """One review on a connection of its own."""
        with self.connect() as connection:
            return connection.request(body, path=path)

    def is_serving(self) -> bool:
        """Whether a review on a connection of its own is answered now."""
        try:
            return self.post(review()).status == 200
        except OSError:
            return False

    def ops(self, path: str) -> Answer:
        """GET from the ops port."""
        return ops(self.ops_port, path)

    def sample(self, series: str) -> float:
        """One metric's value; `series` without our prefix."""
        return sample(self.ops_port, f"dapr_token_injector_{series}")

    @property
    def log(self) -> str:
        """All that was written to stderr so far."""
        return "\n".join(self.lines)

    def logged(self, message: str) -> list[dict[str, Any]]:
        """All lines so far with this message."""
        found = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [line for line in found if line["message"] == message]

    def wait_for_line(self, message: str) -> dict[str, Any]:
        """The first line with this message, once it is there."""
        return wait_for(
            f"log line {message!r}",
            lambda: self.logged(message)[:1],
            timeout_seconds=PATIENCE,
            describe=lambda: self.log,
        )[0]

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for the end, and for the last line of the log."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def peak_memory(self) -> int:
        """Largest resident size so far, in bytes; only of one that was started from nothing."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123 - no file of a tree
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            for line in pipe:
                self.lines.append(line.decode().rstrip("\n"))
                if self._deaf and "listening" in self.lines[-1]:
                    self.process.wait()  # the pipe stays open, and full, for as long as the process lives
                    return


@contextmanager
def serving(
    folder: Path,
    *flags: str,
    files: Files | None = None,
    issuer: Issuer | None = None,
    deaf: bool = False,
    from_nothing: bool = False,
) -> Iterator[Serving]:
    """`serve` on free ports with a fresh certificate; ended at the latest when the block ends.

    `deaf`: the log is not read once it listens. `from_nothing`: not a fork, so that it has the memory of a `serve`
    alone and the limits of this process. Requests are shed for a late event loop only after 30 s, unless `flags` say
    less: other programs of a busy machine hold it up for longer than the default allows.
    """
    issuer = issuer or Issuer()
    key = new_key()
    files = files or Files.write(folder, issuer.issue(key), key_pem(key))
    command = [
        *((sys.executable, "-m", "injector") if from_nothing else forkserver.command()),
        *("serve", "--tls-mode", "files"),
        *("--tls-cert-file", str(files.chain), "--tls-private-key-file", str(files.key)),
        *("--host", "127.0.0.1", "--port", "0", "--ops-host", "127.0.0.1", "--ops-port", "0", "--log-format", "json"),
        *("--max-lag", "30"),
        *flags,
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DAPR_TOKEN_INJECTOR_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    server = Serving(process, files, issuer, deaf=deaf)
    try:
        server.wait_until_listening()
        yield server
    finally:
        # The signal that skips the wait, and still lets it end well.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        server.exit_code()
