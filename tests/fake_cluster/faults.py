"""What a broken API server, or a proxy before it, sends in place of an answer."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    Send = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass(slots=True)
class Fault:
    """Requests whose method and path match the pattern get what `send` makes of the answer, that many times."""

    pattern: str  # as in `GET .*/secrets`
    send: Send
    times: int = 1 << 30
    skip: int = 0  # the first requests, which are answered
    lock: threading.Lock = field(default_factory=threading.Lock)

    def applies(self, call: str) -> bool:
        """Whether this request gets the fault; counts it."""
        with self.lock:
            if not re.match(self.pattern, call) or not self.times:
                return False
            if self.skip:
                self.skip -= 1
                return False
            self.times -= 1
            return True


def cut(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Half of the body, with the length of the whole."""
    _begin(handler, length=len(content))
    handler.wfile.write(content[: len(content) // 2])


def cut_unnoticed(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Half of the body, and nothing that shows the length of the whole."""
    _begin(handler)
    handler.wfile.write(content[: len(content) // 2])


def garbage(text: bytes) -> Send:
    """A body of another program."""

    def send(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        del content
        _begin(handler, length=len(text))
        handler.wfile.write(text)

    return send


def endless(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200) -> None:
    """A body that does not end, as fast as the client reads it."""
    del content
    _begin(handler, status=status)
    handler.wfile.write(b'{"items":["')
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


def drip(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """The body, a byte in each tenth of a second."""
    _begin(handler, length=len(content))
    with contextlib.suppress(OSError):
        for at in range(len(content)):
            handler.wfile.write(content[at : at + 1])
            time.sleep(0.1)


def silence(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Nothing, until the client closes the connection."""
    del content
    handler.close_connection = True
    handler.connection.recv(1)


def closed(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Nothing; the connection is closed."""
    del content
    handler.close_connection = True


def _begin(handler: BaseHTTPRequestHandler, length: int | None = None, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
