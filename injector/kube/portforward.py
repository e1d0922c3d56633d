"""Forwards a port of a Pod to a local Unix socket through the API server.

Each connection to the socket is a websocket (subprotocol `v4.channel.k8s.io`) with two channels: data, and the error
message of a kubelet that cannot connect. Unlike a port on loopback, a socket in a private folder is not open to other
users of the machine. It requires the permissions `get` and `create` for `pods/portforward`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from injector.core.exposure import NOTHING_LISTENS
from injector.kube.errors import KubeError
from injector.kube.resources import PODS
from injector.kube.transport import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from injector.kube.transport import Transport

_PROTOCOL: Final = "v4.channel.k8s.io"
_DATA: Final = 0
_WORDS: Final = 1
_PIECE: Final = 65536  # bytes
_MOST_WORDS: Final = 160  # characters


class Forward:
    """One forwarded port. `trouble` is the last error message of the API server or kubelet for a failed connection."""

    def __init__(self, api: Transport, request: Request) -> None:
        self._api = api
        self._request = request
        self._trouble = ""
        self._carriers: set[asyncio.Task[None]] = set()

    def trouble(self) -> str:
        """Return why connections fail; empty if unknown."""
        return self._trouble

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side closes it, in a task that `close` cancels."""
        carrier = asyncio.ensure_future(self._carry(reader, writer))
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def close(self) -> None:
        """Close all connections."""
        carriers = tuple(self._carriers)
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with await self._api.connect(self._request, _PROTOCOL) as remote:
                upward = asyncio.ensure_future(_upward(reader, remote))
                try:
                    await self._downward(remote, writer)
                finally:
                    upward.cancel()
                    await asyncio.wait([upward])
        except KubeError as error:
            self._trouble = str(error)
        except (aiohttp.ClientError, OSError):
            pass  # the client sees its connection end
        finally:
            writer.close()

    async def _downward(self, remote: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
        greeted: set[int] = set()  # the first message of a channel repeats the port's number
        async for message in remote:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel = message.data[0]
            if channel not in greeted:
                greeted.add(channel)
            elif channel == _DATA:
                writer.write(message.data[1:])
                await writer.drain()
            elif channel == _WORDS:
                self._trouble = _shortened(message.data[1:])
                return


async def _upward(reader: asyncio.StreamReader, remote: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while piece := await reader.read(_PIECE):
            await remote.send_bytes(bytes((_DATA,)) + piece)
        await remote.close()


def _shortened(words: bytes) -> str:
    text = words.decode("utf-8", "replace")
    if "connection refused" in text.lower():  # the message of the container runtime
        return NOTHING_LISTENS
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"the port cannot be forwarded: {shown[:_MOST_WORDS]}"


@contextlib.asynccontextmanager
async def forwarded(api: Transport, namespace: str, pod: str, port: int) -> AsyncIterator[tuple[str, Forward]]:
    """Yield the path of a Unix socket that is forwarded to the Pod's port, and its state."""
    request = Request(
        "GET",
        PODS.path(namespace, pod, "portforward"),
        f"reach the ports of pods/{pod} in namespace {namespace}",
        (("ports", str(port)),),
    )
    forward = Forward(api, request)
    with tempfile.TemporaryDirectory(prefix="dapr-token-injector-") as folder:
        path = str(Path(folder) / "port")
        server = await asyncio.start_unix_server(forward.accept, path)
        try:
            yield path, forward
        finally:
            server.close()
            await forward.close()
