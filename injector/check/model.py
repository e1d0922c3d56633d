"""The data model of the checks: what a check is called, why it exists, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from injector.check.reader import ClusterReader


class Category(StrEnum):
    """What a check looks at; reports group checks by it, in this order."""

    CLUSTER = "cluster"
    REGISTRATION = "registration"
    ADMISSION = "admission"
    AVAILABILITY = "availability"
    RIGHTS = "rights"
    DAPR = "dapr"
    TOKENS = "tokens"
    NEIGHBOURS = "neighbours"
    VERSIONS = "versions"


class Result(StrEnum):
    """How a check ends."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    # What it looks at does not exist here, such as the guard in an installation without one.
    SKIPPED = "skipped"


# The worst of several problems decides.
WORST_FIRST: Final = (Result.FAILED, Result.UNKNOWN, Result.WARNING, Result.PASSED, Result.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckProblem:
    """One thing that a check found wrong or could not determine: a sentence, and a command that helps, if one does."""

    result: Result
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a check found. `seen` says in a sentence what it looked at; `problems` are empty if all is well."""

    seen: str
    problems: tuple[CheckProblem, ...] = ()
    is_skipped: bool = False

    @property
    def result(self) -> Result:
        """The worst result."""
        found = [one.result for one in self.problems]
        return min(found, key=WORST_FIRST.index, default=Result.SKIPPED if self.is_skipped else Result.PASSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check; its page is made from this.

    `run` may raise `KubeError`: then the result is unknown. `is_pre`: it also makes sense before the installation.
    """

    id: str  # never changes, never used again
    name: str
    category: Category
    summary: str
    why: str
    how: str  # what it reads and compares, and what it cannot see
    fix: str
    run: Callable[[ClusterReader], Awaitable[Outcome]]
    is_pre: bool = False


def failed(message: str, fix: str = "") -> CheckProblem:
    """Return a problem that fails the check."""
    return CheckProblem(result=Result.FAILED, message=message, fix=fix)


def warning(message: str, fix: str = "") -> CheckProblem:
    """Return a problem that may be intended."""
    return CheckProblem(result=Result.WARNING, message=message, fix=fix)


def unknown(message: str, fix: str = "") -> CheckProblem:
    """Return what could not be determined."""
    return CheckProblem(result=Result.UNKNOWN, message=message, fix=fix)
