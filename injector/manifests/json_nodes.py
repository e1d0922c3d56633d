"""JSON text to nodes. JSON is read as JSON, as kubectl does: its escapes are not all YAML's."""

from __future__ import annotations

import json
import math
import re
from json.decoder import scanstring  # type: ignore[attr-defined] # the json module's own, missing in its stubs
from typing import Final

from injector.manifests.errors import TextError
from injector.manifests.nodes import Json, Mapping, Node, Scalar, Sequence
from injector.manifests.yaml_nodes import MAX_DEPTH

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = re.compile(r"(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?![\w.])")


class NotJSONError(ValueError):
    """The text is not JSON; it may still be YAML."""


def parse(text: str, at: int) -> Node:
    """The value that begins at `at`, which is not blank.

    Raises:
        NotJSONError: There is none.
        TextError: A key is repeated, or the text is nested too deeply.
    """
    return _value(text, at, 0)


def after_blanks(text: str, at: int) -> int:
    """Where the next character that is not blank is."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise TextError(at, f"nested more than {MAX_DEPTH} levels deep")
    match text[at : at + 1]:
        case "{":
            return _mapping(text, at, depth)
        case "[":
            return _sequence(text, at, depth)
        case '"':
            return _string(text, at)
        case _:
            found = _WORD.match(text, at)
            if found is None:
                raise NotJSONError
            return Scalar(at, found.end(), _plain(found[0], at))


def _plain(word: str, at: int) -> Json:
    """What a word or a number means; whole numbers that are too large for 64 bits become floats, as for kubectl."""
    value: Json = json.loads(word) if len(word) <= _MOST_DIGITS or not word.lstrip("-").isdigit() else float(word)
    if isinstance(value, float) and not math.isfinite(value):
        raise TextError(at, "a number that is too large")
    return value


# More than any integer of 64 bits has: longer ones are not converted digit by digit.
_MOST_DIGITS: Final = 40


def _string(text: str, at: int) -> Scalar:
    if text[at : at + 1] != '"':
        raise NotJSONError
    try:
        value, end = scanstring(text, at + 1, True)
    except ValueError:
        raise NotJSONError from None
    return Scalar(at, end, value, '"')


def _mapping(text: str, at: int, depth: int) -> Mapping:
    node = Mapping(at, flow=True)
    at = after_blanks(text, at + 1)
    while text[at : at + 1] != "}":
        name = _string(text, at)
        if name.value in node.value:
            raise TextError(at, "duplicate key in a mapping")
        at = after_blanks(text, name.end)
        if text[at : at + 1] != ":":
            raise NotJSONError
        value = _value(text, after_blanks(text, at + 1), depth + 1)
        node.pairs.append((name, value))
        node.value[str(name.value)] = value.value
        node.size += value.size
        at = _separated(text, value.end, "}")
    node.end = at + 1
    return node


def _sequence(text: str, at: int, depth: int) -> Sequence:
    node = Sequence(at, flow=True)
    at = after_blanks(text, at + 1)
    while text[at : at + 1] != "]":
        item = _value(text, at, depth + 1)
        node.items.append(item)
        node.value.append(item.value)
        node.size += item.size
        at = _separated(text, item.end, "]")
    node.end = at + 1
    return node


def _separated(text: str, at: int, closing: str) -> int:
    """Past a comma to what follows it, or at the closing bracket."""
    at = after_blanks(text, at)
    if text[at : at + 1] == closing:
        return at
    if text[at : at + 1] != ",":
        raise NotJSONError
    at = after_blanks(text, at + 1)
    if text[at : at + 1] == closing:
        raise NotJSONError
    return at
