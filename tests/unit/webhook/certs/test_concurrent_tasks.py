"""Tasks that do not wait for each other."""

from __future__ import annotations

import asyncio

import pytest

from injector.webhook.certs.concurrent_tasks import ConcurrentTasks
from tests.unit.kube.manual_clock import run_with_manual_clock


def test_hanging_task_blocks_no_other_and_is_not_started_twice() -> None:
    begun = {"slow": 0, "quick": 0}

    async def slow() -> None:
        begun["slow"] += 1
        await asyncio.sleep(30)

    async def quick() -> None:
        begun["quick"] += 1

    async def rounds() -> float:
        loop = asyncio.get_running_loop()
        async with ConcurrentTasks(1.0) as together:
            for _ in range(5):
                await together({"slow": slow, "quick": quick})
        return loop.time()

    assert run_with_manual_clock(rounds()) < 6
    assert begun == {"slow": 1, "quick": 5}


def test_late_error_of_a_task_is_raised() -> None:
    async def faulty() -> None:
        await asyncio.sleep(1.5)
        raise RuntimeError("ours")

    async def rounds() -> None:
        async with ConcurrentTasks(1.0) as together:
            await together({"faulty": faulty})
            await together({"faulty": faulty})

    with pytest.raises(RuntimeError, match="ours"):
        run_with_manual_clock(rounds())


def test_running_tasks_are_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("slow")

    async def leave() -> None:
        async with ConcurrentTasks(1.0) as together:
            await together({"slow": slow})

    run_with_manual_clock(leave())
    assert ended == ["slow"]
