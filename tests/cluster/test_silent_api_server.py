"""An API server that is silent: its machine lost power, or the network drops packets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from injector.kube.client import Api
from injector.kube.connections import LIVENESS, Liveness
from injector.kube.errors import UnavailableError
from injector.kube.resources import SECRETS
from tests.controlplane.netns import NODE_ADDRESS, network_namespace, reason_unavailable
from tests.controlplane.requirement import require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HASTY = Liveness(idle_seconds=1, interval_seconds=1, probes=2)
EVENT = {"type": "BOOKMARK", "object": {}}


@contextlib.asynccontextmanager
async def watched(liveness: Liveness) -> AsyncIterator[Api]:
    """An API server whose watches send one event and then nothing."""
    application = web.Application()

    async def say_one_thing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps(EVENT).encode() + b"\n")
        await asyncio.Event().wait()
        return response

    application.router.add_get("/{path:.*}", say_one_thing)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, NODE_ADDRESS, 0).start()
    try:
        address = f"http://{NODE_ADDRESS}:{runner.addresses[0][1]}"
        async with Api(Configuration(host=address), liveness=liveness) as api:
            yield api
    finally:
        await runner.cleanup()


def cut_off() -> None:
    """Drop all packets inside the namespace: all of them pass `lo`."""
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)


def test_watch_of_a_silent_api_server_ends() -> None:
    require(reason_unavailable())

    async def follow() -> None:
        async with watched(HASTY) as api:
            events = api.watch(SECRETS, resource_version="1")
            async with contextlib.aclosing(events):
                assert await anext(events) == EVENT
                cut_off()
                async with asyncio.timeout(60):
                    with pytest.raises(UnavailableError, match=r"^cannot watch secrets in all namespaces"):
                        await anext(events)

    with network_namespace() as network, network.entered():
        asyncio.run(follow())


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a name of Linux alone")
def test_connection_ends_after_half_a_minute_of_silence() -> None:
    with socket.socket() as made:
        for option in LIVENESS.options():
            made.setsockopt(*option)
        found = [made.getsockopt(level, name) for level, name, _ in LIVENESS.options()]

    assert found == [1, 15, 5, 3, 30_000]
    assert LIVENESS.lost_seconds == 30
