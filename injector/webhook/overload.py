"""Measures the lag of the event loop, and decides which requests to reject because of overload.

Under overload, requests wait in the kernel while the only thread works on others. The kernel does not report for how
long, but the iterations of the event loop give an upper bound: data that an iteration reads arrived after the previous
iteration had polled. So a timer records the time of iterations, and each request keeps the second to last recorded time
before its first bytes were read. The difference to the current time is the longest time that the request can have
waited. If it exceeds the timeout of the client, the client has given up.

Requests are rejected because of the current iteration: when it has worked for a while, the rest of its requests are
rejected, so that the next iteration starts soon. New connections, their handshakes and their first requests each need
an iteration. A long wait alone is not a reason to reject: after a pause the queue is long, but it takes little time to
process. The number of connections is not a criterion: an API server keeps about 25 idle ones.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

Clock = Callable[[], float]

# Seconds between two ticks when the loop is not busy. Much shorter than all limits, much longer than a timer takes.
INTERVAL: Final = 0.01


class LoopMonitor:
    """Records when the event loop iterates, and runs short periodic tasks between requests.

    `now` and `before` are the times of the last tick and of the previous one, in seconds of `clock`. They are plain
    attributes, and `now` is precise enough for deadlines.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._tasks: list[_PeriodicTask] = []
        self._timer: asyncio.TimerHandle | None = None
        self.now = self.before = clock()

    @property
    def lag(self) -> float:
        """Delay of the last tick, in seconds."""
        return max(0.0, self.now - self.before - INTERVAL)

    def every(self, seconds: float, work: Callable[[], None]) -> None:
        """Call `work` about every `seconds` seconds; `work` must be short and must not raise."""
        self._tasks.append(_PeriodicTask(seconds, work, self.now + seconds))

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to record iterations of `loop`."""
        self.now = self.before = self._clock()
        self._timer = loop.call_later(INTERVAL, self._beat, loop)

    def stop(self) -> None:
        """Stop recording."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def tick(self) -> None:
        """Record the time, and run the tasks that are due."""
        self.before, self.now = self.now, self._clock()
        for task in self._tasks:
            if task.due <= self.now:
                task.due = self.now + task.seconds
                task.work()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(INTERVAL, self._beat, loop)
        self.tick()


@dataclass(slots=True)
class _PeriodicTask:
    seconds: float
    work: Callable[[], None]
    due: float


class LoadShedder:
    """Decides which requests to reject. Times are in seconds of one monotonic clock.

    An API server retries one second after a rejection, with the same uid, until the webhook's timeout has passed. So a
    review is rejected because of lag only once. Its retry is decided, unless the client has given up by then. Otherwise
    the same review would be rejected each time during a long overload. Small reviews are rejected later than others:
    rejecting one costs about as much as deciding it, and the reviews of ordinary Pods are small.

    With `fail_over`, API servers do not retry but call another entry. So a review does not need time for a retry, and
    none is remembered.
    """

    def __init__(self, max_lag: float, *, fail_over: bool = False) -> None:
        self._max_lag = max_lag
        self._fail_over = fail_over
        self._turned_away: dict[bytes, float] = {}  # uid -> arrival of the first request about it

    def reject_reason(self, *, now: float, arrived: float, turn: float, timeout: float, body: bytes) -> str | None:
        """Return why to reject a complete request; None to decide it.

        Args:
            now: The time of this call.
            arrived: The earliest time at which the first byte of the request can have arrived.
            turn: The last tick: the start of this event loop iteration, or up to `INTERVAL` before it.
            timeout: How long the client waits, from sending the request to the response.
            body: The review, not decoded.
        """
        if now - arrived > timeout:
            return "timeout"
        max_lag = self._max_lag if len(body) > SMALL_BODY else SMALL_BODY_LAG * self._max_lag
        # With a short timeout the limit is a quarter of it, so that enough time remains for the response.
        if now - turn - INTERVAL <= min(max_lag, timeout / 4):
            return None
        if self._fail_over:
            return "lag"
        uid = _uid(body)
        first = self._turned_away.pop(uid, None)
        if first is not None:
            return "timeout" if now - first > timeout else None
        if now - arrived + RETRY_AFTER > timeout:
            return None  # a retry would exceed the timeout
        self._remember(uid, arrived)
        return "lag"

    def _remember(self, uid: bytes, arrived: float) -> None:
        if len(self._turned_away) >= _REMEMBERED:
            del self._turned_away[next(iter(self._turned_away))]
        if uid:
            self._turned_away[uid] = arrived


def _uid(body: bytes) -> bytes:
    """Return the uid of a review, which an API server writes near its start; empty if it is not there."""
    found = _UID.search(body, 0, _NEAR)
    return found[1] if found else b""


# Seconds after which a client should retry. 1 and not 0: an API server retries at most ten times, at this interval.
RETRY_AFTER: Final = 1
# Bytes. The review of a Pod of a Deployment has 6 to 9 KB, including the sidecar.
SMALL_BODY: Final = 16 * 1024
# Factor by which the limit is higher for small reviews.
SMALL_BODY_LAG: Final = 3
# Maximum number of rejected reviews to remember for their retry. An API server has at most a few hundred in progress.
_REMEMBERED: Final = 4096
_NEAR: Final = 512  # bytes
_UID: Final = re.compile(rb'"uid": ?"([^"]{1,64})"')
