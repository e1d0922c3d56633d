"""The memory that answers take which clients do not read, bounded over all connections."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

# Bytes. With the connections, the bodies and the process itself this stays below the 512 MiB that the chart allows.
MAX_UNREAD: Final = 32 * 1024 * 1024


class Reader(Protocol):
    """A connection whose client has not read its answer."""

    def abort_unread(self) -> None:
        """Close the connection now, and drop its answer."""
        ...


class UnreadAnswers:
    """Counts the bytes that are kept for each reader, and aborts readers when the sum is above a limit.

    The reader that has taken nothing for the longest time is aborted first. A client that reads takes its answer within
    a round trip or two, so it is rarely the one.
    """

    def __init__(self, limit: int = MAX_UNREAD) -> None:
        self.total = 0  # bytes
        self._limit = limit
        self._sizes: OrderedDict[Reader, int] = OrderedDict()

    def keep(self, reader: Reader, size: int) -> None:
        """Note that `size` bytes are kept for a reader, until it is dropped."""
        self._sizes[reader] = size
        self.total += size
        while self.total > self._limit:
            oldest = next(iter(self._sizes))
            self.drop(oldest)
            oldest.abort_unread()

    def progressed(self, reader: Reader) -> None:
        """Note that a reader has taken a part of its answer. The whole of it still counts."""
        self._sizes.move_to_end(reader)

    def drop(self, reader: Reader) -> None:
        """Note that nothing is kept for a reader any more, if anything was."""
        self.total -= self._sizes.pop(reader, 0)
