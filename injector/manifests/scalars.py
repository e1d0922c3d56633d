"""What a scalar of YAML means, as kubectl reads it: YAML 1.1 in the dialect of the library that kubectl uses.

`on`, `yes` and `y` are booleans, `012` is octal, `1_000` is a number, `12:30` is not; a date stays text. A number that
JSON would write without a fraction is an integer. Checked against that library case by case
(`tests/unit/manifests/yaml11.json`): https://github.com/kubernetes-sigs/yaml, https://github.com/yaml/go-yaml/tree/v2.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Final

Plain = str | int | float | bool | None

_PREFIX: Final = "tag:yaml.org,2002:"
_BINARY: Final = _PREFIX + "binary"
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    _PREFIX + "bool": (bool,),
    _PREFIX + "int": (int,),
    _PREFIX + "float": (int, float),
    _PREFIX + "null": (type(None),),
    _PREFIX + "timestamp": (str,),
}

_WORDS: Final[dict[str, Plain]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_WORD_STARTS: Final = frozenset("yYnNtTfFoO~.+-")
_NUMBER_STARTS: Final = frozenset("0123456789+-.")
_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# Underscores are dropped from what begins with a digit or a sign; here they must be between digits.
_BARE_FRACTION: Final = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")
_BASES: Final = (16, 2, 8, 10)
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1
_LARGEST_SIGNED: Final = 2**63 - 1
# Digits of the largest integer. More are not even converted: that takes time that grows with their square.
_MOST_DIGITS: Final = len(str(_LARGEST))
# A whole float reads back from JSON as an integer; beyond this bound a float is not exact.
_WHOLE_BOUND: Final = 2.0**53


class ScalarError(ValueError):
    """A tag and its text do not fit together."""


def resolve(text: str, tag: str | None, *, plain: bool) -> Plain:
    """The value of a scalar; `plain` is true for one without quotes.

    Raises:
        ScalarError: `tag` demands a type that `text` is not, or the value is one that JSON cannot hold.
    """
    if tag is None:
        return _finite(_plain(text)) if plain else text
    if tag == _BINARY:
        return _binary(text)
    if tag not in _TYPES:
        return text
    value = _plain(text)
    if not isinstance(value, _TYPES[tag]) or (isinstance(value, bool) and bool not in _TYPES[tag]):
        raise ScalarError(f"the value is not what its tag !!{tag.removeprefix(_PREFIX)} says")
    return _finite(value)


def is_plain_text(text: str) -> bool:
    """Whether `text`, written without quotes, reads back as itself."""
    return _SAFE.fullmatch(text) is not None and _plain(text) == text


_SAFE: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9._/]*[A-Za-z0-9_])?")


def _plain(text: str) -> Plain:
    first = text[:1]
    if (not first or first in _WORD_STARTS) and text in _WORDS:
        return _WORDS[text]
    if first not in _NUMBER_STARTS:
        return text
    if first == "." and not _BARE_FRACTION.fullmatch(text):
        return text
    digits = text.replace("_", "")
    found = _INTEGER.fullmatch(digits)
    if found is not None and len(found[5] or "") <= _MOST_DIGITS:
        number = _integer(found)
        if _SMALLEST <= number <= (_LARGEST_SIGNED if found[1] else _LARGEST):
            return number
    return _float(digits, text) if _FLOAT.fullmatch(digits) else text


def _integer(found: re.Match[str]) -> int:
    sign, *parts = found.groups()
    digits, base = next((part, base) for part, base in zip(parts, _BASES, strict=True) if part is not None)
    return -int(digits, base) if sign == "-" else int(digits, base)


def _float(digits: str, text: str) -> Plain:
    number = float(digits)
    # Out of range it is text, not a number.
    return number if math.isfinite(number) else text


def _finite(value: Plain) -> Plain:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ScalarError("the value is a number that JSON cannot hold")
        if value.is_integer() and abs(value) < _WHOLE_BOUND:
            return int(value)
    return value


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise ScalarError("the value is not base64, as its tag !!binary says") from None


def key(value: Plain) -> str:
    """A scalar as a key of JSON.

    Raises:
        ScalarError: It is null.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise ScalarError("a key is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.8g}" if isinstance(value, float) else str(value)
