from __future__ import annotations

import asyncio

import pytest

from injector.webhook.overload import INTERVAL, SMALL_BODY, LoadShedder, LoopMonitor


class ManualClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_marks_keep_the_previous_one() -> None:
    clock = ManualClock()
    monitor = LoopMonitor(clock)
    clock.now = 101.0
    monitor.tick()
    assert (monitor.before, monitor.now) == (100.0, 101.0)
    assert monitor.lag == pytest.approx(1.0 - INTERVAL)
    clock.now += INTERVAL
    monitor.tick()
    assert monitor.lag == pytest.approx(0.0)


def test_chores_run_when_due() -> None:
    clock = ManualClock()
    monitor = LoopMonitor(clock)
    done: list[float] = []
    monitor.every(1.0, lambda: done.append(clock.now))
    for _ in range(5):
        clock.now += 0.6
        monitor.tick()
    assert done == pytest.approx([101.2, 102.4])


def test_monitor_beats_until_stopped() -> None:
    async def beats() -> None:
        monitor = LoopMonitor()
        beaten = asyncio.Event()
        monitor.every(0, beaten.set)
        monitor.start(asyncio.get_running_loop())
        await asyncio.wait_for(beaten.wait(), 30)
        monitor.stop()
        monitor.stop()

    asyncio.run(beats())


@pytest.mark.parametrize(
    ("arrived", "turn", "timeout", "cause"),
    [
        (100.0, 100.0, 10.0, None),
        (99.98, 99.99, 10.0, None),
        (89.9, 100.0, 10.0, "timeout"),
        (90.1, 100.0, 10.0, None),
        (99.5, 99.5, 10.0, "lag"),
        (99.85, 99.85, 10.0, None),
        (92.0, 99.99, 10.0, None),
        (99.6, 99.6, 1.5, "lag"),
        (99.6, 99.6, 1.3, None),
        (91.5, 99.5, 10.0, "lag"),
        (90.5, 99.5, 10.0, None),
    ],
    ids=[
        "fresh",
        "idle-loop",
        "slow-body",
        "slow-body-in-time",
        "busy-turn",
        "a-little-busy",
        "after-a-standstill",
        "short-timeout",
        "too-short-for-a-retry",
        "just-in-time-for-a-retry",
        "too-late-for-a-retry",
    ],
)
def test_hopeless_review_is_shed(arrived: float, turn: float, timeout: float, cause: str | None) -> None:
    assert (
        LoadShedder(0.25).reject_reason(now=100.0, arrived=arrived, turn=turn, timeout=timeout, body=body("a")) == cause
    )


def body(uid: str, *, size: int = SMALL_BODY + 1) -> bytes:
    """The start of a review as an API server writes it."""
    head = b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"%b",' % uid.encode()
    return head.ljust(size)


@pytest.mark.parametrize(("worked", "size", "cause"), [
    (0.5, SMALL_BODY + 1, "lag"),
    (0.5, SMALL_BODY, None),
    (0.8, SMALL_BODY, "lag"),
])  # fmt: skip
def test_small_review_is_shed_later(worked: float, size: int, cause: str | None) -> None:
    turn = 100.0 - worked
    assert (
        LoadShedder(0.25).reject_reason(now=100.0, arrived=turn, turn=turn, timeout=10.0, body=body("a", size=size))
        == cause
    )


def late(shedder: LoadShedder, uid: str, *, now: float = 100.0, waited: float = 1.0) -> str | None:
    """The cause for shedding a review that waited behind others."""
    return shedder.reject_reason(now=now, arrived=now - waited, turn=now - waited, timeout=5.0, body=body(uid))


def test_retried_review_is_answered() -> None:
    shedder = LoadShedder(0.25)
    assert late(shedder, "a") == "lag"
    assert late(shedder, "b") == "lag"
    assert late(shedder, "a", now=102.0) is None
    assert late(shedder, "b", now=102.0) is None


def test_retried_review_past_its_timeout_is_shed() -> None:
    shedder = LoadShedder(0.25)
    assert late(shedder, "a") == "lag"  # arrived at 99
    assert late(shedder, "a", now=104.5) == "timeout"


def test_client_that_repeats_a_uid_is_shed_like_others() -> None:
    shedder = LoadShedder(0.25)
    assert [late(shedder, "a", now=100.0 + i) for i in range(4)] == ["lag", None, "lag", None]


def test_fail_over_sheds_each_late_review_every_time() -> None:
    shedder = LoadShedder(0.25, fail_over=True)
    assert [late(shedder, "a", now=100.0 + i) for i in range(3)] == ["lag"] * 3
    assert late(shedder, "b", waited=0.2) is None
    assert late(shedder, "c", waited=6.0) == "timeout"
    assert shedder._turned_away == {}


def test_memory_of_shed_reviews_is_bounded() -> None:
    shedder = LoadShedder(0.25)
    many = [str(i) for i in range(5000)]
    assert all(late(shedder, uid) == "lag" for uid in many)
    again = [late(shedder, uid, now=102.0) for uid in reversed(many)]
    assert again.count(None) == 4096
