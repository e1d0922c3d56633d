"""Run named tasks concurrently, at most one instance of each.

A call to an API server may hang for half a minute (a write that passes a slow webhook, an instance that died
without a word). Whatever waits for it must not keep the rest from its turn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class ConcurrentTasks:
    """Runs each part at most once at a time, and gives a round of them no more than a moment.

    As a context manager it ends what is still under way.
    """

    def __init__(self, moment_seconds: float) -> None:
        self._moment_seconds = moment_seconds
        self._busy: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._busy.values():
            task.cancel()
        await asyncio.gather(*self._busy.values(), return_exceptions=True)
        self._busy.clear()

    async def __call__(self, parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """Begin each part that is not under way, and wait for all of them, but not for long.

        Raises:
            Exception: What a part raised, in this round or since the last one.
        """
        for part, work in parts.items():
            if part not in self._busy:
                self._busy[part] = asyncio.create_task(_run(work))
        done, _ = await asyncio.wait(self._busy.values(), timeout=self._moment_seconds)
        for part in [part for part, task in self._busy.items() if task in done]:
            self._busy.pop(part).result()


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()
