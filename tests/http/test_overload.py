"""More than one core serves, made of nothing but requests through TLS sockets: row H11.

The bodies are dear to decode and cheap to send: a sidecar with a very long list of variables. So one client can ask for
far more work than the server gets done, while two hundred idle connections lie beside it, as API servers leave them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.http.client import PATIENCE, head
from tests.http.reviews import pod, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.serving import Serving

IDLE = 200
CONNECTIONS = 40
ROUNDS = 6
TIMEOUT = 5  # seconds, what each request says that it waits


def dear() -> bytes:
    """A review of half a megabyte that takes milliseconds to decode."""
    obj = pod()
    obj["spec"]["containers"][1]["env"] = [{"name": f"V{i}"} for i in range(30_000)]
    return json.dumps(json.loads(review(obj)), separators=(",", ":")).encode()


async def ask(server: Serving, body: bytes, seen: Counter[str]) -> None:
    """One connection that asks again as soon as it has its answer."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=server.context, server_hostname="localhost"
    )
    request = head(f"/mutate?timeout={TIMEOUT}s", headers={
        "Content-Type": "application/json", "Content-Length": str(len(body)),
    })  # fmt: skip
    for _ in range(ROUNDS):
        began = time.monotonic()
        writer.write(request + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in answer.splitlines() if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))
        elapsed = time.monotonic() - began
        if answer.startswith("http/1.1 200 "):
            seen["served"] += 1
            seen["late"] += elapsed > TIMEOUT
        else:
            assert answer.startswith("http/1.1 503 ")
            assert "\r\nretry-after: 1\r\n" in answer
            seen["shed"] += 1
    writer.close()
    await writer.wait_closed()


async def overload(server: Serving, body: bytes) -> Counter[str]:
    """All connections at once."""
    seen: Counter[str] = Counter()
    async with asyncio.timeout(PATIENCE * 4):
        await asyncio.gather(*(ask(server, body, seen) for _ in range(CONNECTIONS)))
    return seen


@pytest.mark.load
def test_h11_what_is_too_much_is_shed_and_the_rest_is_served_in_time(tmp_path: Path) -> None:
    body = dear()
    with serving(tmp_path, "--max-lag", "0.05", "--max-bodies", "1000") as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(IDLE)]
        assert all(connection.request(review()).status == 200 for connection in idle)
        seen = asyncio.run(overload(server, body))
        assert seen["served"] + seen["shed"] == CONNECTIONS * ROUNDS
        assert seen["served"] > 0
        assert seen["shed"] > 0
        assert seen["late"] == 0
        assert server.sample('admission_shed_total{cause="lag"}') > 0
        # The process is as healthy as before, and whoever was idle is still connected and served.
        assert server.ops("/readyz").status == 200
        assert all(connection.request(review()).status == 200 for connection in idle)


def test_h11_idle_connections_alone_shed_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(IDLE)]
        assert all(connection.request(review()).status == 200 for connection in idle)
        assert server.sample("connections") == IDLE
        assert all(
            server.sample(f'admission_shed_total{{cause="{cause}"}}') == 0 for cause in ("lag", "timeout", "bodies")
        )
