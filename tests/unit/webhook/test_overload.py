from __future__ import annotations

import asyncio

import pytest

from injector.webhook.overload import INTERVAL, Pulse, Shedder


class ManualClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_marks_remember_the_one_before() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    clock.now = 101.0
    pulse.mark()
    assert (pulse.before, pulse.now) == (100.0, 101.0)
    assert pulse.lag == pytest.approx(1.0 - INTERVAL)
    clock.now += INTERVAL
    pulse.mark()
    assert pulse.lag == pytest.approx(0.0)


def test_chores_are_done_when_they_are_due() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    done: list[float] = []
    pulse.every(1.0, lambda: done.append(clock.now))
    for _ in range(5):
        clock.now += 0.6
        pulse.mark()
    assert done == pytest.approx([101.2, 102.4])


def test_it_beats_in_a_loop_until_it_is_stopped() -> None:
    async def beats() -> None:
        pulse = Pulse()
        beaten = asyncio.Event()
        pulse.every(0, beaten.set)
        pulse.start(asyncio.get_running_loop())
        await asyncio.wait_for(beaten.wait(), 30)
        pulse.stop()
        pulse.stop()

    asyncio.run(beats())


@pytest.mark.parametrize(
    ("arrived", "heard", "timeout", "cause"),
    [
        (100.0, 100.0, 10.0, None),
        (99.98, 99.98, 10.0, None),
        (89.9, 100.0, 10.0, "timeout"),
        (90.1, 100.0, 10.0, None),
        (99.5, 99.5, 10.0, "lag"),
        (99.85, 99.85, 10.0, None),
        (99.85, 99.85, 0.4, "lag"),
    ],
    ids=["fresh", "idle-loop", "slow-body", "slow-body-in-time", "busy-loop", "a-little-busy", "short-timeout"],
)
def test_what_is_too_late_is_shed(arrived: float, heard: float, timeout: float, cause: str | None) -> None:
    assert Shedder(0.25).cause(now=100.0, arrived=arrived, heard=heard, timeout=timeout) == cause
