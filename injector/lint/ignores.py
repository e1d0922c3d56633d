"""Comments that switch rules off for one line: `# dapr-token-injector: ignore DTI007 -- the demo's token is public`.

At the end of a line, a comment applies to that line; alone on a line, it applies to the next line that is neither blank
nor a comment. The reason is required, and not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.core.messages import redact
from injector.lint.catalogue import find

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Ignore:
    """One comment. Lines, columns and documents count from 1; `flaw` is the reason why it is not followed."""

    document: int
    line: int
    column: int
    covers: int
    rules: frozenset[str]
    flaw: str | None = None


def parse(text: str, first: int, document: int) -> Iterator[Ignore]:
    """Yield every ignore comment of a part of a file whose first line is number `first`."""
    if _MARK not in text:
        return
    waiting: list[tuple[int, int, str]] = []
    for number, line in enumerate(text.split("\n"), start=first):
        stands = line.lstrip()
        if not stands.strip():
            continue
        found = _COMMENT.search(line) if _MARK in line else None
        if stands.startswith("#"):
            if found:
                waiting.append((number, found.start() + 1, found["rest"]))
            continue
        for comment in waiting:
            yield _ignore(document, *comment, covers=number)
        waiting.clear()
        if found:
            yield _ignore(document, number, found.start() + 1, found["rest"], covers=number)
    for comment in waiting:
        yield _ignore(document, *comment, covers=comment[0])


# A comment begins a line or follows a blank: https://yaml.org/spec/1.1/#comment
_MARK: Final = "dapr-token-injector:"
_COMMENT: Final = re.compile(rf"(?:(?<=\s)|^)#\s*{_MARK}\s*ignore\b(?P<rest>.*)")
_PARTS: Final = re.compile(r"[,\s]+")


def _ignore(document: int, line: int, column: int, rest: str, *, covers: int) -> Ignore:
    rules, _, reason = rest.partition("--")
    words = [word for word in _PARTS.split(rules) if word]
    known = {word: find(word) for word in words}
    strange = next((word for word, rule in known.items() if rule is None), None)
    if not words:
        flaw = "names no rule"
    elif strange is not None:
        flaw = f"names {redact(strange)}, which is not a rule"
    elif not reason.strip():
        flaw = "has no reason; write it after --"
    else:
        return Ignore(document, line, column, covers, frozenset(rule.id for rule in known.values() if rule is not None))
    return Ignore(document, line, column, covers, frozenset(), f"this ignore comment is not followed: it {flaw}")
