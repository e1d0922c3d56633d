"""Limits the memory for responses that clients do not read, over all connections."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

# Bytes. Together with connections, bodies and the process itself this is below the memory limit of the chart, 512 MiB.
MAX_UNREAD: Final = 32 * 1024 * 1024


class UnreadConnection(Protocol):
    """A connection whose client has not read its response."""

    def abort_unread(self) -> None:
        """Close the connection now, and drop its response."""


class UnreadAnswers:
    """Counts the bytes that are kept for each reader, and aborts readers when the total exceeds a limit.

    The reader that has read nothing for the longest time is aborted first. A client that reads gets its response within
    one or two round trips, so it is rarely aborted.
    """

    def __init__(self, limit: int = MAX_UNREAD) -> None:
        self.total = 0  # bytes
        self._limit = limit
        self._sizes: OrderedDict[UnreadConnection, int] = OrderedDict()

    def keep(self, reader: UnreadConnection, size: int) -> None:
        """Record that `size` bytes are kept for a reader, until `drop` is called."""
        self._sizes[reader] = size
        self.total += size
        while self.total > self._limit:
            oldest = next(iter(self._sizes))
            self.drop(oldest)
            oldest.abort_unread()

    def progressed(self, reader: UnreadConnection) -> None:
        """Record that a reader has read a part of its response. All of its bytes still count."""
        self._sizes.move_to_end(reader)

    def drop(self, reader: UnreadConnection) -> None:
        """Record that nothing is kept for a reader; does nothing for an unknown reader."""
        self.total -= self._sizes.pop(reader, 0)
