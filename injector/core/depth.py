"""Cut JSON below the deepest level that a rule reads, for text that is nested too deeply for the codec.

An API server sends up to 10,000 levels (`maxNestingDepth` of https://go.dev/src/encoding/json/scanner.go), for example
in `metadata.managedFields`. The codec raises a RecursionError at about 1,000 levels. The cut takes one pass without
recursion, and the result is decoded instead. The removed part is not parsed, so a syntax error in it is not detected;
an API server sends none.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

# The number of levels that are kept. The deepest level that a rule reads is 16: a selector in a CronJob's template.
MAX_DEPTH: Final = 64

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_FLAT: Final = rb'(?:[^"\[\]{}]++|%b)*+' % _STRING
# Skips everything that opens no nested level, and matches a run of opening brackets (through keys without brackets and
# escapes) or of closing ones. Every part is possessive, and an unterminated string extends to the end of the text: the
# matcher never backtracks, so the time is linear.
_NEXT_BRACKETS: Final = re.compile(
    rb'(?:[^"\[\]{}]++|%b|[\[{]%b[\]}])*+(?:([\[{]++)((?:"[^"\\\[\]{}]*+":[\[{]++)++)?+|([\]}]++)|\Z)'
    % (_STRING, _FLAT),
    re.DOTALL,
)
_OPENING: Final = re.compile(rb"[\[{]")
_OPENS, _OPENS_THROUGH_KEYS, _CLOSES = 1, 2, 3  # the groups


def decode_any_depth(decode: Callable[[bytes | bytearray], _T], text: bytes | bytearray) -> _T:
    """Return `decode(text)`, of the text that `shallow` leaves if `decode` cannot follow it to its depth."""
    try:
        return decode(text)
    except RecursionError:
        return decode(shallow(text))


def shallow(text: bytes | bytearray, max_depth: int = MAX_DEPTH) -> bytes:
    """Return the JSON text without the lists and objects below level `max_depth`."""
    depth = cut = done = 0
    parts: list[bytes | bytearray] = []
    for found in _NEXT_BRACKETS.finditer(text):
        group, before = found.lastindex, depth
        if group is None:
            continue  # the end of the text
        start, end = found.span(group)
        if group == _CLOSES:
            depth -= end - start
            if depth < max_depth <= before:
                parts.append(text[done:cut])
                # The bracket that closes the one before `cut`.
                done = start + before - max_depth
            continue
        if group == _OPENS_THROUGH_KEYS:
            depth += text.count(b"[", start, end) + text.count(b"{", start, end)
            start, end = found.span(_OPENS)
        depth += end - start
        if before < max_depth <= depth:
            cut = _after_openings(text, start, max_depth - before)
    parts.append(text[done:])
    return b"".join(parts)


def _after_openings(text: bytes | bytearray, at: int, count: int) -> int:
    """The position after `count` opening brackets, which must exist."""
    return next(islice(_OPENING.finditer(text, at), count - 1, None)).end()
