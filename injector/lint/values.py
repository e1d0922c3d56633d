"""Reads values of a document whose shape is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from injector.lint.location import Path


def at(value: object, path: Path) -> object:
    """Return the node at `path`; None if it does not exist."""
    for step in path:
        if isinstance(step, str) and isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, Sequence) and not isinstance(value, str) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def find_key(value: object, keys: Container[str]) -> Path | None:
    """Return the path of the first member, in the file's order, that has one of the keys; None if there is none."""
    path: list[str | int] = []
    open_nodes = [_members(value)]
    while open_nodes:
        for step, child in open_nodes[-1]:
            path.append(step)
            if step in keys:
                return tuple(path)
            open_nodes.append(_members(child))
            break
        else:
            open_nodes.pop()
            del path[-1:]
    return None


def _members(value: object) -> Iterator[tuple[str | int, object]]:
    return iter(value.items()) if isinstance(value, Mapping) else enumerate(items(value))


def mapping(value: object) -> Mapping[str, object]:
    """Return `value` if it is a mapping, otherwise an empty one; keys that are not text are skipped."""
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[object]:
    """Return `value` if it is a list, otherwise an empty one."""
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def text(value: object) -> str:
    """Return `value` if it is text, otherwise an empty text."""
    return value if isinstance(value, str) else ""
