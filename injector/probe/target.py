"""Where a question goes, and what is said when none can be put there."""

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

if TYPE_CHECKING:
    from collections.abc import Callable

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class NoAnswerError(Exception):
    """A question got no answer that could be judged; the message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A port: at an address, or behind a Unix socket that leads there.

    `host` is what requests and certificates call it. It is never looked up again: two questions that went to two
    machines would prove nothing of either, and the token would go to one that has not refused anything. `trouble` tells
    what whoever carries the connection knows of a failure.
    """

    host: str
    port: int
    address: Address | None = None
    socket: str = ""
    tls: ssl.SSLContext | None = None
    ca_certificates: bytes | None = None  # PEM; for gRPC, which takes no context
    trouble: Callable[[], str] = str

    @property
    def name(self) -> str:
        """What certificates and other machines call the host: without the zone of an IPv6 address."""
        return self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """Host and port as URLs have them."""
        return f"[{self.name}]:{self.port}" if ":" in self.host else f"{self.name}:{self.port}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        if self.socket:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection(
            str(self.address), self.port, ssl=self.tls, server_hostname=self.name if self.tls else None
        )


def error_text(error: BaseException, *, timeout_seconds: float) -> str:
    """Words for a connection that failed; none of the peer's own."""
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
            return (error.strerror or "input or output failed").lower()
        case _:
            return type(error).__name__


async def resolve(host: str, port: int, *, timeout_seconds: float) -> list[Address]:
    """The addresses that a host's name stands for, each once.

    Raises:
        NoAnswerError: There are none, or the name servers do not answer.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Address] | None] = loop.create_future()

    def finish(result: list[Address] | None) -> None:
        if not found.done():
            found.set_result(result)

    def look_up() -> None:
        result: list[Address] | None = None
        with contextlib.suppress(OSError, ValueError):  # the latter: what no name server could be asked
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            result = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in entries))
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(finish, result)

    # A thread that nobody waits for: at its end the loop waits for its own, for as long as name servers are silent.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        async with asyncio.timeout(timeout_seconds):
            result = await found
    except TimeoutError:
        raise NoAnswerError(f"its name servers gave no answer within {timeout_seconds:g} s") from None
    if not result:
        raise NoAnswerError("there is no host of that name")
    return result


def system_ca_certificates() -> bytes | None:
    """The certificates that Python trusts by default, in PEM; None when there are none.

    For gRPC, which brings a list of its own, so that both protocols trust the same.
    """
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    parts: dict[bytes, None] = {}
    if paths.capath:
        for file in sorted(Path(paths.capath).iterdir()):  # links to single certificates, and a bundle of them all
            with contextlib.suppress(OSError):
                content = file.read_bytes()
                if _PEM in content:
                    parts[content] = None
    return b"\n".join(parts) or None


_PEM: Final = b"-----BEGIN CERTIFICATE-----"
