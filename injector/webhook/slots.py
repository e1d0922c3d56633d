"""Which connection of a full port is closed to make room for a new one.

Connections wait in queues, in the order in which they give way. Each event moves one connection, so an accept costs
the same however many connections there are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator


class Evictable(Protocol):
    """A connection as the queues see it."""

    queue: Queue | None  # where it waits, or returns to after its request; None when it holds no slot

    @property
    def is_busy(self) -> bool:
        """Whether a request is in flight that closing the connection would lose."""
        ...

    def evict(self) -> None:
        """Close the connection now."""
        ...


# To the time of accept or of the last answer, in seconds of the port's clock.
Queue: TypeAlias = "OrderedDict[Evictable, float]"


class Victim(NamedTuple):
    """The connection that gives way next: its kind, and the time before which it should not."""

    kind: str  # a key of `injector.webhook.metrics.EVICTIONS`
    connection: Evictable
    ready: float


class Slots:
    """The connections of one port.

    With `by_history`, connections that never completed a request give way first, oldest first; then those that
    completed requests but served no review, then those that served reviews, each time the one that has been idle
    longest. Without, the connection that has been idle longest gives way, whatever it did before. Connections that are
    being closed already always come first.

    New connections need some time for their first request. So a share of the slots is theirs, each for at most `GRACE`
    seconds: otherwise a port that is full of connections with a history would close every new one before its first
    request. And no connection is closed within `LEAST` seconds of its accept or its last answer, however many others
    wait to be accepted.
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
        """Note that a connection has answered a request, and let it wait in `queue` from now on."""
        before = connection.queue
        if before is not queue:
            if before is None:
                return  # evicted
            before.pop(connection, None)
            connection.queue = queue
        queue[connection] = now
        queue.move_to_end(connection)

    def close(self, connection: Evictable) -> None:
        """Note that a connection is being closed; its peer may take its time."""
        if connection.queue is not None:
            connection.queue.pop(connection, None)
            connection.queue = self.closing
            self.closing[connection] = _LONG_AGO

    def stall(self, connection: Evictable) -> None:
        """Note that a peer does not read its answer: the connection is no longer busy."""
        if connection.queue is not None:
            connection.queue.setdefault(connection, _LONG_AGO)

    def leave(self, connection: Evictable) -> None:
        """Give the slot back, unless that was done before."""
        if connection.queue is not None:
            connection.queue.pop(connection, None)
            connection.queue = None
            self.count -= 1

    def victim(self, now: float, limit: int) -> Victim | None:
        """Returns the connection that gives way next on a port with `limit` slots; None when every one is busy."""
        for kind, queue in self._candidates(now, limit):
            while queue:
                first, since = next(iter(queue.items()))
                if first.is_busy:
                    # It comes back when its request is over: so each request costs one such step at most.
                    del queue[first]
                    continue
                return Victim(kind, first, since + LEAST)
        return None

    def evict(self, victim: Victim) -> None:
        """Close a connection, and take its slot back at once."""
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
# Seconds for which each connection is kept at least: two round trips within a cluster, and room for a busy machine.
LEAST: Final = 0.1
# Seconds for which a new connection may keep a reserved slot without a request.
GRACE: Final = 1.0
# One slot in so many is reserved for new connections.
_RESERVED: Final = 8
