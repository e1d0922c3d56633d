"""Programs that never outlive the process that started them.

Each runs in a session of its own, so that Ctrl-C on the terminal reaches only us and we stop things in
order. Linux kills it when the thread that started it ends (PR_SET_PDEATHSIG), so not even SIGKILL of the
test run leaves one behind; start programs from the main thread. Every program is stopped by its own
process id.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.controlplane.errors import HarnessError, ProcessDiedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A separate interpreter sets the death signal and then becomes the program: code between fork and exec
# (`preexec_fn`) may deadlock in a process with threads. Its parent may have died before prctl took
# effect, so it looks once more.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the starting process is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class ManagedProcess:
    """A running program, its name in messages, and the file that takes its stdout and stderr.

    The file may hold what an earlier program of that name wrote, a port that is no longer served among it: `log` leaves
    it out.
    """

    name: str
    log_path: Path
    popen: subprocess.Popen[bytes]
    log_start: int = 0  # bytes

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None
    ) -> ManagedProcess:
        """Start `command` (its first word a path); `env` is added to ours."""
        wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        with log_path.open("ab") as log:
            log_start = log.tell()
            popen = subprocess.Popen(
                [*wrapper, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return cls(name, log_path, popen, log_start)

    @property
    def pid(self) -> int:
        """Process id of the program itself."""
        return self.popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        """Everything the program has written so far."""
        return self.log_path.read_bytes()[self.log_start :].decode("utf-8", "replace")

    def ensure_running(self) -> None:
        """Pass when the program runs.

        Raises:
            ProcessDiedError: it has ended.
        """
        returncode = self.popen.poll()
        if returncode is not None:
            raise ProcessDiedError(self.name, returncode, "\n".join(self.log().splitlines()[-20:]))

    def stop(self, *, timeout_seconds: float = 10.0) -> int:
        """End the program with SIGTERM, with SIGKILL after `timeout_seconds`; return its status."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End the program with SIGKILL; return its status."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)
        return self.popen.wait()


# Below those that kernels give to outgoing connections (ip_local_port_range starts at 32768) and NodePorts (30000).
_PORTS: Final = range(12_000, 30_000)
_RESERVED: Final[list[int]] = []  # descriptors of the locks; the kernel releases them with the process


def free_port() -> int:
    """Return a free loopback TCP port; no other process of the tests gets it while this one runs.

    Raises:
        HarnessError: all ports are in use.
    """
    folder = Path(f"/tmp/dapr-token-injector-ports-{os.getuid()}")  # noqa: S108 - one for all runs, with any TMPDIR
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in random.sample(_PORTS, len(_PORTS)):
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
        else:
            _RESERVED.append(descriptor)
            return port
    raise HarnessError("there is no free port")
