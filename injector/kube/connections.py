"""Connections to an API server that notice when nobody is at their other end any more, and follow no redirect.

A machine that loses its power, or a network that drops packets, closes no connection. A watch then waits for news that
cannot come. So the kernel asks an idle connection's other end for a sign of life, and gives up what is never answered.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from kubernetes.aio.client.rest import RESTClientObject

from injector.kube.redirects import is_redirect

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration


class RefusedRedirectError(aiohttp.ClientError):
    """An answer was a redirect. `location` is the text of an untrusted server: `redirects` says what may be shown."""

    def __init__(self, status: int, location: str | None, base: str) -> None:
        super().__init__("a redirect was refused")
        self.status = status
        self.location = location
        self.base = base  # the URL that was asked


async def refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Refuse every redirect, before aiohttp follows it; a middleware of its sessions, for requests and websockets.

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
    """When to ask for a sign of life, in whole seconds, and how often in vain."""

    idle_seconds: int = 15
    interval_seconds: int = 5
    probes: int = 3

    @property
    def lost_seconds(self) -> int:
        """How long the other end may be away before the connection is given up."""
        return self.idle_seconds + self.probes * self.interval_seconds

    def options(self) -> tuple[tuple[int, int, int], ...]:
        """Level, name and value of each option of a socket (tcp(7)); those that this system knows."""
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
# Bytes: an event of a watch is one line, and an object has at most 1.5 MiB in etcd. As the official client has it.
_LONGEST_LINE: Final = 2 * 1024 * 1024


class Connections(RESTClientObject):
    """The official client's, with sockets that ask and answers that cannot redirect."""

    def __init__(self, configuration: Configuration, liveness: Liveness = LIVENESS) -> None:
        super().__init__(configuration)
        self._options = liveness.options()

    def _create_pool_manager(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._create_connector(),
            trust_env=True,  # proxies, as kubectl takes them from the environment
            read_bufsize=_LONGEST_LINE,
            middlewares=(refuse_redirects,),
        )

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=self._socket)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        try:
            for option in self._options:
                made.setsockopt(*option)
        except OSError:
            made.close()
            raise
        return made
