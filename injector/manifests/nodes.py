"""Values with their places: what the parsers make, and what positions and edits are read from.

Offsets count characters of the chunk. A node's `value` is plain JSON data; aliases share it, so nobody may change it.
"""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class Scalar:
    """A scalar; `style` is None, `'`, `"`, `|` or `>`."""

    __slots__ = ("anchor", "end", "size", "start", "style", "value")

    def __init__(self, start: int, end: int, value: Json, style: str | None = None, anchor: str | None = None) -> None:
        self.start = start
        self.end = end
        self.value = value
        self.style = style
        self.anchor = anchor
        self.size = 1


class Mapping:
    """A mapping; `pairs` in the file's order, merge keys included. A block's `end` is that of its last leaf."""

    __slots__ = ("anchor", "end", "flow", "pairs", "size", "start", "value")

    def __init__(self, start: int, anchor: str | None, *, flow: bool) -> None:
        self.start = start
        self.end = start
        self.anchor = anchor
        self.flow = flow
        self.pairs: list[tuple[Scalar, Node]] = []
        self.value: dict[str, Json] = {}
        self.size = 1


class Sequence:
    """A sequence. A block's `end` is that of its last leaf."""

    __slots__ = ("anchor", "end", "flow", "items", "size", "start", "value")

    def __init__(self, start: int, anchor: str | None, *, flow: bool) -> None:
        self.start = start
        self.end = start
        self.anchor = anchor
        self.flow = flow
        self.items: list[Node] = []
        self.value: list[Json] = []
        self.size = 1


class Alias:
    """Another node by its anchor's name."""

    __slots__ = ("end", "name", "size", "start", "target", "value")

    def __init__(self, start: int, end: int, name: str, target: Scalar | Mapping | Sequence) -> None:
        self.start = start
        self.end = end
        self.name = name
        self.target = target
        self.value: Json = target.value
        self.size = target.size


Node = Scalar | Mapping | Sequence | Alias
Full = Scalar | Mapping | Sequence


def resolved(node: Node) -> Full:
    """The node that stands there, or that its alias names."""
    return node.target if isinstance(node, Alias) else node


MERGE = "<<"


def is_merge(key: Scalar) -> bool:
    """Whether a key is YAML's merge key: written plainly. Its text is kept as the value."""
    return key.style is None and key.value == MERGE


def find(mapping: Mapping, name: str) -> tuple[Scalar, Node] | None:
    """The mapping's own pair of that name; merged ones are not its own."""
    return next((pair for pair in mapping.pairs if pair[0].value == name and not is_merge(pair[0])), None)


def merged(mapping: Mapping, name: str) -> Node | None:
    """The value of `name` where it comes from a merge key."""
    found: Node | None = None
    for key, node in mapping.pairs:
        if not is_merge(key):
            continue
        target = resolved(node)
        sources = [target] if isinstance(target, Mapping) else [resolved(item) for item in reversed(_items(target))]
        for source in sources:
            if isinstance(source, Mapping) and name in source.value:
                pair = find(source, name)
                found = pair[1] if pair is not None else merged(source, name)
    return found


def _items(node: Full) -> list[Node]:
    return node.items if isinstance(node, Sequence) else []
