"""Selectors, evaluated on namespaces and Pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from injector.check.model import Result
from injector.check.selectors import Selector
from tests.property.work import TIMES, Meter, is_in_proportion
from tests.unit.check.checking import outcome
from tests.unit.check.installed import InstalledApi, add_namespace, add_pod, entries, installed

if TYPE_CHECKING:
    from injector.check.model import Outcome
    from tests.fake_cluster.store import Store

DEFAULT = "dapr-token-injector/inject-default"


def covered(store: Store, *, forbidden: str = "") -> Outcome:
    return outcome("namespaces-covered", InstalledApi(store, forbidden=forbidden))


def narrow(store: Store, name: str, operator: str = "In", key: str = "kubernetes.io/metadata.name") -> None:
    for entry in entries(store):
        entry["namespaceSelector"]["matchExpressions"].append({"key": key, "operator": operator, "values": [name]})


@pytest.mark.parametrize(
    ("expression", "labels", "expected"),
    [
        ({"operator": "In", "values": ["a"]}, {"k": "a"}, True),
        ({"operator": "In", "values": ["a"]}, {}, False),
        ({"operator": "NotIn", "values": ["a"]}, {"k": "a"}, False),
        ({"operator": "NotIn", "values": ["a"]}, {}, True),
        ({"operator": "Exists"}, {"k": ""}, True),
        ({"operator": "Exists", "values": None}, {}, False),
        ({"operator": "DoesNotExist"}, {"k": ""}, False),
        ({"operator": "DoesNotExist"}, {}, True),
    ],
)
def test_selector_expression(expression: dict[str, Any], labels: dict[str, str], *, expected: bool) -> None:
    assert Selector({"matchExpressions": [{"key": "k", **expression}]}).matches(labels) is expected


@pytest.mark.parametrize("raw", [None, {}, {"matchLabels": None, "matchExpressions": None}])
def test_empty_selector_matches_everything(raw: dict[str, Any] | None) -> None:
    assert Selector(raw).matches({})


def test_selector_needs_all_rules() -> None:
    selector = Selector({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]})

    assert selector.matches({"a": "1", "b": ""})
    assert not selector.matches({"a": "1"})
    assert not selector.matches({"a": "2", "b": ""})


def test_narrowed_selector_fails_for_requesting_pods() -> None:
    store = installed()
    narrow(store, "elsewhere")

    found = covered(store)

    assert found.result is Result.FAILED
    assert found.problems[0].message == "namespaces that have Pods that request a token and that no entry matches: shop"


def test_narrowed_selector_is_warning_without_requests() -> None:
    store = installed()
    add_namespace(store, "quiet")
    add_pod(store, "quiet", requests=False)
    narrow(store, "shop")

    found = covered(store)

    assert found.result is Result.WARNING
    assert "have Dapr Pods and are matched by no entry: quiet" in found.problems[0].message


def test_object_selector_is_evaluated_on_pods() -> None:
    store = installed()
    for entry in entries(store):
        entry["objectSelector"] = {"matchLabels": {"team": "a"}}

    assert covered(store).result is Result.FAILED
    store.objects = {key: item for key, item in store.objects.items() if key[0] != "pods"}
    add_pod(store, "shop", requests=True, labels={"team": "a"})
    assert covered(store).result is Result.PASSED


def test_label_without_its_entry_fails() -> None:
    store = installed()
    store.put("namespaces", {"metadata": {"name": "given", "labels": {DEFAULT: "enabled"}}})
    assert covered(store).result is Result.PASSED
    del entries(store)[1]

    found = covered(store)

    assert found.result is Result.FAILED
    assert "not matched by default.dapr-token-injector.svc: given" in found.problems[0].message


def test_overlapping_entries_are_warning() -> None:
    store = installed()
    for entry in entries(store):
        entry["namespaceSelector"] = None

    found = covered(store)

    assert found.result is Result.WARNING
    assert "matched by both entries" in found.problems[0].message


def test_excluded_namespaces_are_listed() -> None:
    store = installed()
    add_pod(store, "kube-system", requests=False)
    found = covered(store)
    assert found.result is Result.PASSED
    assert found.seen.endswith("excluded by name: kube-system")

    add_pod(store, "kube-system", requests=True)
    found = covered(store)
    assert found.result is Result.WARNING
    assert "are excluded by name and have Pods that request a token: kube-system" in found.problems[0].message


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_ended_pods_do_not_count(phase: str) -> None:
    store = installed()
    narrow(store, "elsewhere")
    pod = next(item for key, item in store.objects.items() if key[0] == "pods")
    pod["status"]["phase"] = phase

    assert covered(store).result is Result.PASSED


def test_unknown_operator_is_unknown() -> None:
    store = installed()
    narrow(store, "shop", "Like")

    assert covered(store).result is Result.UNKNOWN


@pytest.mark.parametrize("forbidden", ["/namespaces", "/pods"])
def test_missing_permission_is_unknown(forbidden: str) -> None:
    assert covered(installed(), forbidden=forbidden).result is Result.UNKNOWN


@pytest.mark.parametrize("change", [{"annotations": None, "labels": None}, {"annotations": {"dapr.io/enabled": None}}])
def test_pods_of_odd_shapes(change: dict[str, Any]) -> None:
    store = installed()
    add_pod(store, "shop", requests=False)["metadata"] |= change
    add_pod(store, "shop", requests=False)["status"] = None
    store.put("namespaces", {"metadata": {"name": "bare", "labels": None}})

    assert covered(store).result is Result.PASSED


@pytest.mark.slow
def test_work_is_in_proportion_to_the_namespaces() -> None:
    def covered_of(count: int) -> int:
        store = installed()
        for number in range(count):
            add_namespace(store, f"n{number}")
            add_pod(store, f"n{number}", requests=True)
        excluded = [f"x{number}" for number in range(count)]
        for entry in entries(store):
            entry["namespaceSelector"]["matchExpressions"][0]["values"] += excluded
        narrow(store, "shop")

        with Meter() as meter:
            found = covered(store)

        assert found.result is Result.FAILED
        assert len(found.problems[0].message) < 300
        assert found.problems[0].message.endswith(f"and {count - 20:,} more")
        return meter.count

    assert is_in_proportion(covered_of(300), covered_of(300 * TIMES))
