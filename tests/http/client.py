"""A client that can misbehave: bytes over one TLS connection, and answers parsed by the standard library."""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.controlplane.scrape import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Seconds after which a test gives up; nothing is expected to take anywhere near as long.
PATIENCE = 120.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """The body, parsed."""
        return json.loads(self.body)


def client_context(authority: bytes) -> ssl.SSLContext:
    """Trusts one authority, as an API server trusts the caBundle."""
    return ssl.create_default_context(cadata=authority.decode())


class Connection:
    """One TLS connection."""

    def __init__(self, channel: socket.socket) -> None:
        self.socket = channel

    def request(
        self, body: bytes, *, path: str = "/mutate?timeout=10s", method: str = "POST", headers: Mapping[str, str] = JSON
    ) -> Answer:
        """Send one request and read its answer."""
        self.socket.sendall(head(path, method, {"Content-Length": str(len(body)), **headers}) + body)
        return self.answer(method)

    def answer(self, method: str = "POST") -> Answer:
        """Read one answer."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def is_readable(self, seconds: float = 0.0) -> bool:
        """Whether something has arrived."""
        pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0
        return pending or bool(select.select([self.socket], [], [], seconds)[0])

    def is_ended(self) -> bool:
        """Wait for the end of the connection; False when something else comes, or nothing in time."""
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def head(path: str, method: str = "POST", headers: Mapping[str, str] = JSON) -> bytes:
    """Request line and headers, as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: webhook.test", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


@contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[Connection]:
    """A connection whose handshake is through."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        yield Connection(secure)


def ops(port: int, path: str) -> Answer:
    """GET something from the ops port."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        return Connection(plain).request(b"", path=path, method="GET", headers={})


def sample(port: int, series: str) -> float:
    """One sample of /metrics by its full series name, as it is now."""

    def fetch() -> str:
        return ops(port, "/metrics").body.decode()

    lines = current(fetch).splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series)
