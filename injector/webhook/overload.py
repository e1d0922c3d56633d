"""How late the event loop is, and which requests are too late to be worth an answer.

In one thread, overload is waiting: a request lies in the kernel while the loop is busy with others. The kernel does
not say for how long, but the loop's turns bound it: what a turn reads had not arrived before the turn before it
looked. So a timer marks the turns, a request remembers the mark before last of the moment its bytes were read, and the
difference to "now" is the longest that it can have waited. Connections are never counted: an API server keeps two
dozen idle ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

Clock = Callable[[], float]

# Seconds between two marks when the loop is not busy. Short against every limit, long against the cost of a timer.
INTERVAL: Final = 0.01


class Pulse:
    """Marks turns of the event loop and does small chores between requests.

    `now` and `before` are the last mark and the one before it, in the seconds of `clock`. Reading them costs nothing,
    and `now` is a clock that is good enough for deadlines.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._chores: list[_Chore] = []
        self._timer: asyncio.TimerHandle | None = None
        self.now = self.before = clock()

    @property
    def lag(self) -> float:
        """How late the last mark was, in seconds."""
        return max(0.0, self.now - self.before - INTERVAL)

    def every(self, seconds: float, work: Callable[[], None]) -> None:
        """Do `work` about every so many seconds; `work` must be short and must not raise."""
        self._chores.append(_Chore(seconds, work, self.now + seconds))

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to mark turns of `loop`."""
        self.now = self.before = self._clock()
        self._timer = loop.call_later(INTERVAL, self._beat, loop)

    def stop(self) -> None:
        """Mark no more turns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def mark(self) -> None:
        """One turn."""
        self.before, self.now = self.now, self._clock()
        for chore in self._chores:
            if chore.due <= self.now:
                chore.due = self.now + chore.seconds
                chore.work()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(INTERVAL, self._beat, loop)
        self.mark()


class _Chore:
    __slots__ = ("due", "seconds", "work")

    def __init__(self, seconds: float, work: Callable[[], None], due: float) -> None:
        self.seconds = seconds
        self.work = work
        self.due = due


class Shedder:
    """Says which requests to turn away. Times are in seconds of one monotonic clock."""

    def __init__(self, max_lag: float) -> None:
        self._max_lag = max_lag

    def cause(self, *, now: float, arrived: float, heard: float, timeout: float) -> str | None:
        """Why a request whose body is complete is not worth answering; None when it is.

        Args:
            now: The moment of decision.
            arrived: The earliest moment at which the request's first byte can have reached us.
            heard: The same of its last bytes.
            timeout: What the caller allows from sending to answer.
        """
        if now - arrived > timeout:
            return "timeout"
        # Marks lie up to two intervals back on an idle loop; a quarter of a short timeout leaves room for the way back.
        if now - heard - 2 * INTERVAL > min(self._max_lag, timeout / 4):
            return "lag"
        return None
