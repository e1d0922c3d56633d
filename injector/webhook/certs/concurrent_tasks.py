"""Run named tasks concurrently, at most one instance of each.

A call to an API server may hang for 30 s: a write that calls a slow webhook, or an instance that stopped without
closing its connections. Other tasks must not wait for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class ConcurrentTasks:
    """Runs at most one instance of each task, and limits the time of a round.

    As a context manager it cancels the running tasks on exit.
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
        """Start each task that is not running, and wait for all tasks, but no longer than `moment_seconds`.

        Raises:
            Exception: A task raised it in this round or since the last one.
        """
        for part, work in parts.items():
            if part not in self._busy:
                self._busy[part] = asyncio.create_task(_run(work))
        done, _ = await asyncio.wait(self._busy.values(), timeout=self._moment_seconds)
        for part in [part for part, task in self._busy.items() if task in done]:
            self._busy.pop(part).result()


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()
