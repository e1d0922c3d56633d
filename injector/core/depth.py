"""Cut JSON below the deepest level that a rule reads, for text that is nested too deeply for the codec.

An API server sends up to 10,000 levels (`maxNestingDepth` of https://go.dev/src/encoding/json/scanner.go), for example
in `metadata.managedFields`. The codec raises a RecursionError at about 1,000 levels. The cut takes one pass without
recursion, and the result is decoded instead. The removed part is not parsed, so a syntax error in it is not detected;
an API server sends none.
"""

from __future__ import annotations

from itertools import accumulate, chain, compress, repeat
from operator import lt, sub
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

# The number of levels that are kept. The deepest level that a rule reads is 16: a selector in a CronJob's template.
MAX_DEPTH: Final = 64

_BLOCK: Final = 1024  # bytes that are counted at once
_QUOTE: Final = b'"'
# Tables for `bytes.translate`: 1 for an opening bracket, 1 for a closing one, and a dot for each byte of a string.
_OPENS: Final = bytes(byte in b"[{" for byte in range(256))
_CLOSES: Final = bytes(byte in b"]}" for byte in range(256))
_BLANK: Final = bytes(byte if byte in _QUOTE else ord(".") for byte in range(256))


def decode_any_depth(decode: Callable[[bytes | bytearray], _T], text: bytes | bytearray) -> _T:
    """Return `decode(text)`, of the text that `shallow` leaves if `decode` cannot follow it to its depth."""
    try:
        return decode(text)
    except RecursionError:
        return decode(shallow(text))


def shallow(text: bytes | bytearray, max_depth: int = MAX_DEPTH) -> bytes:
    """Return the JSON text with empty lists and objects at level `max_depth`.

    Brackets and strings are handled by functions of C, so that a text with very many of them is not slower.
    """
    # Without escapes each quote begins or ends a string.
    plain = bytes(text).replace(b"\\\\", b"..").replace(b'\\"', b"..")
    depth, in_string = 0, False
    parts: list[bytes | bytearray] = []
    for start in range(0, len(text), _BLOCK):
        pieces = plain[start : start + _BLOCK].split(_QUOTE)
        strings = slice(not in_string, None, 2)
        if pieces[strings]:
            pieces[strings] = _QUOTE.join(pieces[strings]).translate(_BLANK).split(_QUOTE)
        in_string ^= len(pieces) % 2 == 0
        brackets = _QUOTE.join(pieces)
        opens, closes = brackets.translate(_OPENS), brackets.translate(_CLOSES)
        opened, closed = opens.count(1), closes.count(1)
        if depth + opened < max_depth:
            parts.append(text[start : start + _BLOCK])
        elif depth - closed < max_depth:
            # Each byte with the smaller of the levels before and after it.
            levels = accumulate(map(sub, chain((depth,), opens), closes))
            parts.append(bytes(compress(text[start : start + _BLOCK], map(lt, levels, repeat(max_depth)))))
        depth += opened - closed
    return b"".join(parts)
