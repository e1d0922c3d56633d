"""Values with their positions, as the parsers return them; edits use the positions.

Offsets count characters of the chunk. A node's `value` is plain JSON data; aliases share it, so it is never changed.
`size` is about the characters that the value takes as JSON, and `height` the levels of lists and mappings in it, both
with aliases written out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(slots=True, eq=False, repr=False)
class Scalar:
    """A scalar; `style` is None, `'`, `"`, `|` or `>`."""

    start: int
    end: int
    value: Json
    style: str | None = None
    size: int = 1
    height: int = 0


@dataclass(slots=True, eq=False, repr=False)
class Mapping:
    """A mapping; `pairs` in the file's order, merge keys included. A block's `end` is that of its last leaf."""

    start: int
    flow: bool
    end: int = 0
    pairs: list[tuple[Scalar, Node]] = field(default_factory=list)
    value: dict[str, Json] = field(default_factory=dict)
    size: int = 1
    height: int = 1
    # Made at the first use, once the mapping is complete: see `find` and `merged`.
    by_name: dict[Json, tuple[Scalar, Node]] | None = None
    from_merges: dict[str, Node | None] = field(default_factory=dict)


@dataclass(slots=True, eq=False, repr=False)
class Sequence:
    """A sequence. A block's `end` is that of its last leaf."""

    start: int
    flow: bool
    end: int = 0
    items: list[Node] = field(default_factory=list)
    value: list[Json] = field(default_factory=list)
    size: int = 1
    height: int = 1


class Alias:
    """Another node by its anchor's name."""

    __slots__ = ("end", "height", "name", "size", "start", "target", "value")

    def __init__(self, start: int, end: int, name: str, target: Full) -> None:
        self.start = start
        self.end = end
        self.name = name
        self.target = target
        self.value: Json = target.value
        self.size = target.size
        self.height = target.height


def copied(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return a deep copy of JSON data without shared parts, also for aliases."""
    return msgspec.json.decode(msgspec.json.encode(value))


Node = Scalar | Mapping | Sequence | Alias
Full = Scalar | Mapping | Sequence


def resolved(node: Node) -> Full:
    """The node itself, or the one that its alias names."""
    return node.target if isinstance(node, Alias) else node


MERGE = "<<"


def is_merge(key: Scalar) -> bool:
    """Whether a key is YAML's merge key: written plainly. Its text is kept as the value."""
    return key.style is None and key.value == MERGE


def find(mapping: Mapping, name: str) -> tuple[Scalar, Node] | None:
    """The mapping's own pair of that name; merged ones are not its own."""
    if mapping.by_name is None:
        mapping.by_name = {pair[0].value: pair for pair in reversed(mapping.pairs) if not is_merge(pair[0])}
    return mapping.by_name.get(name)


def merged(mapping: Mapping, name: str) -> Node | None:
    """The value of `name` where it comes from a merge key. Merge keys may follow one another without an end."""
    if name not in mapping.from_merges:
        source = _source(mapping, name)
        found: Node | None = None
        while source is not None:
            pair = find(source, name)
            if pair is not None:
                found = pair[1]
                break
            source = _source(source, name)
        mapping.from_merges[name] = found
    return mapping.from_merges[name]


def _source(mapping: Mapping, name: str) -> Mapping | None:
    """The mapping that a merge key brings and `name` comes from: of several the last one, as kubectl reads them."""
    last: Mapping | None = None
    for key, node in mapping.pairs:
        if is_merge(key):
            for source in sources(node):
                if isinstance(source, Mapping) and name in source.value:
                    last = source
    return last


def sources(node: Node) -> list[Full]:
    """The values that a merge key brings, in the order in which kubectl reads them: of a list, the last one first."""
    full = resolved(node)
    return [resolved(item) for item in reversed(full.items)] if isinstance(full, Sequence) else [full]
