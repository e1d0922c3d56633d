"""Nouns of the linter: a rule, what it found, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core.request import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from injector.lint.files import FileSet
    from injector.lint.template import Workload

# Members and indexes from a document's root to a node.
Path = tuple[str | int, ...]


class Level(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # a Pod is refused, its calls fail, or it runs open
    WARNING = "warning"  # it works by luck, or leaks
    INFO = "info"

    def at_least(self, other: Level) -> bool:
        """Whether this level is `other` or worse."""
        return _ORDER.index(self) <= _ORDER.index(other)


_ORDER: Final = (Level.ERROR, Level.WARNING, Level.INFO)


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that a rule found wrong: at which path of the document, in a sentence that shows no value."""

    path: Path
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a rule is called, why it exists and how to satisfy it; its page and its help are made from this.

    `workload` looks at one object with Pod templates, `files` at what the whole set of files says about Secrets. The
    rules about ignore comments have neither: the linter itself applies comments.
    """

    id: str  # never changes, never used again
    name: str
    level: Level
    summary: str
    why: str
    fix: str
    bad: str  # a file with this finding; checked by a test
    good: str  # the same file without it
    workload: Callable[[Workload], Iterable[Hit]] | None = None
    files: Callable[[FileSet], Iterable[tuple[Place, str]]] | None = None


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
class Place:
    """Where a finding is. Line, column and document count from 1; `path` is one that stays when neighbours move."""

    source: str
    line: int
    column: int
    document: int = 1
    identity: Identity = Identity("")
    path: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's finding at a place."""

    rule: Rule
    place: Place
    message: str

    @property
    def order(self) -> tuple[Place, str, str]:
        """Findings read from the top of the first file to the end of the last."""
        return self.place, self.rule.id, self.message


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A part of a file that could not be looked at, and why; the other files were."""

    source: str
    document: int | None
    line: int | None
    message: str

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        part = "" if self.document is None else f"document {self.document}: "
        return f"{where}: {part}{self.message}"


_KIND: Final = re.compile(r"[A-Z][A-Za-z]{0,62}")


def label(text: str) -> str:
    """A name from a file as an identity or a path may show it: printable ASCII, hidden where it could be a token."""
    told = shown(text)
    return told[1:-1] if told.startswith('"') else f"({told})"


def kind_label(kind: object) -> str:
    """A kind as a message may show it. Kinds are long words of mixed case, which `label` would take for a token."""
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
    """`path` in words that stay the same when neighbours come and go: items of lists are told by their names.

    Several items of one name are told apart by a number, so that a second one has a path of its own.
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
