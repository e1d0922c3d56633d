"""The linter's data model: rules, findings and their places."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from injector.core.model import TokenRef
    from injector.lint.files import FileSet
    from injector.lint.location import Location, Path
    from injector.lint.template import TemplateOwner


class Level(StrEnum):
    """Severity levels of findings, the worst first."""

    ERROR = "error"  # a Pod is refused, its calls fail, or it runs open
    WARNING = "warning"  # it works by luck, or leaks
    INFO = "info"

    def at_least(self, other: Level) -> bool:
        """Whether this level is `other` or worse."""
        levels = list(Level)
        return levels.index(self) <= levels.index(other)


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that a rule found wrong: at which path of the document, in a sentence that shows no value.

    It is dropped if a Secret in the files has one of the keys `unless`.
    """

    path: Path
    message: str
    unless: tuple[TokenRef, ...] = ()


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
    workload: Callable[[TemplateOwner], Iterable[Hit]] | None = None
    files: Callable[[FileSet], Iterable[tuple[Location, str]]] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's finding at a location."""

    rule: Rule
    location: Location
    message: str

    @property
    def order(self) -> tuple[Location, str, str]:
        """Findings read from the top of the first file to the end of the last."""
        return self.location, self.rule.id, self.message
