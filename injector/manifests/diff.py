"""Writes the unified diff of a file chunk by chunk; each hunk is written as soon as it is complete.

Edits are few and local, so the two sides are aligned by looking a few lines ahead. The time grows with the text, not
with its square, as that of `difflib` does (docs/decisions/0027-a-diff-of-our-own.md).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Lines of context around a hunk, as diff and git have it.
CONTEXT: Final = 3
# Lines in a row that must be alike for the two sides to be aligned again.
_ALIKE: Final = 3
# Ours: lines to look ahead on both sides together. An edit is shorter, unless a long list was copied.
_REACH: Final = 512


class Diff:
    """The diff of one file; `write` is called with each line, headings first."""

    def __init__(self, old_name: str, new_name: str, write: Callable[[str], None]) -> None:
        self._names: tuple[str, str] | None = (old_name, new_name)
        self._write = write
        self._before: deque[str] = deque(maxlen=CONTEXT)
        self._hunk: list[str] = []
        self._trailing = 0
        self._start = (0, 0)
        self._old = self._new = 0  # lines passed on each side

    def feed(self, old: str, new: str) -> None:
        """Add the next chunk of the file, before and after; chunks end with a line."""
        if old == new:
            self._alike(old)
            return
        for mark, line in changes(_lines(old), _lines(new)):
            if mark == " ":
                self._same(line)
            else:
                self._changed(mark, line)

    def finish(self) -> None:
        """End the file."""
        self._flush()

    def _alike(self, text: str) -> None:
        """Add an unchanged chunk: only its first and last lines can be context."""
        at = 0
        while self._hunk and at < len(text):
            end = text.find("\n", at) + 1 or len(text)
            self._same(text[at:end])
            at = end
        if at >= len(text):
            return
        count = text.count("\n", at) + (not text.endswith("\n"))
        tail = len(text)
        for _ in range(min(CONTEXT, count)):
            tail = text.rfind("\n", at, tail - 1) + 1 if tail > at else at
            tail = max(tail, at)
        self._old += count
        self._new += count
        self._before.extend(_lines(text[tail:]))

    def _same(self, line: str) -> None:
        self._old += 1
        self._new += 1
        if not self._hunk:
            self._before.append(line)
            return
        self._hunk.append(" " + line)
        self._trailing += 1
        if self._trailing == 2 * CONTEXT:
            rest = self._hunk[-CONTEXT:]
            del self._hunk[-CONTEXT:]
            self._flush(ahead=CONTEXT)
            self._before.extend(line[1:] for line in rest)

    def _changed(self, mark: str, line: str) -> None:
        if not self._hunk:
            context = len(self._before)
            self._start = (self._old - context, self._new - context)
            self._hunk = [" " + before for before in self._before]
            self._before.clear()
        self._hunk.append(mark + line)
        self._trailing = 0
        if mark == "-":
            self._old += 1
        else:
            self._new += 1

    def _flush(self, ahead: int = 0) -> None:
        """Write the hunk; `ahead` lines were counted that are not in it."""
        if not self._hunk:
            return
        while self._trailing - ahead > CONTEXT:
            self._before.append(self._hunk.pop()[1:])
            self._trailing -= 1
            ahead += 1
        if self._names is not None:
            self._write(f"--- {self._names[0]}\n")
            self._write(f"+++ {self._names[1]}\n")
            self._names = None
        old, new = (
            _extent(start, passed - ahead - start)
            for start, passed in zip(self._start, (self._old, self._new), strict=True)
        )
        self._write(f"@@ -{old} +{new} @@\n")
        for line in self._hunk:
            self._write(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
        self._hunk = []
        self._trailing = 0


def _extent(start: int, count: int) -> str:
    # An empty side names the line before it.
    first = start + 1 if count else start
    return str(first) if count == 1 else f"{first},{count}"


def _lines(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def changes(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every line with ` `, `-` or `+`; what goes before what comes.

    Where lines were only inserted, or only removed, the diff has just those.
    """
    if len(old) < len(new) and (marks := _inserted(old, new)):
        return zip(marks, new, strict=True)
    if len(new) < len(old) and (marks := _inserted(new, old)):
        return zip(marks.replace("+", "-"), old, strict=True)
    return _aligned_changes(old, new)


def _inserted(few: Sequence[str], many: Sequence[str]) -> str:
    """A mark for each line of `many`, ` ` or `+`; empty when `few` are not all in it, in their order."""
    marks: list[str] = []
    i = 0
    for line in many:
        alike = i < len(few) and line == few[i]
        marks.append(" " if alike else "+")
        i += alike
    return "".join(marks) if i == len(few) else ""


def _aligned_changes(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    i = j = 0
    while i < len(old) and j < len(new):
        if old[i] == new[j]:
            yield " ", old[i]
            i, j = i + 1, j + 1
            continue
        gone, come = _aligned(old, new, i, j)
        yield from (("-", line) for line in old[i : i + gone])
        yield from (("+", line) for line in new[j : j + come])
        i, j = i + gone, j + come
    yield from (("-", line) for line in old[i:])
    yield from (("+", line) for line in new[j:])


def _aligned(old: Sequence[str], new: Sequence[str], i: int, j: int) -> tuple[int, int]:
    """How many lines to drop on each side until the two are alike again: the fewest together.

    The sides are searched ever further, so that an edit costs about its own lines.
    """
    reach = 8
    while reach <= _REACH:
        first: dict[tuple[str, ...], int] = {}
        for gone in range(min(reach, len(old) - i + 1)):
            first.setdefault(tuple(old[i + gone : i + gone + _ALIKE]), gone)
        best = (reach, 0)
        for come in range(min(reach, len(new) - j + 1)):
            found = first.get(tuple(new[j + come : j + come + _ALIKE]))
            if found is not None:
                best = min(best, (found + come, found))
        # Whatever drops fewer lines than `reach` was looked at.
        if best[0] < reach:
            return best[1], best[0] - best[1]
        reach *= 2
    return len(old) - i, len(new) - j
