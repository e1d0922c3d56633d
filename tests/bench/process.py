"""One server under test: started on a core of its own, watched through /proc, stopped by its pid."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tests.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# From spawn to the first answer; the slowest peer needs two seconds on a busy machine.
_START_SECONDS: Final = 30.0
# Between two attempts at a first answer: short against any start-up, long enough to leave the server its core.
_ATTEMPT_SECONDS: Final = 0.002
_ANSWER_SECONDS: Final = 10.0
# Our own server keeps serving while it drains: 10 s, then 20 s at most.
_STOP_SECONDS: Final = 35.0
_LOOK_SECONDS: Final = 0.02
_TAIL: Final = 8192
# The reader shares a core with the load: a line must not be lost because the reader runs late.
_PIPE_BYTES: Final = 1 << 20
# Servers and load alike: 30 times the share of an ordinary process where a core is contended.
_NICE: Final = -15
_PATH: Final = "/mutate?timeout=5s"
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@functools.cache
def precedence() -> tuple[str, ...]:
    """The words in front of a command that let it go before the machine's other tenants; none without the right."""
    first = ("nice", "-n", str(_NICE))
    done = subprocess.run([*first, "nice"], capture_output=True, text=True, check=False, timeout=10)
    return first if done.stdout.strip() == str(_NICE) else ()


def favour(pid: int) -> None:
    """Raise the session of `pid` as well: where the kernel groups processes by session, niceness counts within one.

    The process must lead a session of its own, so that no other process is raised.
    """
    if precedence():
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(_NICE), encoding="ascii")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far, all threads together."""

    cpu_seconds: float
    minor_faults: int
    rss_bytes: int


def usage(pid: int) -> Usage:
    """Read /proc; the kernel's own accounting, in steps of 10 ms of CPU."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - procfs
        # The second field is the program's name in brackets and may hold blanks.
        fields = file.read().rpartition(")")[2].split()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123 - procfs
        rss = next((line.split()[1] for line in file if line.startswith("VmRSS:")), "0")
    return Usage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND,
        minor_faults=int(fields[7]),
        rss_bytes=int(rss) * 1024,
    )


def core_busy_seconds(core: int) -> float:
    """CPU time that all processes together have spent on `core` since boot, the hypervisor's theft included."""
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 - procfs
        line = next(line for line in file if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_guests = map(int, line.split()[1:])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_SECOND


class Output:
    """Reads a server's output as fast as it comes, as a container runtime does; counts lines and keeps the end.

    The thread that reads the stream is the one that closes it.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.lines = 0
        self._tail = b""
        self._stream = stream
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    @property
    def tail(self) -> str:
        """The last few lines."""
        return self._tail.decode(errors="replace")

    def reached(self, lines: int, *, seconds: float) -> bool:
        """Whether there are that many lines, now or within `seconds`."""
        deadline = time.monotonic() + seconds
        while self.lines < lines and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return self.lines >= lines

    def _drain(self) -> None:
        with self._stream as stream:
            while chunk := os.read(stream.fileno(), 1 << 20):
                self.lines += chunk.count(b"\n")
                self._tail = (self._tail + chunk)[-_TAIL:]

    def close(self) -> None:
        """Wait for the end of the output, which comes with the end of the server and of all that it started."""
        self._thread.join(timeout=5)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that has answered at least once."""

    pid: int
    port: int
    startup_seconds: float  # from spawn to the first answer through TLS
    output: Output
    context: ssl.SSLContext

    @property
    def url(self) -> str:
        """Where reviews are posted, as a kube-apiserver does it."""
        return f"https://127.0.0.1:{self.port}{_PATH}"

    def usage(self) -> Usage:
        """What the server has used so far."""
        return usage(self.pid)

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of one answer, on a connection of its own."""
        return _post(self.port, body, self.context)


@contextmanager
def running(
    argv: Sequence[str], *, env: Mapping[str, str], cores: str, port: int, certificate: Path, first: bytes
) -> Iterator[Server]:
    """Start `argv` on `cores`, wait until it answers the review `first` on `port`, and stop it in the end.

    Raises:
        BenchError: It ended early or did not answer in time; the text holds the end of its output.
    """
    context = ssl.create_default_context(cafile=certificate)
    base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")}
    begun = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", cores, *precedence(), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pipesize=_PIPE_BYTES,
        env={**base, **env},
        start_new_session=True,
    )
    favour(process.pid)
    assert process.stdout is not None
    output = Output(process.stdout)
    try:
        _await_answer(process, port, first, context, output)
        yield Server(process.pid, port, time.perf_counter() - begun, output, context)
        if process.poll() is not None:
            raise BenchError(f"{argv[0]} ended with {process.returncode} while it was measured: {output.tail}")
    finally:
        _stop(process)
        output.close()


def free_port() -> int:
    """A loopback port that no process listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _await_answer(
    process: subprocess.Popen[bytes], port: int, first: bytes, context: ssl.SSLContext, output: Output
) -> None:
    deadline = time.perf_counter() + _START_SECONDS
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{process.args!r} ended with {process.returncode}: {output.tail}")
        try:
            status, _ = _post(port, first, context)
        except OSError:
            time.sleep(_ATTEMPT_SECONDS)
            continue
        if status == http.HTTPStatus.OK:
            return
    raise BenchError(f"{process.args!r} gave no answer within {_START_SECONDS:.0f} s: {output.tail}")


def _post(port: int, body: bytes, context: ssl.SSLContext) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS, context=context)
    try:
        connection.request("POST", _PATH, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    # SIGINT: our server skips the wait for endpoints that SIGTERM stands for, and all the others end as well.
    process.send_signal(2)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
