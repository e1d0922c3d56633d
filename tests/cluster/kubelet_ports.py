"""A fake kubelet that forwards ports of Pods: each websocket of an API server leads to a port on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from typing import TYPE_CHECKING, Final

from aiohttp import WSMsgType, web

from tests.controlplane.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.controlplane.cluster import ControlPlane

_DATA: Final = b"\0"


@contextlib.contextmanager
def forwarding_node(own: ControlPlane, name: str, ports: Mapping[str, int], folder: Path) -> Iterator[None]:
    """Have a node during the block; `ports`: the port on loopback behind every port of a Pod, by the Pod's name."""
    port, kubectl = free_port(), own.kubectl
    kubectl.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own.authority.issue_server(hosts=["127.0.0.1"]).write(folder, "kubelet"))
    loop = asyncio.new_event_loop()
    runner = loop.run_until_complete(_serve(ports, port, context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        kubectl.delete("node", name)


async def _serve(ports: Mapping[str, int], port: int, context: ssl.SSLContext) -> web.AppRunner:
    async def forward(request: web.Request) -> web.WebSocketResponse:
        remote = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await remote.prepare(request)
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[request.match_info["pod"]])
        with contextlib.closing(writer):  # the other end may leave at any moment
            for channel in (b"\0", b"\1"):
                await remote.send_bytes(channel + b"\0\0")
            downward = asyncio.ensure_future(_downward(reader, remote))
            try:
                async for message in remote:
                    if message.type is WSMsgType.BINARY and message.data[:1] == _DATA:
                        writer.write(message.data[1:])
            finally:
                downward.cancel()
        return remote

    application = web.Application()
    application.router.add_get("/portForward/{namespace}/{pod}", forward)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    return runner


async def _downward(reader: asyncio.StreamReader, remote: web.WebSocketResponse) -> None:
    while piece := await reader.read(65536):
        await remote.send_bytes(_DATA + piece)
    await remote.close()
