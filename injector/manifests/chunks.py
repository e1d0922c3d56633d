"""Splits a stream of text into chunks of one document each, at lines that begin with `---`, as kubectl does.

Such a line is always a marker: in a literal it ends the literal, in quotes it is an error. A chunk has its own marker,
the directives before it and all comments after it; the joined chunks are the stream.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BOM: Final = "\ufeff"  # a byte order mark, which is not a part of the text
_MARKER: Final = re.compile(r"^---(?=[ \t\r\n])", re.MULTILINE)
_LINE_END: Final = re.compile(r"\n")
# Characters looked at once more when a further block arrives: more than a marker takes.
_OVERLAP: Final = 4096


@dataclass(frozen=True)
class Chunk:
    """A part of a stream, and the number of its first line, from 1."""

    text: str
    line: int

    def line_at(self, offset: int) -> int:
        """Return the line, from 1, of a character of the chunk."""
        return self.line + self._index(offset)

    def column_at(self, offset: int) -> int:
        """Return the column, from 1, of a character of the chunk."""
        return offset - self.line_start(offset) + 1

    def line_start(self, offset: int) -> int:
        """Where the line of a character begins."""
        return self._starts[self._index(offset)]

    def line_end(self, offset: int) -> int:
        """Where the line of a character ends: at its line feed, or at the end of the text."""
        after = self._index(offset) + 1
        return self._starts[after] - 1 if after < len(self._starts) else len(self.text)

    def _index(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    @cached_property
    def _starts(self) -> array[int]:
        """Where each line begins. A file may have one line of megabytes and thousands of findings in it."""
        return array("Q", (0, *(found.end() for found in _LINE_END.finditer(self.text))))


def split(blocks: Iterable[str]) -> Iterator[Chunk]:
    """Cut a stream that arrives in blocks of any size; nothing but the current document is kept."""
    line = 1
    held = ""
    scan = 0
    for block in blocks:
        held += block
        begin = 0
        for found in _MARKER.finditer(held, scan):
            start = _with_directives(held, begin, found.start())
            # A marker at the very beginning is the document's own.
            if start > begin:
                yield Chunk(held[begin:start], line)
                line += held.count("\n", begin, start)
                begin = start
        held = held[begin:]
        scan = max(0, len(held) - _OVERLAP)
    if held:
        yield from _last(held, line, scan)


def _with_directives(text: str, begin: int, marker: int) -> int:
    """Where the directives before a marker begin; they may have comments and blank lines between them."""
    start = at = marker
    while at > begin:
        at = text.rfind("\n", begin, at - 1) + 1 or begin
        if text[at] == "%":
            start = at
        elif text[at] != "#" and text[at : text.find("\n", at)].strip(" \t\r"):
            break
    return start


def _last(held: str, line: int, scan: int) -> Iterator[Chunk]:
    """The stream's end can be a marker without anything after it."""
    if held.endswith("\n---", scan) or held == "---":
        cut = len(held) - 3
        if cut:
            yield Chunk(held[:cut], line)
        yield Chunk(held[cut:], line + held.count("\n", 0, cut))
    else:
        yield Chunk(held, line)
