"""Selects the connection to close when a new one arrives at a full port.

Connections are in queues, in the order of eviction. Each event moves one connection, so the cost of an accept does not
depend on the number of connections.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator


class Evictable(Protocol):
    """A connection as the queues see it."""

    queue: Queue | None  # the queue that it is in, or returns to after its request; None if it has no slot

    @property
    def is_busy(self) -> bool:
        """Whether closing the connection would lose a request in progress."""

    def evict(self) -> None:
        """Close the connection now."""


# Maps a connection to the time of its accept or of its last response, in seconds of the port's clock.
Queue: TypeAlias = "OrderedDict[Evictable, float]"


class Victim(NamedTuple):
    """The connection to evict next: its kind, and the time from which it may be evicted."""

    kind: str  # a key of `injector.webhook.metrics.EVICTIONS`
    connection: Evictable
    ready: float


class Slots:
    """The connections of one port.

    Connections that are already being closed are evicted first. With `by_history`, the next are connections that never
    completed a request, oldest first; then connections that completed requests but served no review; then connections
    that served reviews. Among those two kinds, the connection that has been idle longest is evicted first. Without
    `by_history`, the connection that has been idle longest is evicted, regardless of its requests.

    New connections need some time for their first request. So a share of the slots is reserved for them, each for at
    most `GRACE` seconds. Otherwise a port that is full of connections with a history would close each new one before
    its first request. No connection is closed within `LEAST` seconds of its accept or its last response, regardless of
    how many others wait to be accepted.
    """

    def __init__(self, *, by_history: bool) -> None:
        self.count = 0
        self.closing: Queue = OrderedDict()
        self.silent: Queue = OrderedDict()
        self.idle: Queue = OrderedDict() if by_history else self.silent
        self.served: Queue = OrderedDict() if by_history else self.silent
        self._by_history = by_history

    def enter(self, connection: Evictable, now: float) -> None:
        """Give a new connection a slot."""
        self.count += 1
        connection.queue = self.silent
        self.silent[connection] = now

    def rest(self, connection: Evictable, queue: Queue, now: float) -> None:
        """Record that a connection has answered a request, and move it to `queue`."""
        before = connection.queue
        if before is not queue:
            if before is None:
                return  # evicted
            before.pop(connection, None)
            connection.queue = queue
        queue[connection] = now
        queue.move_to_end(connection)

    def close(self, connection: Evictable) -> None:
        """Record that a connection is being closed; the client may not have closed its side yet."""
        if connection.queue is not None:
            connection.queue.pop(connection, None)
            connection.queue = self.closing
            self.closing[connection] = _LONG_AGO

    def stall(self, connection: Evictable) -> None:
        """Record that a client does not read its response: the connection is no longer busy."""
        if connection.queue is not None:
            connection.queue.setdefault(connection, _LONG_AGO)

    def leave(self, connection: Evictable) -> None:
        """Release the slot, unless it was already released."""
        if connection.queue is not None:
            connection.queue.pop(connection, None)
            connection.queue = None
            self.count -= 1

    def victim(self, now: float, limit: int) -> Victim | None:
        """Return the connection to evict next on a port with `limit` slots; None if all connections are busy."""
        for kind, queue in self._candidates(now, limit):
            while queue:
                first, since = next(iter(queue.items()))
                if first.is_busy:
                    # It returns to a queue after its request, so each request causes this step at most once.
                    del queue[first]
                    continue
                return Victim(kind, first, since + LEAST)
        return None

    def evict(self, victim: Victim) -> None:
        """Close a connection, and release its slot immediately."""
        self.leave(victim.connection)
        victim.connection.evict()

    def _candidates(self, now: float, limit: int) -> Iterator[tuple[str, Queue]]:
        yield "closing", self.closing
        if not self._by_history:
            yield "idle", self.idle
            return
        silent = "silent", self.silent
        if self.silent and (len(self.silent) > limit // _RESERVED or now - next(iter(self.silent.values())) >= GRACE):
            yield silent
        yield "idle", self.idle
        yield "served", self.served
        yield silent


_LONG_AGO: Final = float("-inf")
# Minimum seconds that a connection is kept: two round trips within a cluster, with a margin for a busy machine.
LEAST: Final = 0.1
# Maximum seconds that a new connection keeps a reserved slot without a request.
GRACE: Final = 1.0
# One in this number of slots is reserved for new connections.
_RESERVED: Final = 8
