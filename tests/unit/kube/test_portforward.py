"""Why a port cannot be forwarded, by what the API server and the kubelet answer."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

from injector.kube.portforward import forwarded
from tests.unit.kube.test_redirects import api_at, served

if TYPE_CHECKING:
    from pathlib import Path

POD: Final = {"metadata": {"namespace": "n", "name": "p"}, "spec": {"nodeName": "worker-1"}}
UPGRADE: Final = "Upgrade request required"


def trouble(answer: int | bytes, plain: tuple[int, str] = (400, UPGRADE)) -> str:
    return asyncio.run(_trouble(answer, plain))


async def _trouble(answer: int | bytes, plain: tuple[int, str]) -> str:
    """Why the port could not be forwarded; bytes: the kubelet's message; `plain` answers requests without upgrade."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade") is None:
            return web.json_response({"kind": "Status", "code": plain[0], "message": plain[1]}, status=plain[0])
        if isinstance(answer, int):
            return web.Response(status=answer)
        remote = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await remote.prepare(request)
        for message in (b"\0\0\0", b"\1\0\0", b"\1" + answer):
            await remote.send_bytes(message)
        await remote.close()
        return remote

    async with served(handle) as port, api_at(port) as api, forwarded(api, POD, 3500) as (path, forward):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        return forward.trouble()


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "pod p does not have a host assigned", "the Pod is not scheduled yet"),
        (404, 'pods "p" not found', "the Pod no longer exists"),
        (404, 'nodes "worker-1" not found', "its node worker-1 no longer exists"),
        (404, "no such path", "cannot reach the ports of pods/p in namespace n: not found: no such path"),
        (
            403,
            'pods "p" is forbidden: User "x" cannot get resource "pods/portforward"',
            "you need get and create on pods/portforward: cannot reach the ports of pods/p in namespace n: not allowed",
        ),
        (429, "too many requests", "cannot reach the ports of pods/p in namespace n: the API server answers with"),
    ],
)
def test_refusal_of_the_api_server_is_explained(status: int, message: str, expected: str) -> None:
    assert trouble(status, (status, message)).startswith(expected)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_unreachable_node_is_named(status: int) -> None:
    """The API server's own message is in the body of the rejected handshake, which no client shows."""
    assert trouble(status) == (
        f"the kubelet of node worker-1 does not forward the port (status {status}): the API server cannot reach it, "
        "or the Pod is no longer on it"
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            'in network namespace "/var/run/x": failed to connect to localhost:3500: connect: Connection refused',
            "nothing listens there (connection refused)",
        ),
        ("unable to do port forwarding: socat not found", "the node cannot forward ports: its container runtime needs"),
        ('network namespace for sandbox "1f" is closed', "the Pod's sandbox does not run"),
        ('sandbox container "1f" is not running', "the Pod's sandbox does not run"),
        ("failed to find sandbox 1f in store: not found", "the Pod's sandbox does not run"),
        ("container is not running", "the Pod's sandbox does not run"),
        ("\x1b[2J" + "x" * 100_000, "the port cannot be forwarded:  [2J" + "x" * 156),
        ("", ""),
    ],
)
def test_message_of_the_kubelet_is_explained(message: str, expected: str) -> None:
    found = trouble(message.encode())

    assert found.startswith(expected)
    assert len(found) < 300


def test_path_of_the_socket_is_short_in_a_deep_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    assert trouble(b"x") == "the port cannot be forwarded: x"


def test_connection_that_comes_just_before_the_end_is_closed() -> None:
    async def run() -> None:
        async with api_at(1) as api, forwarded(api, POD, 3500) as (_, forward):
            near, far = socket.socketpair()
            with far:
                reader, writer = await asyncio.open_connection(sock=near)
                forward.accept(reader, writer)
                await forward.close()
                assert writer.is_closing()

    asyncio.run(run())
