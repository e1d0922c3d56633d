"""Connections that are held open on a port, and opened again whenever the server closes them."""

from __future__ import annotations

import resource
import select
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.http.client import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Holders:
    """So many connections. Each sends the same bytes when it is opened, and reads what comes."""

    def __init__(self, port: int, number: int, sends: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        self.opened = 0  # over all rounds
        self._port = port
        self._number = number
        self._sends = sends
        self._context = context
        self._held: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def __len__(self) -> int:
        return len(self._held)

    def fill(self) -> None:
        """Open what is missing."""
        while len(self._held) < self._number:
            self._open()

    def reopen(self, timeout_seconds: float = 0.0) -> int:
        """Find the connections that were closed, and open as many; returns how many that were."""
        closed = [number for number, _ in self._poll.poll(timeout_seconds * 1000) if self._is_closed(number)]
        for number in closed:
            self._forget(number)
        self.fill()
        return len(closed)

    def close(self) -> None:
        """End all of them."""
        for number in tuple(self._held):
            self._forget(number)

    def _open(self) -> None:
        channel = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
        try:
            if self._context is not None:
                channel = self._context.wrap_socket(channel, server_hostname="localhost")
            if self._sends:
                channel.sendall(self._sends)
        except OSError:  # closed before it was done: another one takes its place
            channel.close()
            return
        channel.setblocking(False)
        self.opened += 1
        self._held[channel.fileno()] = channel
        self._poll.register(channel.fileno(), select.POLLIN)

    def _is_closed(self, number: int) -> bool:
        try:
            while self._held[number].recv(65536):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True

    def _forget(self, number: int) -> None:
        self._poll.unregister(number)
        self._held.pop(number).close()


@contextmanager
def held(port: int, number: int, sends: bytes = b"", context: ssl.SSLContext | None = None) -> Iterator[Holders]:
    """Hold so many connections, and open them again from another thread, for as long as the block lasts.

    The thread rests twice as long as it worked: connections that are closed at once would otherwise take all of the
    machine, from the server, too.
    """
    holders, ended = Holders(port, number, sends, context), threading.Event()
    holders.fill()

    def work() -> None:
        while not ended.is_set():
            began = time.monotonic()
            holders.reopen(_LOOK)
            ended.wait(2 * (time.monotonic() - began))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield holders
    finally:
        ended.set()
        thread.join(PATIENCE)
        holders.close()


_LOOK = 0.05  # seconds that one look for closed connections waits at most


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    """Let this process have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
