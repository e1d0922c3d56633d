"""Values as text in the style of the text around them: blocks, flow on one line, and JSON over several lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from injector.manifests.scalars import is_plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.manifests.nodes import Json


def block(value: Mapping[str, object], indent: int, step: int, offset: int = 0) -> list[str]:
    """The lines of a block mapping whose keys are at column `indent`.

    Nested mappings are `step` further in, dashes of lists of mappings `offset`. Other lists take one line.
    """
    pad = " " * indent
    lines: list[str] = []
    for name, child in value.items():
        if isinstance(child, dict) and child:
            lines += [f"{pad}{scalar(name)}:", *block(child, indent + step, step, offset)]
        elif isinstance(child, list) and child and all(isinstance(each, dict) for each in child):
            lines.append(f"{pad}{scalar(name)}:")
            lines += [line for each in child for line in item(each, indent + offset, _GAP, step, offset)]
        else:
            lines.append(f"{pad}{scalar(name)}: {flow(child)}")
    return lines


_GAP: Final = 2


def item(value: Json, dash: int, gap: int, step: int, offset: int) -> list[str]:
    """The lines of a block sequence's item: the dash at column `dash`, its content `gap` further in."""
    if not isinstance(value, dict) or not value:
        return [" " * dash + "-" + " " * (gap - 1) + flow(value)]
    first, *rest = block(value, dash + gap, step, offset)
    return [" " * dash + "-" + " " * (gap - 1) + first.lstrip(" "), *rest]


def flow(value: object) -> str:
    """A value on one line, quotes only where they are needed."""
    match value:
        case str():
            return scalar(value)
        case dict():
            return "{" + ", ".join(f"{scalar(name)}: {flow(child)}" for name, child in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(flow, value)) + "]"
        case _:
            return json.dumps(value)


def scalar(text: str) -> str:
    """A string as YAML: plain if it reads back as itself, else in quotes."""
    if is_plain_text(text):
        return text
    if text.isprintable() and '"' in text:
        return "'" + text.replace("'", "''") + "'"
    return quoted(text)


def quoted(text: str) -> str:
    """A string in double quotes as both YAML and JSON read it, if it holds nothing beyond the 16-bit plane."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _numbered(c)) for c in text) + '"'


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_LARGEST_SHORT: Final = 0xFFFF


def _numbered(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= _LARGEST_SHORT else f"\\U{code:08x}"


def as_json(value: object, *, compact: bool) -> str:
    """A value as JSON on one line; `compact` leaves out the blanks after commas and colons."""
    return json.dumps(value, separators=(",", ":") if compact else (", ", ": "))


def pretty(value: object, indent: str, unit: str, eol: str) -> str:
    """A value as JSON over several lines; all but the first begin with `indent`."""
    return json.dumps(value, indent=unit).replace("\n", eol + indent)
