"""The errors of the core.

InjectorError
├── ReviewError                 the caller's fault                          -> HTTP 400
│   ├── MalformedJSONError      the body is not JSON
│   ├── NotAReviewError         JSON, but no AdmissionReview with a request and a uid
│   └── MalformedObjectError    a review, but its object is not of the kind it claims
├── request.RequestError        a Pod's annotations are malformed           -> a denial
├── TokenError                  bytes that cannot be a token                -> wrong use of a command
├── ConfigError                 settings or policy file are not valid       -> exit code 2
└── PolicyGapError              the Policy cannot serve a called endpoint   -> HTTP 500, `failurePolicy` decides

Only fixed words and values that `request.shown` let through may go into a message: it can end in a response, an Event
or a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class InjectorError(Exception):
    """Base of all errors of ours; never raised itself. `reason` is the stable word for metrics and error bodies."""

    reason: ClassVar[str]

    def __init__(self, message: str) -> None:
        if type(self) is InjectorError:
            raise TypeError("raise a subclass of InjectorError")
        super().__init__(message)


class ReviewError(InjectorError):
    """The body is not an AdmissionReview that we can answer. The message holds nothing of the body."""

    reason = "bad-review"


class MalformedJSONError(ReviewError):
    """The body is not JSON."""

    reason = "malformed-json"


class NotAReviewError(ReviewError):
    """The body is JSON, but no AdmissionReview of a known version with a request and a uid."""

    reason = "not-a-review"


class MalformedObjectError(ReviewError):
    """The object under review is missing, or not shaped as its kind is."""

    reason = "malformed-object"


class PolicyGapError(InjectorError):
    """The Policy lacks what the called endpoint needs; the installation is at fault, not the Pod."""

    reason = "policy-gap"


class TokenError(InjectorError):
    """Bytes cannot be a token. The message holds nothing of them but a length or a position."""

    reason = "bad-token"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One bad setting: `where` names the flag, variable or file and line; `what` says what is wrong and allowed."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(InjectorError):
    """The settings or the policy file are not valid; `problems` has every reason."""

    reason = "bad-configuration"

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
