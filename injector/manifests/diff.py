"""Writes the unified diff of a file chunk by chunk, made from the splices of its edits.

Only lines with a splice in them are compared, so the time grows with the text
(docs/decisions/0027-a-diff-of-our-own.md).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from injector.manifests.layout import Splice, apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Lines of context around a hunk, as diff and git have it.
CONTEXT: Final = 3
# Ours: pairs of lines that are compared for the smallest diff of one edit. What is larger is removed and added.
_MOST_PAIRS: Final = 10_000


class Diff:
    """The diff of one file; `write` is called with each line, headings first."""

    def __init__(self, old_name: str, new_name: str, write: Callable[[str], None]) -> None:
        self._heading = [f"--- {old_name}\n", f"+++ {new_name}\n"]
        self._write = write
        self._lines: list[tuple[str, str]] = []  # not yet written, with their marks
        self._unchanged = 0  # of them, those after the last change
        self._passed = (0, 0)  # lines before them, in the old and in the new text

    def feed(self, text: str, splices: Sequence[Splice]) -> None:
        """Add the next chunk of the file and the splices of its edit; chunks end with a line."""
        for change in changes(text, splices):
            self._lines.append(change)
            self._unchanged = self._unchanged + 1 if change[0] == " " else 0
            if self._unchanged > 2 * CONTEXT:
                self._write_hunk()
            if self._unchanged == len(self._lines) > CONTEXT:
                del self._lines[0]
                self._unchanged -= 1
                self._passed = (self._passed[0] + 1, self._passed[1] + 1)

    def finish(self) -> None:
        """End the file."""
        self._write_hunk()

    def _write_hunk(self) -> None:
        """Write the changes with the lines around them, and keep the lines behind these."""
        if self._unchanged == len(self._lines):
            return
        count = len(self._lines) - max(0, self._unchanged - CONTEXT)
        hunk, self._lines = self._lines[:count], self._lines[count:]
        self._unchanged = len(self._lines)
        old, new = (sum(mark != other for mark, _ in hunk) for other in "+-")
        extents = f"-{_extent(self._passed[0], old)} +{_extent(self._passed[1], new)}"
        self._passed = (self._passed[0] + old, self._passed[1] + new)
        for line in (*self._heading, f"@@ {extents} @@\n", *map("".join, hunk)):
            self._write(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
        self._heading = []


def _extent(start: int, count: int) -> str:
    # An empty side names the line before it.
    first = start + 1 if count else start
    return str(first) if count == 1 else f"{first},{count}"


def changes(text: str, splices: Sequence[Splice]) -> Iterator[tuple[str, str]]:
    """Every line of a text and of what the splices make of it, with ` `, `-` or `+`."""
    at = 0
    for start, end, new in _edited_lines(text, splices):
        yield from _marked(" ", _lines(text[at:start]))
        yield from _compared(list(_lines(text[start:end])), list(_lines(new)))
        at = end
    yield from _marked(" ", _lines(text[at:]))


def _edited_lines(text: str, splices: Sequence[Splice]) -> Iterator[tuple[int, int, str]]:
    """Each run of whole lines that splices change: where it begins and ends, and what becomes of it."""
    start = end = 0
    inside: list[Splice] = []
    for splice in sorted(splices, key=lambda one: one.start):
        if splice.start >= end:
            if inside:
                yield start, end, apply(text[start:end], inside)
            inside = []
            start = max(end, text.rfind("\n", end, splice.start) + 1)
        inside.append(Splice(splice.start - start, splice.end - start, splice.text))
        if splice.end >= end:
            end = text.find("\n", splice.end) + 1 or len(text) + 1
    if inside:
        yield start, end, apply(text[start:end], inside)


def _lines(text: str) -> Iterator[str]:
    return io.StringIO(text, newline="\n")


def _marked(mark: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((mark, line) for line in lines)


def _compared(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    """The lines of an edit: the smallest diff, unless it is large."""
    most = min(len(old), len(new))
    head = next((i for i in range(most) if old[i] != new[i]), most)
    tail = next((i for i in range(most - head) if old[-1 - i] != new[-1 - i]), most - head)
    yield from _marked(" ", old[:head])
    yield from _smallest(old[head : len(old) - tail], new[head : len(new) - tail])
    yield from _marked(" ", old[len(old) - tail :])


def _smallest(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    i = j = 0
    if len(old) * len(new) <= _MOST_PAIRS:
        # By the lines that are left on each side: how many of them can stay.
        stay = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
        for i in reversed(range(len(old))):
            for j in reversed(range(len(new))):
                stay[i][j] = stay[i + 1][j + 1] + 1 if old[i] == new[j] else max(stay[i + 1][j], stay[i][j + 1])
        i = j = 0
        while i < len(old) and j < len(new):
            if old[i] == new[j]:
                yield " ", old[i]
                i, j = i + 1, j + 1
            elif stay[i + 1][j] >= stay[i][j + 1]:
                yield "-", old[i]
                i += 1
            else:
                yield "+", new[j]
                j += 1
    yield from _marked("-", old[i:])
    yield from _marked("+", new[j:])
