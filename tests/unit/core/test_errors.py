"""The tree of errors."""

from __future__ import annotations

import pytest

from injector.core.errors import (
    ConfigError,
    ConfigProblem,
    InjectorError,
    MalformedJSONError,
    MalformedObjectError,
    NotAReviewError,
    PolicyGapError,
    ReviewError,
)
from injector.core.model import Problem, Reason
from injector.core.request import RequestError


def test_base_error_is_abstract() -> None:
    with pytest.raises(TypeError, match="raise a subclass"):
        InjectorError("x")


@pytest.mark.parametrize(
    ("error", "parent", "reason"),
    [
        (ReviewError, InjectorError, "bad-review"),
        (MalformedJSONError, ReviewError, "malformed-json"),
        (NotAReviewError, ReviewError, "not-a-review"),
        (MalformedObjectError, ReviewError, "malformed-object"),
        (PolicyGapError, InjectorError, "policy-gap"),
    ],
)
def test_each_error_has_its_base_and_name(error: type[InjectorError], parent: type[InjectorError], reason: str) -> None:
    assert issubclass(error, parent)
    assert error.reason == reason
    assert str(error("what was wrong")) == "what was wrong"


def test_installation_error_is_not_a_client_error() -> None:
    assert not issubclass(PolicyGapError, ReviewError)


def test_request_error_has_every_problem_in_order() -> None:
    problems = (
        Problem("a", Reason.INVALID_SECRET_NAME, "first", "1"),
        Problem("b", Reason.INVALID_SECRET_KEY, "second", "2"),
    )

    error = RequestError(problems)

    assert error.problems == problems
    assert str(error) == "first; second"
    assert error.reason == "bad-annotations"


def test_config_error_has_a_line_for_each_problem() -> None:
    problems = [ConfigProblem("--port", "0 is not a port"), ConfigProblem("policy.yaml:3", "unknown key")]

    error = ConfigError(problems)

    assert str(error) == "--port: 0 is not a port\npolicy.yaml:3: unknown key"
    assert error.problems == tuple(problems)
