"""Forks processes that have already imported the project: `python -m tests.forkserver.server DESCRIPTOR`.

The descriptor is that of a socket that listens. The server ends with its standard input, that is, with the process that
started it, and so do its programs. A program whose client has gone is killed, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from injector.cli.main import COMMANDS
from tests.forkserver.client import NUMBER

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES: Final = 5  # three standard streams, the job, the network namespace
_CLONE_NEWNET: Final = 0x40000000
# What commands import when they need it. gRPC is not among it: it reads its environment when it is imported.
_LATER: Final = (
    "injector.cli.certificate_connection",
    "injector.cli.run.supervise",
    "injector.cli.status.views",
    "injector.cli.status.watch",
    "injector.tokens.secret_key_store",
    "injector.webhook.certs.pair",
    "injector.webhook.certs.self_managed",
    "injector.webhook.compose",
    "rich.live",
    "rich.table",
)


@dataclass(frozen=True, slots=True)
class Job:
    """A program: `python -m MODULE ARGUMENTS...` in a folder, with an environment."""

    folder: bytes
    module: str
    arguments: list[str]
    environment: dict[bytes, bytes]

    @classmethod
    def read(cls, descriptor: int) -> Job:
        """Read what a client wrote, and close its file."""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            folder, count, *rest = file.read().split(b"\0")
        module, *arguments = map(os.fsdecode, rest[: int(count)])
        pairs = (variable.partition(b"=") for variable in rest[int(count) :])
        return cls(folder, module, arguments, {name: value for name, _, value in pairs})


class Server:
    """The programs that run, by the descriptor of their process and by that of their client."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._running: dict[int, tuple[int, socket.socket]] = {}
        self._pids: dict[int, int] = {}
        self._watched = select.poll()
        self._watched.register(sys.stdin, select.POLLIN)
        self._watched.register(listening, select.POLLIN)

    def serve(self) -> Job | None:
        """Fork until standard input ends. Returns in each fork with its job, and at the end with None."""
        while True:
            for descriptor, _ in self._watched.poll():
                if descriptor == sys.stdin.fileno():
                    for pid, _ in self._running.values():
                        _kill(pid)
                    return None
                if descriptor in self._running:
                    self._report(descriptor)
                elif descriptor in self._pids:  # the client is gone
                    _kill(self._pids.pop(descriptor))
                    self._watched.unregister(descriptor)
                elif descriptor == self._listening.fileno():
                    job = self._fork()
                    if job is not None:
                        return job

    def _fork(self) -> Job | None:
        """Start a program; the job in its process, None here."""
        client, _ = self._listening.accept()
        _, files, _, _ = socket.recv_fds(client, 1, _FILES)
        pid = os.fork() if files else -1
        if pid == 0:
            client.close()
            self._forget()
            return _become(files)
        for file in files:
            os.close(file)
        if pid > 0:
            _send(client, pid)
            process = os.pidfd_open(pid)
            self._running[process] = pid, client
            self._pids[client.fileno()] = pid
            self._watched.register(process, select.POLLIN)
            self._watched.register(client, 0)  # its end is always reported
        return None

    def _report(self, process: int) -> None:
        """Tell a client how its program has ended."""
        pid, client = self._running.pop(process)
        _, status = os.waitpid(pid, 0)
        self._watched.unregister(process)
        os.close(process)
        with client:
            if self._pids.pop(client.fileno(), None) is not None:
                self._watched.unregister(client)
                _send(client, os.waitstatus_to_exitcode(status))

    def _forget(self) -> None:
        """Close in a fork what is the server's."""
        self._listening.close()
        for process, (_, client) in self._running.items():
            os.close(process)
            client.close()


def _send(client: socket.socket, number: int) -> None:
    """Send a number to a client, if it is still there; its end is noticed elsewhere."""
    with contextlib.suppress(OSError):
        client.send(NUMBER.pack(number))


def _kill(pid: int) -> None:
    """End a program and what it has started; it may not yet be the leader of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        os.killpg(pid, signal.SIGKILL)


def _become(files: Sequence[int]) -> Job:
    """Take over what the client has passed on: streams, network namespace, folder and environment."""
    *streams, content, network = files
    job = Job.read(content)
    os.setsid()
    if Path(f"/proc/self/fd/{network}").readlink() != Path("/proc/self/ns/net").readlink():
        ctypes.CDLL(None).setns(network, _CLONE_NEWNET)
    os.close(network)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    encoding = sys.stdout.encoding
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False)
    os.chdir(job.folder)
    os.environb.clear()
    os.environb.update(job.environment)
    time.tzset()
    return job


def main() -> None:
    """Import, serve, and become a program in each fork."""
    for module in (*(module for module, _ in COMMANDS.values()), *_LATER):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # forks do not copy pages only because the collector looks at them
    listening = socket.socket(fileno=int(sys.argv[1]))
    folder = Path(listening.getsockname()).parent
    job = Server(listening).serve()
    if job is None:
        shutil.rmtree(folder)
    else:
        sys.argv = ["", *job.arguments]
        runpy.run_module(job.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
