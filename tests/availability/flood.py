"""Posts more reviews than are served directly to the replicas: a separate process in the network namespace.

Its rate does not depend on the answers. It raises the rate until at most a third of the reviews is served. From then on
it prints its counts since then, each second one line of JSON. It ends at the time in its plan or on SIGTERM.

Run as `python -m tests.availability.flood PLAN`, with the plan as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import ssl
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from tests.http.reviews import UID, expensive_review


class Target(msgspec.Struct, frozen=True):
    """One replica: its URL, and the SNI, which is the name in its certificate."""

    url: str
    host: str


class FloodPlan(msgspec.Struct, frozen=True):
    """Whom to ask, how, and for how long at most."""

    targets: tuple[Target, ...]
    bundle: str  # file
    containers: int  # in a review's Pod: makes it expensive
    timeout: int  # the timeout in seconds of each review
    ratio: float  # minimum ratio of sent to served reviews
    most_seconds: float


class Flooded(msgspec.Struct, frozen=True):
    """What was asked, and what came of it."""

    asked: int
    served: int  # in time or not
    shed: int  # 503
    other: int  # any other answer, or none in time


class Flood:
    """Asks all replicas in turn."""

    def __init__(self, plan: FloodPlan, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._session = session
        self._before, _, self._after = expensive_review(plan.containers).partition(UID.encode())
        self._targets = itertools.cycle(plan.targets)
        self._stop = asyncio.Event()
        self._seen: Counter[str] = Counter()
        self._rate = _FIRST_RATE
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until SIGTERM or the last second."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.call_later(self._plan.most_seconds, self._stop.set)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_on())
            group.create_task(self._raise())

    async def _ask_on(self) -> None:
        while not self._stop.is_set():
            if len(self._tasks) < _MOST_ON_THE_WAY:
                task = asyncio.create_task(self._ask(next(self._targets)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await self._pause(1 / self._rate)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _raise(self) -> None:
        """Raise the rate in each second without overload; from the first overload on, report the counts each second."""
        at_limit: Counter[str] | None = None
        while not self._stop.is_set():
            before = self._seen.copy()
            await self._pause(1.0)
            latest = self._seen - before
            if latest["asked"] < self._plan.ratio * latest["served"] * _ROOM or not latest["served"]:
                self._rate = min(self._rate * _RAISE, _MOST_RATE)
            elif at_limit is None:
                at_limit = self._seen.copy()
            if at_limit is not None:
                _report(_counted(self._seen - at_limit))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _ask(self, target: Target) -> None:
        self._seen["asked"] += 1
        try:
            async with self._session.post(
                f"{target.url}/mutate?timeout={self._plan.timeout}s",
                data=self._before + str(uuid.uuid4()).encode() + self._after,
                headers={"Content-Type": "application/json"},
                server_hostname=target.host,
            ) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            self._seen["other"] += 1
            return
        if answer.status == _OK:
            self._seen["served"] += 1
        elif answer.status == _SHED:
            self._seen["shed"] += 1
        else:
            self._seen["other"] += 1


_FIRST_RATE: Final = 100.0
_RAISE: Final = 1.5
_MOST_RATE: Final = 5000.0
_ROOM: Final = 1.2  # so that a short lull does not undo the ratio
_MOST_ON_THE_WAY: Final = 1000  # of them together; each replica takes 1024 connections
_OK: Final = 200
_SHED: Final = 503


def _counted(seen: Counter[str]) -> Flooded:
    return Flooded(seen["asked"], seen["served"], seen["shed"], seen["other"])


def _report(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


async def _run(plan: FloodPlan) -> None:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=plan.bundle), limit=0)
    timeout = aiohttp.ClientTimeout(total=plan.timeout)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await Flood(plan, session).run()


def main() -> int:
    """Run the plan named on the command line."""
    asyncio.run(_run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=FloodPlan)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
