"""The checks of an installation with two groups of replicas, against the store of the fake API server."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.check import registration
from injector.check.model import Result
from injector.core import names
from tests.fake_cluster.client import StoreApi
from tests.served import not_yet_served
from tests.unit.check import sound_webhook
from tests.unit.check.checking import outcome
from tests.unit.check.installed import (
    MUTATING,
    NAME,
    SECOND,
    VALIDATING,
    InstalledApi,
    authority,
    container,
    entries,
    installed,
    replica,
    with_two_groups,
)
from tests.unit.check.sound_webhook import forbidding, messages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from injector.check.model import Outcome
    from tests.fake_cluster.store import Store

CHECKS: Final = (
    "one-installation",
    "registered",
    "entries-as-installed",
    "failure-policy",
    "namespaces-covered",
    "ca-bundle",
    "registered-service",
    "same-version",
    "objects-of-one-version",
    "requested-bound",
    "entries-alike",
    "groups-alike",
)
AVAILABILITY: Final = ("endpoints", "pods-start", "rolled-out", "disruption-budget", "spread")
UNSERVED: Final = "Pods that request a token are denied (policy requested) or created without it"
FIRST_SERVICE: Final = f"Service {NAME}/{NAME}"
SECOND_SERVICE: Final = f"Service {NAME}/{SECOND}"
LEFT: Final = f"if {FIRST_SERVICE} does not answer either, {UNSERVED}"


def found(name: str, store: Store, *, forbidden: str = "") -> Outcome:
    return outcome(name, InstalledApi(store, forbidden=forbidden))


def failures(store: Store) -> dict[str, list[str]]:
    """The checks that do not pass, and their messages."""
    outcomes = {name: found(name, store) for name in CHECKS}
    return {
        name: [problem.message for problem in one.problems]
        for name, one in outcomes.items()
        if one.result not in {Result.PASSED, Result.SKIPPED}
    }


def test_sound_installation_passes() -> None:
    store = with_two_groups()

    assert {name: found(name, store).result for name in CHECKS} == dict.fromkeys(CHECKS, Result.PASSED)


@pytest.mark.parametrize("name", AVAILABILITY)
def test_one_replica_in_each_group_passes(name: str) -> None:
    result = outcome(name, StoreApi(sound_webhook.with_two_groups()))

    assert (result.result, messages(result)) == (Result.PASSED, [])


@pytest.mark.parametrize("name", ["entries-alike", "groups-alike"])
def test_one_group_is_skipped(name: str) -> None:
    assert found(name, installed()).result is Result.SKIPPED


@pytest.mark.parametrize("name", ["entries-alike", "groups-alike"])
def test_missing_permission_is_unknown(name: str) -> None:
    forbidden = "webhookconfigurations" if name == "entries-alike" else "deployments"

    assert found(name, with_two_groups(), forbidden=forbidden).result is Result.UNKNOWN


def test_known_digests_are_those_of_the_chart() -> None:
    for name in ("inject-2", "default-2"):
        expression = " ".join(not_yet_served(default=name == "default-2").split())
        known = registration.ENTRIES[SECOND][f"{name}.{NAME}.svc"].conditions["not-yet-served"]
        assert known == sha256(expression.encode()).hexdigest()


def lose(plural: str, name: str, namespace: str = "") -> Callable[[Store], Any]:
    return lambda store: store.objects.pop((plural, namespace, name))


def lose_all(*objects: tuple[str, str, str]) -> Callable[[Store], Any]:
    return lambda store: [store.objects.pop((plural, namespace, name)) for plural, name, namespace in objects]


def edit(change: Callable[[Any], Any], *, group: str = SECOND, number: int = 0) -> Callable[[Store], Any]:
    return lambda store: change(entries(store, group=group)[number])


def spec(store: Store, plural: str) -> Any:  # noqa: ANN401 - JSON
    return store.objects[plural, "", f"{NAME}-requested"]["spec"]


POLICY: Final = "validatingadmissionpolicies"
BINDING: Final = "validatingadmissionpolicybindings"
INJECT: Final = f"inject.{NAME}.svc"
INJECT_2: Final = f"inject-2.{NAME}.svc"
DEFAULT_2: Final = f"default-2.{NAME}.svc"
IGNORED: Final = "has failurePolicy Ignore: while no group answers, Pods are created without the token"
NARROW: Final = {"matchLabels": {"team": "a"}}

# What was changed; the only check that reports it; a part of its message.
CHANGES: Final[dict[str, tuple[Callable[[Store], Any], str, str]]] = {
    "second object": (lose(MUTATING, SECOND), "registered", f"only MutatingWebhookConfiguration {NAME} protects Pods"),
    "first object": (lose(MUTATING, NAME), "registered", f"only MutatingWebhookConfiguration {SECOND} protects Pods"),
    "group 2, but for the arguments of group 1": (
        lose_all((MUTATING, SECOND, ""), ("deployments", SECOND, NAME), ("services", SECOND, NAME)),
        "registered",
        f"MutatingWebhookConfiguration {SECOND} does not exist",
    ),
    "second inject entry": (
        lambda store: entries(store, group=SECOND).pop(0), "registered", f"{SECOND} has no entry {INJECT_2}: only",
    ),
    "second default entry": (
        lambda store: entries(store, group=SECOND).pop(), "entries-alike", f"{DEFAULT_2} does not: one group serves",
    ),
    "first default entry": (
        lambda store: entries(store).pop(), "entries-alike", f"{DEFAULT_2} exists and default.{NAME}.svc does not",
    ),
    "no condition not-yet-served": (
        edit(lambda entry: entry["matchConditions"].pop()), "entries-as-installed", "not-yet-served is missing",
    ),
    "another condition not-yet-served": (
        edit(lambda entry: entry["matchConditions"][-1].update(expression="true")),
        "entries-as-installed", "not-yet-served does not match this version of the chart",
    ),
    "not-yet-served in group 1": (
        edit(
            lambda entry: entry["matchConditions"].append({"name": "not-yet-served", "expression": "true"}), group=NAME
        ),
        "entries-as-installed", "not-yet-served is added",
    ),
    "conditions of the other entry": (
        lambda store: entries(store, group=SECOND)[1]["matchConditions"][-1].update(
            expression=not_yet_served(default=False)
        ),
        "entries-as-installed", f"{DEFAULT_2}: the match condition not-yet-served does not match this version",
    ),
    "timeout of group 1": (
        edit(lambda entry: entry.update(timeoutSeconds=5), group=NAME),
        "entries-as-installed", f"{INJECT}: timeoutSeconds is 5: use 1 with two groups",
    ),
    "timeout of group 2": (
        edit(lambda entry: entry.update(timeoutSeconds=30)), "entries-as-installed", "timeoutSeconds is 30: use 2 to",
    ),
    "Fail": (
        edit(lambda entry: entry.update(failurePolicy="Fail"), group=NAME),
        "entries-as-installed", "Pods are rejected although the other group answers",
    ),
    "entry of the other group": (
        lambda store: entries(store).append({**entries(store)[0], "name": INJECT_2}),
        "entries-as-installed", f"{INJECT_2} is not an entry of {NAME}",
    ),
    "selector of group 2": (
        edit(lambda entry: entry.update(namespaceSelector=NARROW)),
        "entries-alike", f"{INJECT} and {INJECT_2} have different namespaceSelector",
    ),
    "object selector of group 1": (
        edit(lambda entry: entry.update(objectSelector=NARROW), group=NAME),
        "entries-alike", "have different objectSelector",
    ),
    "wider rules": (
        edit(lambda entry: entry["rules"][0]["operations"].append("UPDATE")), "entries-alike", "have different rules",
    ),
    "lost rules": (edit(lambda entry: entry.pop("rules")), "entries-as-installed", "no rule includes the creation"),
    "caBundle": (
        edit(lambda entry: entry["clientConfig"].pop("caBundle")), "ca-bundle", f"{INJECT_2}: caBundle is empty",
    ),
    "Service of the other group": (
        lambda store: [entry["clientConfig"]["service"].update(name=NAME) for entry in entries(store, group=SECOND)],
        "registered-service", f"the entries of {SECOND} have Service {NAME}, which is that of the other group",
    ),
    "Service of the other group in one entry": (
        edit(lambda entry: entry["clientConfig"]["service"].update(name=NAME)),
        "registered-service", f"the entries of {SECOND} have several Services",
    ),
    "lost Service": (
        lose("services", SECOND, NAME), "registered-service", f"Service {SECOND} in namespace {NAME} does not exist",
    ),
    "no policy requested": (
        lose_all((POLICY, f"{NAME}-requested", ""), (BINDING, f"{NAME}-requested", "")), "failure-policy", IGNORED,
    ),
    "policy requested that audits": (
        lambda store: spec(store, BINDING).update(validationActions=["Audit"]), "requested-bound", "does not deny",
    ),
    "policy requested without a binding": (
        lose(BINDING, f"{NAME}-requested"), "requested-bound", "does not exist: the policy has no effect",
    ),
    "policy requested for other namespaces": (
        lambda store: spec(store, POLICY)["matchConstraints"]["namespaceSelector"].update(NARROW),
        "requested-bound", "selects other namespaces than the webhook",
    ),
    "image of group 2": (
        lambda store: container(store, SECOND).update(image="example.invalid/x:9.0.0"),
        "groups-alike", f"Deployment {SECOND}: example.invalid/x:9.0.0",
    ),
    "version of an object": (
        lambda store: store.objects[MUTATING, "", SECOND]["metadata"]["labels"].update(
            {"app.kubernetes.io/version": "0.0.9"}
        ),
        "objects-of-one-version", "have several versions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_change_is_reported_by_one_check(case: str) -> None:
    change, check, words = CHANGES[case]
    store = with_two_groups()
    change(store)
    failed = failures(store)
    if check == "registered" and (MUTATING, "", NAME) not in store.objects:
        assert "the registration was deleted" in failed.pop("one-installation")[0]

    assert list(failed) == [check], failed
    assert words in "; ".join(failed[check])


def volume(store: Store) -> Any:  # noqa: ANN401 - JSON
    volumes = store.objects["deployments", NAME, SECOND]["spec"]["template"]["spec"]["volumes"]
    return next(one for one in volumes if one["name"] == "policy")


def checksum(store: Store, value: str) -> None:
    template = store.objects["deployments", NAME, SECOND]["spec"]["template"]
    template["metadata"] = {"annotations": {"checksum/policy": value}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda store: volume(store).update(configMap={"name": "other"}), f"Deployment {SECOND}: ConfigMap other"),
        (lambda store: volume(store).pop("configMap"), f"Deployment {SECOND}: ConfigMap none"),
        (lambda store: checksum(store, "0123456789"), f"Deployment {SECOND}: ConfigMap {NAME}-policy 01234567"),
    ],
)
def test_different_policies_fail(change: Callable[[Store], Any], words: str) -> None:
    store = with_two_groups()
    change(store)

    (message,) = failures(store)["groups-alike"]
    assert message.startswith("the groups have different Policies")
    assert message.endswith(words)


def test_shadow_mode_without_the_policy_requested_is_a_warning() -> None:
    store = with_two_groups()
    for plural in (POLICY, BINDING):
        del store.objects[plural, "", f"{NAME}-requested"]
    store.objects["deployments", NAME, NAME]["metadata"]["labels"] = {"app.kubernetes.io/name": NAME}
    data = {"policy.yaml": "shadow: true\n"}
    store.put("configmaps", {"metadata": {"namespace": NAME, "name": f"{NAME}-policy"}, "data": data})

    assert found("failure-policy", store).result is Result.WARNING
    assert found("failure-policy", store, forbidden="configmaps").result is Result.FAILED


def test_ignore_of_one_group_with_the_policy_requested_passes() -> None:
    """`Ignore` leaves no hole where Pods without their token are denied."""
    store = with_two_groups()
    for plural, namespace in ((MUTATING, ""), ("deployments", NAME), ("services", NAME)):
        del store.objects[plural, namespace, SECOND]
    container(store)["args"].remove("--fail-over")

    assert found("failure-policy", store).result is Result.PASSED
    assert found("registered", store).result is Result.PASSED


def test_entry_in_another_configuration_is_another_installation() -> None:
    store = with_two_groups()
    store.put(MUTATING, {"metadata": {"name": "other"}, "webhooks": [{"name": INJECT_2}]})

    assert found("one-installation", store).result is Result.FAILED


def test_dapr_between_both_configurations() -> None:
    store = with_two_groups()
    entry = {"name": "sidecar-injector.dapr.io"}
    store.put(MUTATING, {"metadata": {"name": f"{NAME}-1"}, "webhooks": [entry]})
    assert found("called-after-dapr", store).result is Result.PASSED
    for group in names.GROUPS:
        entries(store, group=group)[0]["reinvocationPolicy"] = "Never"

    (problem,) = found("called-after-dapr", store).problems
    assert problem.message.startswith(f"{INJECT}: called before {NAME}-1 and not again")


def test_namespaces_are_covered_by_either_group() -> None:
    store = with_two_groups()
    for number in (0, 1):
        entries(store)[number]["namespaceSelector"] = NARROW
    assert found("namespaces-covered", store).result is Result.PASSED
    for number in (0, 1):
        entries(store, group=SECOND)[number]["namespaceSelector"] = NARROW

    assert found("namespaces-covered", store).result is Result.FAILED


@pytest.mark.parametrize("has_first", [True, False])
def test_second_group_is_unknown_without_deployments(*, has_first: bool) -> None:
    store = with_two_groups()
    assert found("registered", store, forbidden="deployments").result is Result.PASSED
    del store.objects[MUTATING, "", SECOND]
    if not has_first:
        del store.objects[MUTATING, "", NAME]

    result = found("registered", store, forbidden="deployments")

    assert result.result is (Result.UNKNOWN if has_first else Result.FAILED)
    message = result.problems[-1].message
    assert message.startswith("whether a second group of replicas is installed is not known: cannot get deployments/")


def test_certificate_without_the_name_of_the_second_service(tmp_path: Path) -> None:
    """As with `tls.mode: files`, where both groups have one certificate."""
    pair = authority().issue_server(hosts=[f"{NAME}.{NAME}.svc"])
    store = with_two_groups()
    with replica(pair, tmp_path) as port:
        replicas = {f"replica-{letter}": port for letter in "abcd"}
        result = outcome("served-certificate", InstalledApi(store, replicas=replicas))

    assert {one.message.split(" (")[0] for one in result.problems} == {
        f"Pod replica-{letter} serves a certificate that caBundle of {INJECT_2}, {DEFAULT_2} does not verify for "
        f"{SECOND}.{NAME}.svc"
        for letter in "cd"
    }


def test_certificate_with_the_names_of_both_services(tmp_path: Path) -> None:
    pair = authority().issue_server(hosts=[f"{NAME}.{NAME}.svc", f"{SECOND}.{NAME}.svc"])
    with replica(pair, tmp_path) as port:
        replicas = {f"replica-{letter}": port for letter in "abcd"}
        result = outcome("served-certificate", InstalledApi(with_two_groups(), replicas=replicas))

    assert (result.result, messages(result)) == (Result.PASSED, [])


# --- availability ---


def test_group_without_endpoints_fails() -> None:
    store = sound_webhook.with_two_groups()
    sound_webhook.put_endpoints(store, [], SECOND, service=SECOND)

    assert messages(outcome("endpoints", StoreApi(store))) == [
        (
            "failed",
            f"the endpoints of {SECOND_SERVICE} are gone, none is ready: {LEFT}",
        )
    ]


def test_both_groups_without_endpoints_fail() -> None:
    store = sound_webhook.with_two_groups()
    for name in (NAME, SECOND):
        sound_webhook.put_endpoints(store, [], name, service=name)

    assert len(outcome("endpoints", StoreApi(store)).problems) == 2
    assert outcome("spread", StoreApi(store)).result is Result.SKIPPED


def test_group_that_is_scaled_to_zero_fails() -> None:
    store = sound_webhook.with_two_groups()
    store.put("deployments", sound_webhook.deployment(replicas=0))
    del store.objects["pods", NAME, "1"]

    assert messages(outcome("rolled-out", StoreApi(store))) == [
        ("failed", f"Deployment {NAME} is scaled to 0 replicas")
    ]
    (problem,) = outcome("pods-start", StoreApi(store)).problems
    assert problem.message.startswith(f"{FIRST_SERVICE} has no Pod with the labels")
    assert f"if {SECOND_SERVICE} does not answer either" in problem.message


def test_single_endpoint_of_the_only_registered_group_is_a_warning() -> None:
    store = sound_webhook.with_two_groups()
    del store.objects[MUTATING, "", SECOND]

    assert outcome("endpoints", StoreApi(store)).result is Result.WARNING


def test_both_groups_on_one_node_is_a_warning() -> None:
    store = sound_webhook.with_two_groups()
    sound_webhook.put_endpoints(store, [sound_webhook.endpoint("2", nodeName="node-1")], SECOND, service=SECOND)

    assert messages(outcome("spread", StoreApi(store))) == [
        (
            "warning",
            f"all ready endpoints of {FIRST_SERVICE}, {SECOND_SERVICE} are on node node-1: if it fails, {UNSERVED}",
        )
    ]


def test_two_groups_without_a_budget_are_a_warning() -> None:
    store = sound_webhook.with_two_groups()
    del store.objects["poddisruptionbudgets", NAME, NAME]

    (problem,) = outcome("disruption-budget", StoreApi(store)).problems
    assert problem.message.startswith(
        f"no PodDisruptionBudget selects the Pods of {FIRST_SERVICE}, {SECOND_SERVICE}: drains"
    )


def test_unreadable_services_have_the_labels_of_the_chart() -> None:
    store = sound_webhook.with_two_groups()

    assert outcome("pods-start", StoreApi(store, forbidding("services"))).result is Result.PASSED


def test_validating_configuration_of_the_other_group() -> None:
    store = with_two_groups()
    entries(store, VALIDATING)[0]["clientConfig"]["service"]["name"] = SECOND

    assert found("registered-service", store).result is Result.FAILED
