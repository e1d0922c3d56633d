"""Connections to an API server that detect a lost peer and do not follow redirects.

If a machine loses power or a network drops packets, no connection is closed, and a watch waits for events that cannot
come. TCP keep-alive probes idle connections, and closes those whose peer does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from kubernetes.aio.client.rest import RESTClientObject

from injector.kube.redirects import is_redirect

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration


class RefusedRedirectError(aiohttp.ClientError):
    """The answer is a redirect. `location` comes from an untrusted server: `redirects` decides what may be shown."""

    def __init__(self, status: int, location: str | None, base: str) -> None:
        super().__init__("a redirect was refused")
        self.status = status
        self.location = location
        self.base = base  # the URL of the request


async def refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Reject every redirect before aiohttp follows it: a middleware for requests and websockets.

    Raises:
        RefusedRedirectError: The answer's status is 3xx.
    """
    response = await handler(request)
    if is_redirect(response.status):
        response.close()
        raise RefusedRedirectError(response.status, response.headers.get("Location"), str(request.url))
    return response


@dataclass(frozen=True, slots=True)
class Liveness:
    """When to probe an idle connection, in whole seconds, and how many probes may fail."""

    idle_seconds: int = 15
    interval_seconds: int = 5
    probes: int = 3

    @property
    def lost_seconds(self) -> int:
        """Seconds without an answer after which the connection is closed."""
        return self.idle_seconds + self.probes * self.interval_seconds

    def options(self) -> tuple[tuple[int, int, int], ...]:
        """Return level, name and value of each socket option (tcp(7)) that this system supports."""
        named = (
            ("TCP_KEEPIDLE", self.idle_seconds),
            ("TCP_KEEPALIVE", self.idle_seconds),  # the same, on macOS
            ("TCP_KEEPINTVL", self.interval_seconds),
            ("TCP_KEEPCNT", self.probes),
            ("TCP_USER_TIMEOUT", self.lost_seconds * 1000),  # for what was sent and is not acknowledged; milliseconds
        )
        known = ((getattr(socket, name), value) for name, value in named if hasattr(socket, name))
        tcp = ((socket.IPPROTO_TCP, option, value) for option, value in known)
        return ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *tcp)


LIVENESS: Final = Liveness()
# Bytes: an event of a watch is one line, and an object in etcd has at most 1.5 MiB. The official client has this limit.
_LONGEST_LINE: Final = 2 * 1024 * 1024
# Of an event loop, until it has closed a connection that ended; three are enough for one under TLS.
_MOST_STEPS: Final = 32


class Connections(RESTClientObject):
    """The connections of the official client, with keep-alive probes and without redirects."""

    def __init__(self, configuration: Configuration, liveness: Liveness = LIVENESS) -> None:
        super().__init__(configuration)
        self._options = liveness.options()
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def close(self) -> None:
        """Close all connections, also those that wait for the other end to confirm the end of TLS.

        Such a connection is of no pool: a watch that ended early has one, and a request that was cancelled.
        """
        await super().close()
        for each in self._made:
            with contextlib.suppress(OSError):  # it is closed, or was never connected
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(_MOST_STEPS):
            if all(each.fileno() < 0 for each in self._made):
                return
            await asyncio.sleep(0)

    def _create_pool_manager(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=self._socket),
            trust_env=True,  # proxies, as kubectl takes them from the environment
            read_bufsize=_LONGEST_LINE,
            middlewares=(refuse_redirects,),
        )

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        try:
            for option in self._options:
                made.setsockopt(*option)
        except OSError:
            made.close()
            raise
        self._made.add(made)
        return made
