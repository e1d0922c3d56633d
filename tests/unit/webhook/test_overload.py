from __future__ import annotations

import asyncio

import pytest

from injector.webhook.overload import INTERVAL, SMALL_BODY, LoadShedder, LoopMonitor


class ManualClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_marks_remember_the_one_before() -> None:
    clock = ManualClock()
    monitor = LoopMonitor(clock)
    clock.now = 101.0
    monitor.tick()
    assert (monitor.before, monitor.now) == (100.0, 101.0)
    assert monitor.lag == pytest.approx(1.0 - INTERVAL)
    clock.now += INTERVAL
    monitor.tick()
    assert monitor.lag == pytest.approx(0.0)


def test_chores_are_done_when_they_are_due() -> None:
    clock = ManualClock()
    monitor = LoopMonitor(clock)
    done: list[float] = []
    monitor.every(1.0, lambda: done.append(clock.now))
    for _ in range(5):
        clock.now += 0.6
        monitor.tick()
    assert done == pytest.approx([101.2, 102.4])


def test_it_beats_in_a_loop_until_it_is_stopped() -> None:
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
def test_what_is_not_worth_an_answer_is_shed(arrived: float, turn: float, timeout: float, cause: str | None) -> None:
    assert (
        LoadShedder(0.25).reject_reason(now=100.0, arrived=arrived, turn=turn, timeout=timeout, body=body("a")) == cause
    )


def body(uid: str, *, size: int = SMALL_BODY + 1) -> bytes:
    """What begins like a review as an API server writes it."""
    head = b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"%b",' % uid.encode()
    return head.ljust(size)


@pytest.mark.parametrize(("worked", "size", "cause"), [
    (0.5, SMALL_BODY + 1, "lag"),
    (0.5, SMALL_BODY, None),
    (0.8, SMALL_BODY, "lag"),
])  # fmt: skip
def test_a_small_review_is_shed_later(worked: float, size: int, cause: str | None) -> None:
    turn = 100.0 - worked
    assert (
        LoadShedder(0.25).reject_reason(now=100.0, arrived=turn, turn=turn, timeout=10.0, body=body("a", size=size))
        == cause
    )


def late(shedder: LoadShedder, uid: str, *, now: float = 100.0, waited: float = 1.0) -> str | None:
    """What is done with a review that waited so long for others in its turn."""
    return shedder.reject_reason(now=now, arrived=now - waited, turn=now - waited, timeout=5.0, body=body(uid))


def test_a_review_that_comes_again_is_answered() -> None:
    shedder = LoadShedder(0.25)
    assert late(shedder, "a") == "lag"
    assert late(shedder, "b") == "lag"
    assert late(shedder, "a", now=102.0) is None
    assert late(shedder, "b", now=102.0) is None


def test_it_is_not_answered_when_its_caller_has_given_up_since() -> None:
    shedder = LoadShedder(0.25)
    assert late(shedder, "a") == "lag"  # arrived at 99
    assert late(shedder, "a", now=104.5) == "timeout"


def test_who_sends_the_same_uid_for_ever_is_turned_away_as_often_as_others() -> None:
    shedder = LoadShedder(0.25)
    assert [late(shedder, "a", now=100.0 + i) for i in range(4)] == ["lag", None, "lag", None]


def test_memory_for_those_turned_away_is_bounded() -> None:
    shedder = LoadShedder(0.25)
    many = [str(i) for i in range(5000)]
    assert all(late(shedder, uid) == "lag" for uid in many)
    again = [late(shedder, uid, now=102.0) for uid in reversed(many)]
    assert again.count(None) == 4096
