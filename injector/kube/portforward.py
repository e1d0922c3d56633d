"""Forwards a port of a Pod to a local Unix socket through the API server.

Each connection to the socket is a websocket (subprotocol `v4.channel.k8s.io`) with two channels: data, and the error
message of a kubelet that cannot connect. Unlike a port on loopback, a socket in a private folder is not open to other
users of the machine. It requires the permissions `get` and `create` for `pods/portforward`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from injector.core.exposure import NOTHING_LISTENS
from injector.kube.errors import ForbiddenError, InvalidError, KubeError, NotFoundError, UnavailableError
from injector.kube.resources import PODS
from injector.kube.transport import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from injector.kube.resources import Object
    from injector.kube.transport import Transport

_PROTOCOL: Final = "v4.channel.k8s.io"
_DATA: Final = 0
_WORDS: Final = 1
_PIECE: Final = 65536  # bytes
_MOST_WORDS: Final = 160  # characters
_SERVER_ERROR: Final = 500
_MOST_BYTES: Final = 4096  # bytes of a message that are read
# Bytes of the folder of a socket; its path may have 107, on some systems 103: https://man7.org/linux/man-pages/man7/unix.7.html
_LONGEST_FOLDER: Final = 64


class Forward:
    """One forwarded port. `trouble` is the last error message of the API server or kubelet for a failed connection."""

    def __init__(self, api: Transport, request: Request, node: str) -> None:
        self._api = api
        self._request = request
        self._node = node
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
        # A task that is cancelled before its first step runs no `finally`.
        carrier.add_done_callback(lambda _: writer.close())

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
            self._trouble = _explained(error, self._node)
        except (aiohttp.ClientError, OSError):
            pass  # the client sees its connection end

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


def _explained(error: KubeError, node: str) -> str:
    """Return why the API server does not forward a port."""
    message = error.refusal.message if error.refusal is not None else ""
    match error:
        case ForbiddenError():
            return f"you need get and create on pods/portforward: {error}"
        case NotFoundError() if message.startswith("pods "):
            return "the Pod no longer exists"
        case NotFoundError() if message.startswith("nodes "):
            return f"its node {node} no longer exists"
        case InvalidError() if "does not have a host assigned" in message:
            return "the Pod is not scheduled yet"
        case UnavailableError() if error.refusal is not None and error.refusal.status >= _SERVER_ERROR:
            # The answer to a rejected handshake has no message: the status is all that is known.
            return (
                f"the kubelet of node {node} does not forward the port (status {error.refusal.status}): the API server "
                "cannot reach it, or the Pod is no longer on it"
            )
        case _:
            return str(error)


# Messages of kubelets and container runtimes, and what they mean.
_REPORTED: Final = (
    (re.compile(r"connection refused", re.IGNORECASE), NOTHING_LISTENS),
    (re.compile(r"socat"), "the node cannot forward ports: its container runtime needs socat, which is not installed"),
    (
        re.compile(
            r"find sandbox|sandbox (?:container )?\S+ is (?:not running|closed)|container is not running", re.IGNORECASE
        ),
        "the Pod's sandbox does not run: the Pod is ending, or its sandbox is created again",
    ),
)


def _shortened(words: bytes) -> str:
    text = words[:_MOST_BYTES].decode("utf-8", "replace")
    meaning = next((meaning for pattern, meaning in _REPORTED if pattern.search(text)), "")
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return meaning or f"the port cannot be forwarded: {shown[:_MOST_WORDS]}"


@contextlib.asynccontextmanager
async def forwarded(api: Transport, pod: Object, port: int) -> AsyncIterator[tuple[str, Forward]]:
    """Yield the path of a Unix socket that is forwarded to the Pod's port, and its state."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    request = Request(
        "GET",
        PODS.path(namespace, name, "portforward"),
        f"reach the ports of pods/{name} in namespace {namespace}",
        (("ports", str(port)),),
    )
    forward = Forward(api, request, str((pod.get("spec") or {}).get("nodeName")))
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108 - only a new folder in it is used
    with tempfile.TemporaryDirectory(prefix="dapr-token-injector-", dir=parent) as folder:
        path = str(Path(folder) / "port")
        server = await asyncio.start_unix_server(forward.accept, path)
        try:
            yield path, forward
        finally:
            server.close()
            await forward.close()
