"""How late the event loop is, and which requests are not worth an answer now.

In one thread, overload is waiting: a request lies in the kernel while the loop is busy with others. The kernel does
not say for how long, but the loop's turns bound it: what a turn reads had not arrived before the turn before it
looked. So a timer marks the turns, a request remembers the mark before last of the moment its first bytes were read,
and the difference to "now" is the longest that it can have waited. So it shows which callers have given up.

Who is turned away is told by the turn itself: once it has worked for a while, the rest of what it reads is shed, so
that the next turn comes soon. Everything that is new takes turns: a connection, its handshake, its first request. That
a request has waited is no reason: after a standstill the queue is long and done in no time. Connections are never
counted: an API server keeps two dozen idle ones.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

Clock = Callable[[], float]

# Seconds between two marks when the loop is not busy. Short against every limit, long against the cost of a timer.
INTERVAL: Final = 0.01


class LoopMonitor:
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
    """Says which requests to turn away. Times are in seconds of one monotonic clock.

    An API server asks again a second after it was turned away, with the same uid, until its webhook's timeout is over.
    So a review is shed for lag once: when it comes again it is answered, unless its caller has given up by then.
    Otherwise a lasting overload would turn the same review away each time. Small ones are shed later than others: they
    cost about as much to turn away as to answer, and are what ordinary Pods look like.
    """

    def __init__(self, max_lag: float) -> None:
        self._max_lag = max_lag
        self._turned_away: dict[bytes, float] = {}  # uid -> arrival of the first request about it

    def cause(self, *, now: float, arrived: float, turn: float, timeout: float, body: bytes) -> str | None:
        """Why a request whose body is complete is not worth answering; None when it is.

        Args:
            now: The moment of decision.
            arrived: The earliest moment at which the request's first byte can have reached us.
            turn: The last mark: when this turn of the event loop began, or up to `INTERVAL` before.
            timeout: What the caller allows from sending to answer.
            body: A review, not decoded.
        """
        if now - arrived > timeout:
            return "timeout"
        max_lag = self._max_lag if len(body) > SMALL_BODY else SMALL_BODY_LAG * self._max_lag
        # A quarter of a short timeout leaves room for the way back.
        if now - turn - INTERVAL <= min(max_lag, timeout / 4):
            return None
        uid = _uid(body)
        first = self._turned_away.pop(uid, None)
        if first is not None:
            return "timeout" if now - first > timeout else None
        if now - arrived + RETRY_AFTER > timeout:
            return None  # asked again it would be too late; there is only this chance
        self._remember(uid, arrived)
        return "lag"

    def _remember(self, uid: bytes, arrived: float) -> None:
        if len(self._turned_away) >= _REMEMBERED:
            del self._turned_away[next(iter(self._turned_away))]
        if uid:
            self._turned_away[uid] = arrived


def _uid(body: bytes) -> bytes:
    """The review's uid, which an API server writes near the beginning; empty when it is not there."""
    found = _UID.search(body, 0, _NEAR)
    return found[1] if found else b""


# Seconds after which a caller should retry. 1 and not 0: an API server makes at most ten retries, at this pace.
RETRY_AFTER: Final = 1
# Bytes. A Pod that a Deployment makes is a review of 6 to 9 KB, sidecar included.
SMALL_BODY: Final = 16 * 1024
# How much longer a turn may have worked before it sheds a small one.
SMALL_BODY_LAG: Final = 3
# Reviews that were turned away and may come again; an API server has at most some hundreds under way.
_REMEMBERED: Final = 4096
_NEAR: Final = 512  # bytes
_UID: Final = re.compile(rb'"uid": ?"([^"]{1,64})"')
