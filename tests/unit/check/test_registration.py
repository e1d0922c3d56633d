"""The checks of the registration, against the store of the fake API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.check.model import Result
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.installed import GUARD, MUTATING, NAME, VALIDATING, InstalledApi, entries, installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.check.model import Outcome

NAMES: Final = ("registered", "entries-as-installed", "failure-policy", "called-after-dapr", "warnings-registered")
GUARDED: Final = ("guard-bound", "namespaces-covered")


def found(name: str, store: Store, *, forbidden: str = "") -> Outcome:
    return outcome(name, InstalledApi(store, forbidden=forbidden))


def words(outcome: Outcome) -> str:
    return "\n".join(problem.message for problem in outcome.problems)


def dapr(store: Store, name: str = "dapr-sidecar-injector") -> None:
    entry = {"name": "sidecar-injector.dapr.io", "reinvocationPolicy": "IfNeeded"}
    store.put(MUTATING, {"metadata": {"name": name}, "webhooks": [entry]})


@pytest.mark.parametrize("name", [*NAMES, *GUARDED])
def test_sound_installation_passes(name: str) -> None:
    store = installed()
    dapr(store)

    assert (found(name, store).result, words(found(name, store))) == (Result.PASSED, "")


@pytest.mark.parametrize("name", [*NAMES, *GUARDED])
def test_missing_permission_is_unknown(name: str) -> None:
    result = found(name, installed(), forbidden="admissionregistration")

    assert result.result is Result.UNKNOWN
    assert "not allowed" in words(result)


@pytest.mark.parametrize("name", [*NAMES[1:], "namespaces-covered", "guard-bound"])
def test_nothing_installed_is_skipped(name: str) -> None:
    assert found(name, Store()).result is Result.SKIPPED


@pytest.mark.parametrize("webhooks", [None, [], [{"name": "other.example.com"}]])
def test_foreign_configuration_of_our_name(webhooks: object) -> None:
    store = installed()
    store.put(MUTATING, {"metadata": {"name": NAME}, "webhooks": webhooks})
    store.put(VALIDATING, {"metadata": {"name": NAME}, "webhooks": webhooks})

    assert "has no entry inject.dapr-token-injector.svc" in words(found("registered", store))
    assert "has no entry warn.dapr-token-injector.svc" in words(found("warnings-registered", store))
    assert found("registered", store).result is found("warnings-registered", store).result is Result.FAILED
    assert {found(name, store).result for name in ("entries-as-installed", "failure-policy", "namespaces-covered")} == {
        Result.SKIPPED
    }


@pytest.mark.parametrize("webhooks", ["x", ["x"], [{}], [{"name": None, "rules": 5}], 7])
@pytest.mark.parametrize("name", [*NAMES, "namespaces-covered"])
def test_malformed_configuration_raises_nothing(name: str, webhooks: object) -> None:
    store = installed()
    for plural in (MUTATING, VALIDATING):
        store.put(plural, {"metadata": {"name": NAME}, "webhooks": webhooks})

    assert found(name, store).result in {Result.UNKNOWN, Result.FAILED, Result.SKIPPED}


def test_missing_registration_fails() -> None:
    result = found("registered", Store())

    assert result.result is Result.FAILED
    assert "does not exist: Pods are created without a token" in words(result)
    assert "--reset-then-reuse-values" in result.problems[0].fix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": None}, "no rule includes the creation of Pods"),
        (
            {"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}]},
            "no rule",
        ),
        ({"clientConfig": {"service": {"path": "/warn"}}}, "to the path /warn instead of /mutate"),
        ({"clientConfig": {"url": "https://x.example.com"}}, "to the path / instead of /mutate"),
        ({"clientConfig": None}, "to the path / instead of /mutate"),
        ({"matchConditions": None}, "match condition asks-for-token is missing"),
        (
            {"matchConditions": [{"name": "asks-for-token", "expression": "false"}]},
            "does not match this version of the chart",
        ),
        ({"reinvocationPolicy": "Never"}, "reinvocationPolicy is not IfNeeded"),
        ({"reinvocationPolicy": None}, "reinvocationPolicy is not IfNeeded"),
        ({"sideEffects": "Some"}, "sideEffects is not None"),
        ({"admissionReviewVersions": ["v1beta1"]}, "does not include v1"),
    ],
)
def test_changed_entry_fails(change: dict[str, Any], message: str) -> None:
    store = installed()
    entries(store)[0] |= change

    result = found("entries-as-installed", store)

    assert result.result is Result.FAILED
    assert message in words(result)


def test_added_match_condition_fails() -> None:
    store = installed()
    entries(store)[0]["matchConditions"].append({"name": "only-mine", "expression": "true"})

    assert "only-mine is added" in words(found("entries-as-installed", store))


@pytest.mark.parametrize(
    "rules",
    [
        [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"], "scope": "*"}],
        [{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}],
    ],
)
def test_wider_rules_pass(rules: list[dict[str, Any]]) -> None:
    store = installed()
    entries(store)[0]["rules"] = rules

    assert found("entries-as-installed", store).result is Result.PASSED


@pytest.mark.parametrize(
    ("seconds", "result"), [(1, Result.WARNING), (30, Result.WARNING), (10, Result.PASSED), (None, Result.PASSED)]
)
def test_timeout(seconds: int | None, result: Result) -> None:
    store = installed()
    entries(store)[0]["timeoutSeconds"] = seconds

    assert found("entries-as-installed", store).result is result


def test_entry_of_another_name_is_warning() -> None:
    store = installed()
    entries(store).append({"name": "other.example.com"})

    assert found("entries-as-installed", store).result is Result.WARNING


def test_failure_policy_ignore_is_warning() -> None:
    store = installed()
    entries(store)[0]["failurePolicy"] = "Ignore"
    del entries(store)[1]["failurePolicy"]

    result = found("failure-policy", store)

    assert (result.result, len(result.problems)) == (Result.WARNING, 1)
    assert "Pods are created without the token" in words(result)


@pytest.mark.parametrize(
    ("name", "policy", "result"),
    [
        ("dapr-sidecar-injector", "IfNeeded", Result.PASSED),
        ("dapr-sidecar-injector", "Never", Result.PASSED),
        ("my-dapr", "IfNeeded", Result.PASSED),
        ("my-dapr", "Never", Result.FAILED),
        ("my-dapr", None, Result.FAILED),
    ],
)
def test_order_of_both_injectors(name: str, policy: str | None, result: Result) -> None:
    store = installed()
    dapr(store, name)
    for entry in entries(store):
        entry["reinvocationPolicy"] = policy

    assert found("called-after-dapr", store).result is result


@pytest.mark.parametrize(
    ("change", "result", "message"),
    [
        ({"rules": []}, Result.FAILED, "never called"),
        ({"clientConfig": {"service": {"path": "/mutate"}}}, Result.FAILED, "to the path /mutate"),
        ({"sideEffects": "Unknown"}, Result.FAILED, "sideEffects"),
        ({"failurePolicy": "Fail"}, Result.WARNING, "failurePolicy is not Ignore"),
    ],
)
def test_changed_warnings(change: dict[str, Any], result: Result, message: str) -> None:
    store = installed()
    entries(store, VALIDATING)[0] |= change

    outcome = found("warnings-registered", store)

    assert outcome.result is result
    assert message in words(outcome)


def spec(store: Store, suffix: str) -> dict[str, Any]:
    found: dict[str, Any] = store.objects["validatingadmissionpolicybindings", "", GUARD + suffix]["spec"]
    return found


def unbound(store: Store) -> None:
    for key in [key for key in store.objects if key[0] == "validatingadmissionpolicybindings"]:
        del store.objects[key]


@pytest.mark.parametrize(
    ("change", "result", "message"),
    [
        (unbound, Result.FAILED, "does not exist: no guard in namespaces with label dapr-token-injector/guard: deny"),
        (lambda store: store.objects.pop(("validatingadmissionpolicies", "", GUARD)), Result.FAILED, "no effect"),
        (lambda store: spec(store, "").update(policyName="other"), Result.FAILED, "is bound to another policy"),
        (lambda store: spec(store, "-deny").update(validationActions=["Warn"]), Result.FAILED, "deny has no effect"),
        (lambda store: spec(store, "-deny").update(validationActions=["Audit"]), Result.WARNING, "deny has no effect"),
        (lambda store: spec(store, "").update(validationActions=None), Result.FAILED, "actions of audit, warn or deny"),
        (lambda store: spec(store, "").update(paramRef={"name": "p"}), Result.FAILED, "has paramRef"),
        (
            lambda store: spec(store, "")["matchResources"].update(objectSelector={"matchLabels": {"a": "b"}}),
            Result.FAILED,
            "excludes Pods by objectSelector",
        ),
        (
            lambda store: spec(store, "")["matchResources"].update(namespaceSelector={"matchLabels": {"a": "b"}}),
            Result.WARNING,
            "without the label dapr-token-injector/guard and without a guard",
        ),
        (
            lambda store: spec(store, "-deny")["matchResources"].update(namespaceSelector={"matchLabels": {"a": "b"}}),
            Result.FAILED,
            "guard: deny and no guard: guarded",
        ),
        (
            lambda store: spec(store, "-deny").update(
                matchResources={"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}
            ),
            Result.UNKNOWN,
            "another shape",
        ),
    ],
)
def test_guard_that_is_not_in_force(change: Callable[[Store], Any], result: Result, message: str) -> None:
    store = installed()
    store.put("namespaces", {"metadata": {"name": "guarded", "labels": {"dapr-token-injector/guard": "deny"}}})
    store.put("namespaces", {"metadata": {"name": "other", "labels": {"dapr-token-injector/guard": "off"}}})
    change(store)

    outcome = found("guard-bound", store)

    assert outcome.result is result
    assert message in words(outcome)


@pytest.mark.parametrize(
    ("change", "result", "message"),
    [
        ({"variables": None, "validations": None}, Result.FAILED, "is not the guard"),
        ({"paramKind": {"kind": "ConfigMap"}}, Result.FAILED, "has paramKind"),
        ({"matchConstraints": None}, Result.FAILED, "does not match the creation of Pods"),
        ({"failurePolicy": "Ignore"}, Result.WARNING, "lets a Pod pass"),
    ],
)
def test_changed_guard(change: dict[str, Any], result: Result, message: str) -> None:
    store = installed()
    store.objects["validatingadmissionpolicies", "", GUARD]["spec"] |= change

    outcome = found("guard-bound", store)

    assert outcome.result is result
    assert message in words(outcome)
