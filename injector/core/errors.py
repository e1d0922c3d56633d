"""The errors of the core.

InjectorError
├── ReviewError                 the request is invalid                      -> HTTP 400
│   ├── MalformedJSONError      the body is not JSON
│   ├── NotAReviewError         JSON, but not an AdmissionReview with a request and a uid
│   └── MalformedObjectError    a review, but its object does not match its kind
├── request.RequestError        a Pod's annotations are malformed           -> a denial
├── TokenError                  bytes that cannot be a token                -> usage error
├── ConfigError                 settings or policy file are not valid       -> exit code 2
└── PolicyGapError              the Policy cannot serve a called endpoint   -> HTTP 500, `failurePolicy` decides

A message contains only fixed words and values that `messages.redact` returned: it can become part of a response, an
Event or a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class InjectorError(Exception):
    """Base class of all errors; never raised itself. `reason` is the stable word for metrics and error bodies."""

    reason: ClassVar[str]

    def __init__(self, message: str) -> None:
        if type(self) is InjectorError:
            raise TypeError("raise a subclass of InjectorError")
        super().__init__(message)


class ReviewError(InjectorError):
    """The body is not an AdmissionReview that can be answered. The message contains no part of the body."""

    reason = "bad-review"


class MalformedJSONError(ReviewError):
    """The body is not JSON."""

    reason = "malformed-json"


class NotAReviewError(ReviewError):
    """The body is JSON, but not an AdmissionReview of a known version with a request and a uid."""

    reason = "not-a-review"


class MalformedObjectError(ReviewError):
    """The object under review is missing, or does not match its kind."""

    reason = "malformed-object"


class PolicyGapError(InjectorError):
    """The Policy lacks a value that the called endpoint needs: an error of the installation, not of the Pod."""

    reason = "policy-gap"


class TokenError(InjectorError):
    """The bytes cannot be a token. The message contains only a length or a position."""

    reason = "bad-token"


class ConfigProblem(NamedTuple):
    """One invalid setting: `where` is the flag, variable or file and line; `what` the problem and what is allowed."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(InjectorError):
    """The settings or the policy file are not valid; `problems` lists all problems."""

    reason = "bad-configuration"

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
