"""Where a question goes, and what is said when none can be put there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class NoAnswerError(Exception):
    """A question got no answer that could be judged; the message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Place:
    """A port: at a host, or behind a Unix socket that leads there.

    `trouble` tells what whoever carries the connection knows of a failure.
    """

    host: str
    port: int
    socket: str = ""
    tls: ssl.SSLContext | None = None
    authorities: bytes | None = None  # PEM; for gRPC, which takes no context
    trouble: Callable[[], str] = str

    @property
    def authority(self) -> str:
        """Host and port as URLs have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        if self.socket:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection(
            self.host, self.port, ssl=self.tls, server_hostname=self.host if self.tls else None
        )


def why(error: BaseException, *, timeout_seconds: float) -> str:
    """Words for a connection that failed; none of the peer's own."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout_seconds:g} s"
        case ConnectionRefusedError():
            return "nothing listens there (connection refused)"
        case ConnectionError():
            return "the connection was closed without an answer"
        case socket.gaierror():
            return "there is no host of that name"
        case ssl.SSLCertVerificationError():
            return f"TLS: the certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return "TLS: the handshake failed; is this a port without TLS?"
        case OSError():
            return (error.strerror or "input or output failed").lower()
        case _:
            return type(error).__name__


async def addresses(host: str, port: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses that a host's name stands for.

    Raises:
        OSError: There are none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
