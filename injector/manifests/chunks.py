"""A stream of text in pieces of one document each, cut where a line begins with `---`, as kubectl cuts it.

Such a line is a marker wherever it stands: inside a literal it ends the literal, inside quotes it is an error. A piece
holds its own marker, the directives before it and all comments after it; the pieces joined are the stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Directives belong to the marker that follows them.
_MARKER: Final = re.compile(r"^(?:%[^\n]*\n(?:[%#][^\n]*\n|[ \t\r]*\n)*)?---(?=[ \t\r\n])", re.MULTILINE)
# Characters looked at once more when a further block arrives: more than any directives before a marker take.
_OVERLAP: Final = 4096


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a stream, and its first line, from 1."""

    text: str
    line: int

    def line_at(self, offset: int) -> int:
        """The line, from 1, on which a character of the piece stands."""
        return self.line + self.text.count("\n", 0, offset)

    def column_at(self, offset: int) -> int:
        """The column, from 1, at which a character of the piece stands."""
        return offset - self.text.rfind("\n", 0, offset)


def split(blocks: Iterable[str]) -> Iterator[Chunk]:
    """Cut a stream that arrives in blocks of any size; nothing but the current document is kept."""
    line = 1
    held = ""
    scan = 0
    for block in blocks:
        held += block
        begin = 0
        for found in _MARKER.finditer(held, scan):
            # A marker at the very beginning is the document's own.
            if found.start() > begin:
                yield Chunk(held[begin : found.start()], line)
                line += held.count("\n", begin, found.start())
                begin = found.start()
        held = held[begin:]
        scan = max(0, len(held) - _OVERLAP)
    if held:
        yield from _last(held, line, scan)


def _last(held: str, line: int, scan: int) -> Iterator[Chunk]:
    """The stream's end can be a marker without anything after it."""
    if held.endswith("\n---", scan) or held == "---":
        cut = len(held) - 3
        if cut:
            yield Chunk(held[:cut], line)
        yield Chunk(held[cut:], line + held.count("\n", 0, cut))
    else:
        yield Chunk(held, line)
