"""Resolves and connects to what `probe` checks, and describes failures."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from injector.core.exposure import NOTHING_LISTENS
from injector.files import error_text

if TYPE_CHECKING:
    from collections.abc import Callable

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class NoAnswerError(Exception):
    """A request got no answer that could be evaluated; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A port: at an address, or behind a Unix socket that forwards to it.

    `host`: the name in requests and certificates. It is resolved once: requests to two machines would prove nothing
    about either, and the token could reach a server that has not refused a call. `trouble`: returns the reason for a
    failure from the forwarder of the connection, empty if unknown.
    """

    host: str
    port: int
    address: Address | None = None
    socket: str = ""
    tls: ssl.SSLContext | None = None
    ca_certificates: bytes | None = None  # PEM; for gRPC, which does not accept an SSLContext
    trouble: Callable[[], str] = str

    @property
    def name(self) -> str:
        """The host in certificates and requests: without the zone of an IPv6 address."""
        return self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """Host and port as in URLs."""
        return f"[{self.name}]:{self.port}" if ":" in self.host else f"{self.name}:{self.port}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        if self.socket:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection(
            str(self.address), self.port, ssl=self.tls, server_hostname=self.name if self.tls else None
        )


def failure_text(error: BaseException, *, timeout_seconds: float) -> str:
    """Return the reason for a failed connection, without text of the peer."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout_seconds:g} s"
        case ConnectionRefusedError():
            return NOTHING_LISTENS
        case ConnectionError() | EOFError():
            return "the connection was closed without an answer"
        case ssl.SSLCertVerificationError():
            return f"TLS: the certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return "TLS: the handshake failed; is this a port without TLS?"
        case OSError():
            return error_text(error)
        case _:
            return type(error).__name__


async def resolve(host: str, port: int, *, timeout_seconds: float) -> list[Address]:
    """Return the addresses of a host, each once.

    Raises:
        NoAnswerError: There are none, or the name servers do not answer in time.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Address] | None] = loop.create_future()

    def finish(result: list[Address] | None) -> None:
        if not found.done():
            found.set_result(result)

    def look_up() -> None:
        result: list[Address] | None = None
        with contextlib.suppress(OSError, ValueError):  # ValueError: the name cannot be encoded for DNS
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            result = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in entries))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, result)

    # A daemon thread: the loop would wait for a thread of its executor until the name servers answer.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        async with asyncio.timeout(timeout_seconds):
            result = await found
    except TimeoutError:
        raise NoAnswerError(f"name servers did not answer within {timeout_seconds:g} s") from None
    if not result:
        raise NoAnswerError("host not found")
    return result


def system_ca_certificates() -> bytes | None:
    """Return the certificates that Python trusts by default, in PEM; None if there are none.

    gRPC has its own list; with these, both protocols trust the same certificates.
    """
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    parts: dict[bytes, None] = {}
    if paths.capath:
        for file in sorted(Path(paths.capath).iterdir()):  # links to single certificates, and a bundle of all of them
            with contextlib.suppress(OSError):
                content = file.read_bytes()
                if _PEM in content:
                    parts[content] = None
    return b"\n".join(parts) or None


_PEM: Final = b"-----BEGIN CERTIFICATE-----"
