"""Cuts JSON to a depth at which no rule reads, for text that is nested deeper than the codec follows.

An API server sends up to 10,000 levels (`maxNestingDepth` of https://go.dev/src/encoding/json/scanner.go), for example
in `metadata.managedFields`. The codec follows about 1,000 and then raises a RecursionError. The cut text is decoded
instead: it takes one pass and no recursion. What is left out is not parsed, so a syntax error in it goes unnoticed; an
API server sends none.
"""

from __future__ import annotations

import re
from typing import Final

# Levels that are kept. The deepest level that a rule reads is the sixteenth: a selector in a CronJob's Pod template.
MAX_DEPTH: Final = 64

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_FLAT: Final = rb'(?:[^"\[\]{}]++|%b)*+' % _STRING
# Passes over everything that opens no level which holds another one. Every part is possessive, and a string without an
# end goes on to the end of the text: nothing is tried twice, so the time grows with the text.
_NEXT_BRACKETS: Final = re.compile(
    rb'(?:[^"\[\]{}]++|%b|[\[{]%b[\]}])*+([\[{]++|[\]}]++|\Z)' % (_STRING, _FLAT), re.DOTALL
)
_OPENING: Final = frozenset(b"[{")


def shallow(text: bytes | bytearray, max_depth: int = MAX_DEPTH) -> bytes:
    """`text`, JSON, in which each list or object at level `max_depth` is empty or holds no other one."""
    depth = cut = done = 0
    parts: list[bytes | bytearray] = []
    for found in _NEXT_BRACKETS.finditer(text):
        start, end = found.span(1)
        if start == end:
            break
        before = depth
        if text[start] in _OPENING:
            depth += end - start
            if before < max_depth <= depth:
                cut = start + max_depth - before
        else:
            depth -= end - start
            if depth < max_depth <= before:
                parts.append(text[done:cut])
                # The bracket that closes the one before `cut`.
                done = start + before - max_depth
    parts.append(text[done:])
    return b"".join(parts)
