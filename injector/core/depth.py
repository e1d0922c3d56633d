"""Cuts JSON to a depth at which no rule reads, for text that is nested deeper than the codec follows.

An API server sends up to 10,000 levels (`maxNestingDepth` of https://go.dev/src/encoding/json/scanner.go), for example
in `metadata.managedFields`. The codec follows about 1,000 and then raises a RecursionError. The cut text is decoded
instead: it takes one pass and no recursion. What is left out is not parsed, so a syntax error in it goes unnoticed; an
API server sends none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

# Levels that are kept. The deepest level that a rule reads is the sixteenth: a selector in a CronJob's Pod template.
MAX_DEPTH: Final = 64

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_FLAT: Final = rb'(?:[^"\[\]{}]++|%b)*+' % _STRING
# Passes over everything that opens no level which holds another one, and finds what opens levels (through keys without
# brackets and escapes), or closes some. Every part is possessive, and a string without an end reaches to the end of the
# text: nothing is tried twice, so the time grows with the text.
_NEXT_BRACKETS: Final = re.compile(
    rb'(?:[^"\[\]{}]++|%b|[\[{]%b[\]}])*+(?:([\[{]++)((?:"[^"\\\[\]{}]*+":[\[{]++)*+)|([\]}]++)|\Z)' % (_STRING, _FLAT),
    re.DOTALL,
)
_OPENING: Final = re.compile(rb"[\[{]")
_CLOSES: Final = 3  # the group


def decode_any_depth(decode: Callable[[bytes | bytearray], _T], text: bytes | bytearray) -> _T:
    """Return `decode(text)`, of the text that `shallow` leaves if `decode` cannot follow it to its depth."""
    try:
        return decode(text)
    except RecursionError:
        return decode(shallow(text))


def shallow(text: bytes | bytearray, max_depth: int = MAX_DEPTH) -> bytes:
    """Return `text`, JSON, in which each list or object at level `max_depth` is empty or holds no other one."""
    depth = cut = done = 0
    parts: list[bytes | bytearray] = []
    for found in _NEXT_BRACKETS.finditer(text):
        group = found.lastindex
        if group is None:
            continue  # the end of the text
        before = depth
        if group == _CLOSES:
            start, end = found.span(_CLOSES)
            depth -= end - start
            if depth < max_depth <= before:
                parts.append(text[done:cut])
                # The bracket that closes the one before `cut`.
                done = start + before - max_depth
        else:
            depth += _openings(text, found)
            if before < max_depth <= depth:
                cut = _after_openings(text, found.start(1), max_depth - before)
    parts.append(text[done:])
    return b"".join(parts)


def _openings(text: bytes | bytearray, found: re.Match[bytes]) -> int:
    start, keys = found.span(1)
    end = found.end()
    plain = keys - start
    return plain if end == keys else plain + text.count(b"[", keys, end) + text.count(b"{", keys, end)


def _after_openings(text: bytes | bytearray, at: int, count: int) -> int:
    """Where the text goes on after `count` opening brackets, which are there."""
    found = _OPENING.finditer(text, at)
    for _ in range(count):
        at = next(found).end()
    return at
