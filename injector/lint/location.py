"""Places in files: paths, objects, and their labels in messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from injector.core.messages import redact

# Members and indexes from a document's root to a node.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Which object: kind, namespace and name, as a message may show them ("" where the file does not say)."""

    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}" if where else self.kind


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """Where a finding is. Line, column and document count from 1; `path` is one that stays when neighbours move."""

    source: str
    line: int
    column: int
    document: int = 1
    identity: Identity = Identity("")
    path: str = ""


_KIND: Final = re.compile(r"[A-Z][A-Za-z]{0,62}")


def label(text: str) -> str:
    """Return a name for messages: printable ASCII, redacted if it could be a token."""
    text_shown = redact(text)
    return text_shown[1:-1] if text_shown.startswith('"') else f"({text_shown})"


def kind_label(kind: object) -> str:
    """Return a kind for messages. Kinds are long words of mixed case, which `label` could redact."""
    return kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "Object"


class Ordinals:
    """For each item of a list, how many items before it have its name; counted once per list.

    To be used while the lists live, for they are recognised by identity.
    """

    def __init__(self) -> None:
        self._of: dict[int, list[int]] = {}

    def of(self, items: list[object]) -> list[int]:
        """The numbers, by index."""
        known = self._of.get(id(items))
        if known is None:
            counts: dict[str, int] = {}
            known = self._of[id(items)] = []
            for item in items:
                name = _name(item)
                known.append(counts.get(name, 0))
                counts[name] = known[-1] + 1
        return known


def spelled(root: object, path: Path, ordinals: Ordinals) -> str:
    """`path` in words that stay the same when neighbours come and go: items of lists are identified by their names.

    Several items of one name are numbered, so that a second one has a path of its own.
    """
    parts: list[str] = []
    node = root
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{_item(node, step, ordinals)}]")
            node = node[step] if isinstance(node, list) and step < len(node) else None
        else:
            parts.append(("." if parts else "") + step if _PLAIN.fullmatch(step) else f"[{label(step)}]")
            node = node.get(step) if isinstance(node, dict) else None
    return "".join(parts)


_PLAIN: Final = re.compile(r"[a-z][A-Za-z]{0,40}")


def _item(items: object, index: int, ordinals: Ordinals) -> str:
    """The name of an item, with a number if it is not the first of its name; the index of one that has no name."""
    name = _name(items[index]) if isinstance(items, list) and index < len(items) else ""
    if not name or not isinstance(items, list):
        return str(index)
    before = ordinals.of(items)[index]
    return label(name) if not before else f"{label(name)} #{before + 1}"


def _name(item: object) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""
