"""Makes the unified diff of a file from the splices of its edits, chunk by chunk.

Only lines with a splice in them are compared, so the time grows with the text
(docs/decisions/0027-a-diff-of-our-own.md).
"""

from __future__ import annotations

import io
from itertools import chain, starmap
from typing import TYPE_CHECKING, Final

from injector.manifests.layout import Splice, apply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Lines of context around a hunk, as diff and git have it.
CONTEXT: Final = 3
# Ours: pairs of lines that are compared for the smallest diff of one edit. What is larger is removed and added.
_MOST_PAIRS: Final = 10_000


def unified(old_name: str, new_name: str, edits: Iterable[tuple[str, Sequence[Splice]]]) -> Iterator[str]:
    """Yield the lines of the unified diff of a file; each hunk as soon as it is complete.

    Args:
        old_name: What the diff calls the file before.
        new_name: And after.
        edits: The text of each chunk of the file, which ends with a line, and the splices of its edit.
    """
    heading = [f"--- {old_name}\n", f"+++ {new_name}\n"]
    lines: list[tuple[str, str]] = []  # not yet in a hunk, with their marks
    unchanged = 0  # of them, those after the last change
    old = new = 0  # lines before them on each side
    for change in chain.from_iterable(starmap(changes, edits)):
        lines.append(change)
        unchanged = unchanged + 1 if change[0] == " " else 0
        if len(lines) > unchanged > 2 * CONTEXT:
            hunk, lines = lines[: CONTEXT - unchanged], lines[CONTEXT - unchanged :]
            yield from (*heading, *_hunk(hunk, old, new))
            heading = []
            unchanged = len(lines)
            old, new = old + _count(hunk, "+"), new + _count(hunk, "-")
        if unchanged == len(lines) > CONTEXT:
            del lines[0]
            unchanged, old, new = unchanged - 1, old + 1, new + 1
    if len(lines) > unchanged:
        yield from (*heading, *_hunk(lines[: len(lines) - max(0, unchanged - CONTEXT)], old, new))


def _hunk(lines: list[tuple[str, str]], old: int, new: int) -> Iterator[str]:
    yield f"@@ -{_extent(old, _count(lines, '+'))} +{_extent(new, _count(lines, '-'))} @@\n"
    for line in map("".join, lines):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _count(lines: list[tuple[str, str]], other: str) -> int:
    """The lines of one side: those without the mark of the other."""
    return sum(mark != other for mark, _ in lines)


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
