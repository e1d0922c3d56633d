"""Compares a reference page with the JSON output of commands.

A heading per command; below it a table of fields by path, where `[]` stands for any entry of a list of objects and a
field with `?` may be missing; then tables of words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_REFERENCE: Final = Path(__file__).parents[3] / "docs" / "reference"
_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "string or null": lambda value: value is None or isinstance(value, str),
    "number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "boolean or null": lambda value: value is None or isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "list of string": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "object": lambda value: isinstance(value, dict),
}


class OutputPage:
    """One page of docs/reference."""

    def __init__(self, name: str) -> None:
        self._text = (_REFERENCE / name).read_text("utf-8")

    def table(self, command: str, head: str = "Field") -> list[list[str]]:
        """Cells of the table whose first column has this head, below a command's heading; names without backquotes."""
        lines = self._text.partition(f"\n## {command}\n")[2].partition("\n## ")[0].splitlines()
        start = next(at for at, line in enumerate(lines) if line.startswith(f"| {head} |"))
        rows = []
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            name, *others = (cell.strip() for cell in line.strip("|").split(" |"))
            rows.append([name.strip("`"), *others])
        return rows

    def words(self, command: str, field: str) -> set[str]:
        """Return the words in the meaning of a field."""
        (meaning,) = (row[2] for row in self.table(command) if row[0].removesuffix("?") == field)
        return set(re.findall(r"`(-|[a-z][a-z-]*)`", meaning))

    def check(self, command: str, *documents: Any, absent: Collection[str] = ()) -> None:  # noqa: ANN401 - JSON
        """Check that the documents have exactly the fields of the page, except `absent`, with their types."""
        types = {row[0].removesuffix("?"): row[1] for row in self.table(command)}
        seen: set[str] = set()
        for document in documents:
            for path, value in _flat(document):
                assert _TYPES[types[path]](value), (path, value)
                seen.add(path)
        assert seen == {path for path in types if path.rpartition(".")[2] not in absent}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    """Yield every path of a document with its value."""
    if isinstance(value, dict):
        for name, one in value.items():
            nested = f"{path}.{name}" if path else name
            yield nested, one
            yield from _flat(one, nested)
    elif isinstance(value, list):
        for one in value:
            yield from _flat(one, f"{path}[]")
