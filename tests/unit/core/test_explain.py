"""A decision told rule by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from injector.core.decision import decide
from injector.core.errors import ReviewError
from injector.core.explain import Row, Rule, explain
from injector.core.model import Conflict, Endpoint, Pod, Policy, Reason
from injector.core.review import decode
from tests.builders import (
    DEFAULT_POLICY,
    FACTS,
    Json,
    asking,
    container,
    encode,
    literal_env,
    pod,
    review,
    secret_env,
    sidecar,
)
from tests.property import strategies as some
from tests.property.leaks import dressings, leaks, places, planted, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

MUTATE = Endpoint.MUTATE
API = "DAPR_API_TOKEN"
SECRET = "dapr.io/api-token-secret"


def rows(found: Json, policy: Policy = DEFAULT_POLICY, endpoint: Endpoint = MUTATE) -> tuple[Row, ...]:
    """How the decision about a Pod came about."""
    question = decode(encode(review(found)), endpoint)
    decided = decide(question, endpoint, policy, FACTS)
    assert isinstance(question.request.object, Pod)
    return explain(question.request.object, decided, policy, endpoint)


def of(rule: Rule, found: Iterable[Row]) -> list[tuple[str, str, str, Reason | None]]:
    """The rows of one rule, without its name."""
    return [(row.subject, row.value, row.outcome, row.reason) for row in found if row.rule is rule]


def test_injection_is_told_from_the_first_rule_to_the_decision() -> None:
    assert rows(pod()) == (
        Row(Rule.USES_DAPR, "dapr.io/enabled", '"true"', "true: the Pod uses Dapr"),
        Row(Rule.WELL_FORMED, SECRET, '"s"', "well-formed"),
        Row(Rule.ASKS_FOR_TOKEN, API, 'Secret "s", key "token"', "to be given to the sidecar"),
        Row(Rule.APP_CONTAINERS, "dapr-token-injector/app-containers", "absent", "none"),
        Row(Rule.VARIABLE, f'"daprd" {API}', "absent", 'added: Secret "s", key "token"'),
        Row(Rule.DECISION, "inject", "", "1 to change", Reason.INJECTED),
    )


@pytest.mark.parametrize(
    ("annotations", "value", "outcome"),
    [
        (None, "absent", "absent: the Pod does not use Dapr"),
        ({}, "absent", "absent: the Pod does not use Dapr"),
        ({"dapr.io/enabled": "false"}, '"false"', "false: the Pod does not use Dapr"),
        ({"dapr.io/enabled": "maybe"}, '"maybe"', "neither true nor false: Dapr takes it for false"),
    ],
)
def test_pod_without_dapr_ends_at_the_first_rule(annotations: Json | None, value: str, outcome: str) -> None:
    assert rows({**pod(), "metadata": {"annotations": annotations}}) == (
        Row(Rule.USES_DAPR, "dapr.io/enabled", value, outcome, Reason.DAPR_NOT_ENABLED),
        Row(Rule.DECISION, "skip", "", "nothing is changed", Reason.DAPR_NOT_ENABLED),
    )


def test_malformed_annotation_is_told_beside_sound_ones() -> None:
    found = rows(pod(asking("My_Secret", app_token_secret="t", app_token_key=" ")))

    assert [(subject, reason) for subject, _, _, reason in of(Rule.WELL_FORMED, found)] == [
        (SECRET, Reason.INVALID_SECRET_NAME),
        ("dapr.io/app-token-secret", None),
        ("dapr-token-injector/app-token-key", None),
    ]
    assert of(Rule.WELL_FORMED, found)[2][2] == "empty: as if absent"
    assert of(Rule.ASKS_FOR_TOKEN, found) == []
    assert found[-1] == Row(Rule.DECISION, "deny", "", "the Pod is refused", Reason.INVALID_SECRET_NAME)


def test_pod_that_asks_for_nothing_is_told_so() -> None:
    found = rows(pod(asking(None)))

    assert of(Rule.ASKS_FOR_TOKEN, found) == [(SECRET, "absent", "no token is asked for", Reason.NO_TOKEN_REQUESTED)]


def test_default_secret_is_told_at_its_endpoint() -> None:
    found = rows(pod(asking(None)), Policy(default_secret="d"), Endpoint.MUTATE_DEFAULT)

    assert of(Rule.ASKS_FOR_TOKEN, found) == [(API, 'Secret "d", key "token"', "to be given to the sidecar", None)]


@pytest.mark.parametrize(
    ("text", "value", "outcome"),
    [
        ("*", '"*"', "every one but infrastructure"),
        ("web,*", '"web,*"', 'every one but infrastructure, "web"'),
        ("", '""', "none"),
    ],
)
def test_choice_of_app_containers_is_told(text: str, value: str, outcome: str) -> None:
    found = rows(pod(asking(app_containers=text)))

    assert of(Rule.APP_CONTAINERS, found) == [("dapr-token-injector/app-containers", value, outcome, None)]


@pytest.mark.parametrize(
    ("entry", "stood"),
    [
        (literal_env(""), "empty"),
        (literal_env("abc"), "a value in clear text"),
        (secret_env("t", "k"), 'Secret "t", key "k"'),
        (secret_env("t", "k", optional=True), 'Secret "t", key "k", optional'),
        ({"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}, 'ConfigMap "c", key "k"'),
        ({"name": API, "valueFrom": {"fieldRef": {"fieldPath": "x"}}}, "a reference"),
    ],
)
def test_what_stood_there_is_told(entry: Json, stood: str) -> None:
    found = rows(pod(containers=[sidecar(entry)]), Policy(conflict=Conflict.REPLACE))

    assert of(Rule.VARIABLE, found) == [(f'"daprd" {API}', stood, 'replaced: Secret "s", key "token"', None)]


def test_what_is_kept_and_what_is_as_wanted_are_told() -> None:
    found = rows(pod(asking(app_containers="web"), [container(env=[literal_env("abc")]), sidecar(secret_env())]))

    assert of(Rule.VARIABLE, found) == [
        (f'"web" {API}', "a value in clear text", "kept", None),
        (f'"daprd" {API}', 'Secret "s", key "token"', "as wanted already", None),
    ]


@pytest.mark.parametrize(
    ("spec", "there"),
    [
        ({"containers": [container()], "initContainers": [container("init")]}, '"web", "init"'),
        ({"containers": None, "initContainers": None}, "no containers"),
        (None, "no containers"),
    ],
)
def test_missing_sidecar_is_told_with_what_is_there(spec: Json | None, there: str) -> None:
    found = rows({**pod(), "spec": spec})

    assert of(Rule.VARIABLE, found) == [
        ("daprd", there, "no sidecar here: Dapr adds it at admission", Reason.NO_SIDECAR)
    ]


def test_kept_reference_off_the_list_is_told() -> None:
    found = rows(pod(containers=[sidecar(secret_env("t"))]), Policy(allowed_secrets=("s",)))

    ((subject, _, outcome, reason),) = of(Rule.ALLOWED_SECRET, found)
    assert (subject, reason) == (SECRET, Reason.SECRET_NOT_ALLOWED)
    assert 'Secret "t"' in outcome


@pytest.mark.parametrize(("name", "reason"), [("s", Reason.WOULD_INJECT), ("A", Reason.WOULD_DENY)])
def test_shadow_mode_is_told_where_it_matters(name: str, reason: Reason) -> None:
    shadow = Policy(shadow=True)

    assert of(Rule.SHADOW_MODE, rows(pod(asking(name)), shadow)) == [("shadow", "true", "told and not done", reason)]
    assert of(Rule.SHADOW_MODE, rows(pod(asking(name)))) == []
    assert of(Rule.SHADOW_MODE, rows(pod(containers=[sidecar(secret_env())]), shadow)) == []


@given(some.pods | some.sound_pods, some.policies, some.mutating)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_decision_can_be_told(found: Json, policy: Policy, endpoint: Endpoint) -> None:
    told = rows(found, policy, endpoint)

    assert told[0].rule is Rule.USES_DAPR
    assert told[-1].rule is Rule.DECISION
    assert [row.rule for row in told] == sorted((row.rule for row in told), key=list(Rule).index)


@given(places, tokens, dressings, some.policies)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_tells_a_token(where: list[str], token: str, dressing: str, policy: Policy) -> None:
    try:
        told = rows(planted(where, dressing.replace("{}", token)), policy)
    except ReviewError:
        return
    assert not leaks(token, (text for row in told for text in (row.subject, row.value, row.outcome)))
