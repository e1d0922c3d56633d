"""The load client, a separate process: creates Pods and scales Deployments, each once, at a fixed rate.

It never retries: a rejection of the API server is a failure and is logged with its message. The rate does not depend on
the answers (an open loop), so a slow server gets more concurrent requests, not fewer. It ends at the number or the time
in its plan, or on SIGTERM, after all requests are answered and logged.

Run as `python -m tests.availability.load PLAN LOG`, with the plan as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from tests.availability.creates import MULTIPLE_CHOICES, Attempt, Kind, encode
from tests.cluster.objects import ASKING, DAPR, pod

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO

# Seconds after which an answer is given up: far beyond every timeout of the API server's.
PATIENCE: Final = 60.0


class Api(msgspec.Struct, frozen=True):
    """Where the API server is, and files to know it by and to be known by."""

    url: str
    authority: str
    certificate: str
    key: str

    def context(self) -> ssl.SSLContext:
        """What TLS needs to talk to it."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Plan(msgspec.Struct, frozen=True):
    """What to do, per second and in all."""

    api: Api
    namespace: str
    asking_per_second: float
    others_per_second: float
    deployments: dict[str, int]  # name -> replicas added each time
    scalings_per_second: float  # of each of them
    most_pods: int  # created directly
    most_replicas: int  # of each Deployment
    most_seconds: float
    most_on_the_way: int  # requests at once; more would keep an API server behind that is far behind


class Load:
    """Sends the requests of the plan and logs their results."""

    def __init__(self, plan: Plan, session: aiohttp.ClientSession, log: FileIO) -> None:
        self._plan = plan
        self._session = session
        self._log = log
        self._stop = asyncio.Event()
        self._room = asyncio.Semaphore(plan.most_on_the_way)
        self._pods_left = plan.most_pods
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until SIGTERM, the last Pod or the last second."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.call_later(self._plan.most_seconds, self._stop.set)
        await asyncio.gather(
            self._pace(self._plan.asking_per_second, self._create_requesting),
            self._pace(self._plan.others_per_second, self._create_other),
            *(
                self._pace(self._plan.scalings_per_second, _scaler(self, name, step))
                for name, step in self._plan.deployments.items()
            ),
        )
        await asyncio.gather(*self._tasks)

    async def _pace(self, per_second: float, work: Any) -> None:  # noqa: ANN401 - a function of a number to a request
        """Start `work(i)` at the moment i / per_second, late ones at once."""
        if not per_second:
            return
        began, i = time.monotonic(), 0
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), began + i / per_second - time.monotonic())
                return
            await self._room.acquire()
            task = asyncio.create_task(self._send(*work(i)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            i += 1

    def _create_requesting(self, i: int) -> tuple[Kind, str, str, str, bytes]:
        return self._create(Kind.ASKING, i, ASKING)

    def _create_other(self, i: int) -> tuple[Kind, str, str, str, bytes]:
        return self._create(Kind.OTHER, i, DAPR)

    def _create(self, kind: Kind, i: int, annotations: Mapping[str, str]) -> tuple[Kind, str, str, str, bytes]:
        self._pods_left -= 1
        if self._pods_left <= 0:
            self._stop.set()
        item = pod(annotations)
        name = f"{kind}-{i:06d}"
        item["metadata"]["name"] = name
        return kind, name, "POST", f"/api/v1/namespaces/{self._plan.namespace}/pods", msgspec.json.encode(item)

    def scale(self, name: str, replicas: int) -> tuple[Kind, str, str, str, bytes]:
        """Request a number of replicas."""
        path = f"/apis/apps/v1/namespaces/{self._plan.namespace}/deployments/{name}/scale"
        wanted = min(replicas, self._plan.most_replicas)
        return Kind.SCALE, f"{name}={wanted}", "PATCH", path, msgspec.json.encode({"spec": {"replicas": wanted}})

    async def _send(self, kind: Kind, name: str, method: str, path: str, body: bytes) -> None:
        content = "application/json" if method == "POST" else "application/merge-patch+json"
        sent, code, message = time.monotonic(), 0, ""
        try:
            async with self._session.request(method, path, data=body, headers={"Content-Type": content}) as answer:
                code, text = answer.status, await answer.read()
            if code >= MULTIPLE_CHOICES:
                message = msgspec.json.decode(text).get("message", "")
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            message = f"{type(error).__name__}: {error}"
        finally:
            self._room.release()
        self._log.write(encode(Attempt(kind, name, sent, time.monotonic(), code, message)))


def _scaler(load: Load, name: str, step: int) -> Any:  # noqa: ANN401 - see _pace
    return lambda i: load.scale(name, (i + 1) * step)


async def _run(plan: Plan, log_path: Path) -> None:
    connector = aiohttp.TCPConnector(ssl=plan.api.context(), limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(plan.api.url, connector=connector, timeout=timeout) as session:
        with log_path.open("ab", buffering=0) as log:
            await Load(plan, session, log).run()


def main() -> int:
    """Run the plan named on the command line."""
    plan, log = map(Path, sys.argv[1:])
    asyncio.run(_run(msgspec.json.decode(plan.read_bytes(), type=Plan), log))
    return 0


if __name__ == "__main__":
    sys.exit(main())
