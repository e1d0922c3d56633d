"""The errors of the core.

InjectorError
├── ReviewError     the caller sent something that is not a review     -> HTTP 4xx
├── RequestError    a Pod's annotations are malformed; carries them all -> a denial
└── PolicyGapError  an endpoint is registered that the Policy cannot serve -> HTTP 500, `failurePolicy` decides

Only a message built from fixed words and from values made safe by `names`' bounds may go into one of them: a message can
end in a response, an Event or a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from injector.core.model import Reason


class InjectorError(Exception):
    """Base of all errors of ours; never raised itself."""

    def __init__(self, message: str) -> None:
        if type(self) is InjectorError:
            raise TypeError("raise a subclass of InjectorError")
        super().__init__(message)


class ReviewError(InjectorError):
    """The body is not an AdmissionReview that we can answer. The message holds nothing of the body."""


class PolicyGapError(InjectorError):
    """The Policy lacks what the called endpoint needs; the installation is at fault, not the Pod."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one annotation: what, where, and what is allowed."""

    annotation: str
    reason: Reason
    message: str


class RequestError(InjectorError):
    """A Pod's annotations ask for something malformed; `problems` holds every one of them, in a fixed order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems
