"""More than one core serves, made of nothing but requests through TLS sockets: row H11.

The reviews are expensive to answer and cheap to send: very many containers request the variable. So one client can
request far more work than the server gets done, next to two hundred idle connections, as API servers leave them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.http.client import PATIENCE, head
from tests.http.reviews import expensive_review, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Connection
    from tests.http.serving import Serving

IDLE = 200
CONNECTIONS = 40
REVIEWS = 2  # on each
CONTAINERS = 1200  # just more than the 16 KiB that are turned away last; all of them together are served in a second
TIMEOUT = 30  # seconds, what each request says that it waits


async def ask(server: Serving, seen: Counter[str]) -> None:
    """One connection with reviews of its own, that asks again with the same uid when it is turned away."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=server.context, server_hostname="localhost"
    )
    for _ in range(REVIEWS):
        body = expensive_review(CONTAINERS, uid=str(uuid.uuid4()))
        request = head(f"/mutate?timeout={TIMEOUT}s", headers={
            "Content-Type": "application/json", "Content-Length": str(len(body)),
        })  # fmt: skip
        for outcome in ("at once", "the second time", "never"):
            began = time.monotonic()
            writer.write(request + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(line for line in answer.splitlines() if line.startswith("content-length:"))
            await reader.readexactly(int(length.partition(":")[2]))
            if answer.startswith("http/1.1 200 "):
                seen[outcome] += 1
                seen["late"] += time.monotonic() - began > TIMEOUT
                break
            assert answer.startswith("http/1.1 503 ")
            assert "\r\nretry-after: 1\r\n" in answer
    writer.close()
    await writer.wait_closed()


async def overload(server: Serving) -> Counter[str]:
    """All connections at once."""
    seen: Counter[str] = Counter()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(ask(server, seen) for _ in range(CONNECTIONS)))
    return seen


@pytest.mark.slow
def test_h11_excess_is_shed_once_and_served_on_retry(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-lag", "0.05") as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(IDLE)]
        assert all(map(is_served, idle))
        seen = asyncio.run(overload(server))
        assert seen["at once"] > 0
        assert seen["the second time"] > 0
        assert seen["at once"] + seen["the second time"] == CONNECTIONS * REVIEWS
        assert seen["late"] == 0
        assert server.sample('admission_shed_total{cause="lag"}') >= seen["the second time"]
        # The process is as healthy as before, and the idle connections are still open and served.
        assert server.ops("/readyz").status == 200
        assert all(map(is_served, idle))


def is_served(connection: Connection) -> bool:
    """Whether an idle connection is; on a machine that is busy with others it may have to ask twice."""
    return connection.request(review()).status == 200 or connection.request(review()).status == 200


def test_h11_idle_connections_alone_shed_nothing(tmp_path: Path) -> None:
    # Less than `serving` allows: the connections alone must not hold up the loop for as long as this.
    with serving(tmp_path, "--max-lag", "5") as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(IDLE)]
        assert all(connection.request(review()).status == 200 for connection in idle)
        assert server.sample("connections") == IDLE
        assert all(
            server.sample(f'admission_shed_total{{cause="{cause}"}}') == 0 for cause in ("lag", "timeout", "bodies")
        )
