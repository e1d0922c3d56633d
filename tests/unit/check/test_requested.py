"""The check of the policy `requested`, against the store of the fake API server."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.check import requested
from injector.check.model import Result
from injector.check.reader import Expectations
from tests.documents import document
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.installed import DEPLOY, InstalledApi, entries, installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.check.model import Outcome
    from injector.kube.resources import Object

NAME: Final = "dapr-token-injector-requested"
POLICIES: Final = "validatingadmissionpolicies"
BINDINGS: Final = "validatingadmissionpolicybindings"
WITHOUT_DEFAULT: Final = (
    " || v == 'DAPR_API_TOKEN' && "
    "namespaceObject.metadata.?labels[?'dapr-token-injector/inject-default'].orValue('') == 'enabled'"
)


def shipped(name: str) -> Object:
    return copy.deepcopy(document(DEPLOY / f"components/requested/{name}.yaml"))


def with_policy() -> Store:
    """An installation with the policy, as an API server returns it."""
    store = installed()
    policy, binding = shipped("policy"), shipped("binding")
    policy["spec"]["matchConstraints"] |= {"matchPolicy": "Equivalent", "objectSelector": {}}
    store.put(POLICIES, policy)
    store.put(BINDINGS, binding)
    return store


def found(store: Store, *, forbidden: str = "", wanted: str = "") -> Outcome:
    return outcome("requested-bound", InstalledApi(store, forbidden=forbidden), expected=Expectations(requested=wanted))


def message(result: Outcome) -> str:
    (problem,) = result.problems
    return problem.message


def test_sound_policy_passes() -> None:
    result = found(with_policy())

    assert (result.result, result.seen) == (
        Result.PASSED,
        f"ValidatingAdmissionPolicy {NAME}, bound with Deny, Audit",
    )


def test_policy_without_the_default_entry_passes() -> None:
    store = with_policy()
    for one in store.objects[POLICIES, "", NAME]["spec"]["variables"]:
        if one["name"] == "requested":
            before = " ".join(one["expression"].split())
            one["expression"] = before.replace(WITHOUT_DEFAULT, "")
            assert one["expression"] != before

    assert found(store).result is Result.PASSED


def test_known_digests_are_those_of_the_chart() -> None:
    assert requested._digest(shipped("policy")["spec"]) in requested._DIGESTS


def test_policy_that_is_not_installed_is_skipped() -> None:
    assert found(installed()).result is found(Store()).result is Result.SKIPPED


def test_policy_without_registration_passes() -> None:
    store = with_policy()
    del store.objects["mutatingwebhookconfigurations", "", "dapr-token-injector"]

    assert found(store).result is Result.PASSED


def test_missing_permission_is_unknown() -> None:
    result = found(with_policy(), forbidden="admissionregistration")

    assert result.result is Result.UNKNOWN
    assert "not allowed" in message(result)


def spec(store: Store, plural: str = POLICIES) -> dict[str, Any]:
    found: dict[str, Any] = store.objects[plural, "", NAME]["spec"]
    return found


def lose(plural: str) -> Callable[[Store], None]:
    def change(store: Store) -> None:
        del store.objects[plural, "", NAME]

    return change


ANOTHER_VERSION = "does not match this version of the chart"
CHANGES: Final[dict[str, tuple[Callable[[Store], Any], Result, str]]] = {
    "no policy": (lose(POLICIES), Result.FAILED, "does not exist, and its binding has no effect"),
    "no binding": (lose(BINDINGS), Result.FAILED, "does not exist: the policy has no effect"),
    "another validation": (
        lambda store: spec(store)["validations"][0].update(expression="true"), Result.FAILED, ANOTHER_VERSION,
    ),
    "another variable": (
        lambda store: spec(store)["variables"].pop(), Result.FAILED, ANOTHER_VERSION,
    ),
    "another match condition": (
        lambda store: spec(store)["matchConditions"].append({"name": "never", "expression": "false"}),
        Result.FAILED, ANOTHER_VERSION,
    ),
    "errors pass": (lambda store: spec(store).update(failurePolicy="Ignore"), Result.FAILED, ANOTHER_VERSION),
    "a parameter": (lambda store: spec(store).update(paramKind={"kind": "X"}), Result.FAILED, ANOTHER_VERSION),
    "other operations": (
        lambda store: spec(store)["matchConstraints"]["resourceRules"][0].update(operations=["UPDATE"]),
        Result.FAILED, ANOTHER_VERSION,
    ),
    "other Pods": (
        lambda store: spec(store)["matchConstraints"].update(objectSelector={"matchLabels": {"team": "a"}}),
        Result.FAILED, ANOTHER_VERSION,
    ),
    "other namespaces": (
        lambda store: spec(store)["matchConstraints"]["namespaceSelector"].update(matchLabels={"team": "a"}),
        Result.FAILED, "selects other namespaces than the webhook",
    ),
    "other namespaces of the webhook": (
        lambda store: entries(store)[0]["namespaceSelector"]["matchExpressions"].append({"key": "team"}),
        Result.FAILED, "selects other namespaces than the webhook",
    ),
    "another bound policy": (
        lambda store: spec(store, BINDINGS).update(policyName="other"), Result.FAILED, "is bound to another policy",
    ),
    "a narrowed binding": (
        lambda store: spec(store, BINDINGS).update(matchResources={"objectSelector": {"matchLabels": {"a": "b"}}}),
        Result.FAILED, "excludes Pods by matchResources or paramRef",
    ),
    "a binding with a parameter": (
        lambda store: spec(store, BINDINGS).update(paramRef={"name": "x"}), Result.FAILED, "excludes Pods by",
    ),
    "a binding that audits": (
        lambda store: spec(store, BINDINGS).update(validationActions=["Audit"]), Result.WARNING, "does not deny",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wanted", ["Audit", "Warn", "Deny"])
def test_expected_policy_that_was_deleted_with_its_binding_fails(wanted: str) -> None:
    result = found(installed(), wanted=wanted)

    (problem,) = result.problems
    assert (result.result, problem.message) == (
        Result.FAILED,
        f"ValidatingAdmissionPolicy {NAME} and its binding do not exist",
    )
    assert problem.fix.endswith(f"--set requested.action={wanted}")


@pytest.mark.parametrize(
    ("wanted", "actions", "expected"),
    [
        ("Deny", ["Deny", "Audit"], []),
        ("Deny", ["Audit"], [(Result.FAILED, "does not deny")]),
        ("Audit", ["Audit"], [(Result.WARNING, "does not deny")]),
        ("Audit", ["Deny", "Audit"], []),
        ("Warn", ["Warn", "Audit"], [(Result.WARNING, "does not deny")]),
        ("Warn", ["Audit"], [(Result.FAILED, "does not have the action Warn"), (Result.WARNING, "does not deny")]),
    ],
)
def test_binding_has_the_expected_action(wanted: str, actions: list[str], expected: list[tuple[Result, str]]) -> None:
    store = with_policy()
    spec(store, BINDINGS)["validationActions"] = actions

    problems = found(store, wanted=wanted).problems

    assert len(problems) == len(expected)
    for problem, (result, words) in zip(problems, expected, strict=True):
        assert (problem.result, words in problem.message) == (result, True)


@pytest.mark.parametrize("case", CHANGES)
def test_changed_policy_or_binding_is_reported(case: str) -> None:
    change, result, words = CHANGES[case]
    store = with_policy()
    change(store)

    outcome = found(store)

    assert (outcome.result, words in message(outcome)) == (result, True), message(outcome)


def test_defaults_of_the_api_server_are_no_difference() -> None:
    store = with_policy()
    spec(store, BINDINGS)["matchResources"] = {"matchPolicy": "Equivalent", "namespaceSelector": {}}

    assert found(store).result is Result.PASSED
