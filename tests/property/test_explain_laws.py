"""Every decision can be explained, and no explanation contains a token."""

from __future__ import annotations

from functools import partial

from hypothesis import given

from injector.core.decision import decide
from injector.core.errors import ReviewError
from injector.core.explain import AppliedRule, RuleName, explain
from injector.core.model import Endpoint, Pod, Policy
from injector.core.review import decode, sealing_spec
from tests.builders import Json, encode, review
from tests.property import strategies as some
from tests.property.leaks import dressings, leaks, places, planted, tokens


def rows(found: Json, policy: Policy, endpoint: Endpoint) -> tuple[AppliedRule, ...]:
    """How the decision about a Pod came about."""
    body = encode(review(found))
    question, read_spec = decode(body, endpoint), partial(sealing_spec, body, endpoint)
    decided = decide(question, endpoint, policy, read_spec)
    assert isinstance(question.request.object, Pod)
    return explain(question.request.object, decided, policy, endpoint, read_spec)


@given(some.pods | some.sound_pods, some.policies, some.mutating)
def test_every_decision_can_be_explained(found: Json, policy: Policy, endpoint: Endpoint) -> None:
    explained = rows(found, policy, endpoint)

    assert explained[0].rule is RuleName.USES_DAPR
    assert explained[-1].rule is RuleName.DECISION
    assert [row.rule for row in explained] == sorted((row.rule for row in explained), key=list(RuleName).index)


@given(places, tokens, dressings, some.policies, some.mutating)
def test_no_row_contains_a_token(
    where: list[str], token: str, dressing: str, policy: Policy, endpoint: Endpoint
) -> None:
    try:
        explained = rows(planted(where, dressing.replace("{}", token)), policy, endpoint)
    except ReviewError:
        return
    assert not leaks(token, (text for row in explained for text in (row.subject, row.value, row.outcome)))
