"""The checks of availability, against the store of the fake API server."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from injector.check.catalogue import CHECKS
from injector.check.model import Category, Result
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.sound_webhook import (
    FAIL,
    NAME,
    REGISTRATION,
    budget,
    endpoint,
    forbidding,
    installed,
    messages,
    put_endpoints,
    registered,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
IGNORE = "Pods that request a token are created without it (failurePolicy Ignore)"
CHECKED = ("endpoints", "pods-start", "rolled-out", "disruption-budget", "spread")


@pytest.mark.parametrize("name", CHECKED)
def test_sound_installation_passes(name: str) -> None:
    found = outcome(name, StoreApi(installed()))

    assert (found.result, found.problems) == (Result.PASSED, ())


@pytest.mark.parametrize("name", CHECKED)
def test_registration_by_url_is_skipped(name: str) -> None:
    store = installed()
    registered(store, None)

    assert outcome(name, StoreApi(store)).result is Result.SKIPPED


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("missing", ["registration", "lists", "status"])
def test_odd_objects_do_not_pass_as_sound(name: str, missing: str) -> None:
    store = installed()
    for (plural, _, _), item in store.objects.items():
        if missing == "lists":
            for key in ("endpoints", "ports", "webhooks"):
                if key in item:
                    item[key] = None
        elif missing == "status" and plural != "services":
            item.pop("status", None)
        elif plural == "mutatingwebhookconfigurations":
            item["webhooks"] = "x"

    result = outcome(name, StoreApi(store)).result

    if missing == "registration":
        assert result is Result.UNKNOWN
    elif missing == "status":
        assert result in ({Result.PASSED} if name in {"endpoints", "spread"} else {Result.WARNING, Result.UNKNOWN})
    else:
        assert result is {"endpoints": Result.FAILED, "spread": Result.SKIPPED}.get(name, Result.PASSED)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("endpoints", "endpointslices"),
        ("pods-start", "pods"),
        ("rolled-out", "deployments"),
        ("disruption-budget", "poddisruptionbudgets"),
        ("spread", "endpointslices"),
    ],
)
def test_forbidden_kind_is_unknown_and_named(name: str, kind: str) -> None:
    found = outcome(name, StoreApi(installed(), forbidding(kind)))

    assert found.result is Result.UNKNOWN
    assert kind in found.problems[0].message


@pytest.mark.parametrize("name", CHECKED)
def test_given_namespace_makes_up_for_a_forbidden_registration(name: str) -> None:
    api = StoreApi(installed(), forbidding("mutatingwebhookconfigurations", "services"))

    assert outcome(name, api).result is Result.UNKNOWN
    assert outcome(name, api, namespace=NAME).result is Result.PASSED


@pytest.mark.parametrize("name", ["pods-start", "rolled-out", "disruption-budget", "serving-certificate"])
def test_unreadable_service_of_other_labels_is_unknown(name: str) -> None:
    store = installed()
    for item in (store.objects["pods", NAME, "1"], store.objects["pods", NAME, "2"]):
        item["metadata"]["labels"] = {"app": "own"}
    store.objects["deployments", NAME, NAME]["spec"]["template"]["metadata"]["labels"] = {"app": "own"}

    found = outcome(name, StoreApi(store, forbidding("services")))

    assert messages(found) == [("unknown", "cannot get services: not allowed")]


# --- endpoints ---


def without_endpoints(*conditions: Json) -> Callable[[Store], None]:
    return lambda store: put_endpoints(
        store, [endpoint(str(number), conditions=one) for number, one in enumerate(conditions)]
    )


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (without_endpoints(), f"the endpoints of Service {NAME}/{NAME} are gone, none is ready: "),
        (without_endpoints({"ready": False}), f"the endpoints of Service {NAME}/{NAME} are gone, none is ready: "),
        (
            lambda store: put_endpoints(store, [endpoint("1")], ports=[{"name": "ops", "port": 8080}]),
            f"the endpoints of Service {NAME}/{NAME} are gone, none is ready: ",
        ),
        (lambda store: store.remove("services", NAME, NAME), f"Service {NAME}/{NAME} does not exist: "),
        (
            lambda store: registered(store, {"name": NAME, "namespace": NAME, "port": 444}),
            f"Service {NAME}/{NAME} has no port 444, which is registered: ",
        ),
        (
            lambda store: registered(store, {"name": "other", "namespace": "default"}),
            "Service default/other does not exist: ",
        ),
    ],
)
@pytest.mark.parametrize(("policy", "consequence"), [("Fail", FAIL), ("Ignore", IGNORE)])
def test_no_endpoint_fails(damage: Callable[[Store], None], problem: str, policy: str, consequence: str) -> None:
    store = installed(policy=policy)
    damage(store)
    for entry in store.objects[REGISTRATION]["webhooks"]:
        entry["failurePolicy"] = policy

    found = outcome("endpoints", StoreApi(store))

    assert messages(found) == [("failed", problem + consequence)]


def test_two_policies_have_two_consequences() -> None:
    store = installed()
    (entry,) = store.objects[REGISTRATION]["webhooks"]
    store.objects[REGISTRATION]["webhooks"] = [{**entry, "failurePolicy": "Ignore"}, {**entry, "failurePolicy": None}]
    put_endpoints(store, [])

    assert outcome("endpoints", StoreApi(store)).problems[0].message.endswith(f": {FAIL} or {IGNORE}")


def test_endpoints_of_unknown_policy_are_gone() -> None:
    found = outcome("endpoints", StoreApi(Store(), forbidding("services")))

    assert messages(found)[0][1].endswith(": Pods that request a token are rejected or created without it")


def test_one_endpoint_is_a_warning() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1"), endpoint("2", conditions={"ready": False})])

    found = outcome("endpoints", StoreApi(store))

    assert found.seen == f"1 of 2 endpoints of Service {NAME}/{NAME} ready"
    assert messages(found) == [
        ("warning", f"only one endpoint of Service {NAME}/{NAME} is ready: while its Pod is replaced, {FAIL}")
    ]


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_endpoint_in_two_slices_is_ready_if_one_says_so(order: tuple[bool, bool]) -> None:
    store = installed()
    for number, ready in enumerate(order):
        put_endpoints(store, [endpoint("1", conditions={"ready": ready}), endpoint("2")], f"slice-{number}")
    store.remove("endpointslices", NAME, NAME)

    assert outcome("endpoints", StoreApi(store)).seen == f"2 of 2 endpoints of Service {NAME}/{NAME} ready"


def test_thousand_endpoints_in_two_families_are_counted_once() -> None:
    store = installed()
    addresses = [endpoint(str(number), conditions=None) for number in range(1000)]
    for part in range(10):
        for family in ("IPv4", "IPv6"):
            chunk = copy.deepcopy(addresses[part * 100 : part * 100 + 101])  # the last one is in the next slice, too
            put_endpoints(store, chunk, f"{family}-{part}".lower(), addressType=family)
    put_endpoints(store, [{"addresses": ["10.9.9.9"]}], addressType="IPv4")

    assert outcome("endpoints", StoreApi(store)).seen == f"1,001 of 1,001 endpoints of Service {NAME}/{NAME} ready"


# --- disruption-budget ---

NO_BUDGET = (
    f"no PodDisruptionBudget selects the Pods of Service {NAME}/{NAME}: drains of several nodes may evict all at once"
)
TWO_BUDGETS = (
    "several PodDisruptionBudgets select the same Pods (a, b): Kubernetes evicts no Pod then, and node drains "
    "do not end"
)


@pytest.mark.parametrize(
    ("budgets", "problems"),
    [
        (
            [],
            [("warning", NO_BUDGET)],
        ),
        (
            [budget(status={**budget()["status"], "disruptionsAllowed": 0})],
            [
                (
                    "failed",
                    f"PodDisruptionBudget {NAME} allows no eviction, with 2 Pods healthy: node drains do not end",
                )
            ],
        ),
        ([budget(status={**budget()["status"], "disruptionsAllowed": 0, "currentHealthy": 1})], []),
        (
            [budget(status={})],
            [("unknown", f"PodDisruptionBudget {NAME} has not been evaluated by its controller yet")],
        ),
        (
            [
                budget(
                    status={
                        "conditions": [
                            {"type": "DisruptionAllowed", "reason": "SyncFailed", "message": "found no controllers"}
                        ]
                    }
                )
            ],
            [
                (
                    "failed",
                    f"PodDisruptionBudget {NAME} allows no eviction, and node drains do not end: found no controllers",
                )
            ],
        ),
        (
            [budget("a"), budget("b", selector={})],
            [("failed", TWO_BUDGETS)],
        ),
    ],
)
def test_disruption_budget(budgets: list[Json], problems: list[tuple[str, str]]) -> None:
    store = installed()
    store.remove("poddisruptionbudgets", NAME, NAME)
    for one in copy.deepcopy(budgets):
        store.put("poddisruptionbudgets", one)

    assert messages(outcome("disruption-budget", StoreApi(store))) == problems


@pytest.mark.parametrize(
    ("selector", "is_selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": None, "matchExpressions": None}, True),
        ({"matchLabels": {"app": "other"}}, False),
        *(
            (
                {"matchExpressions": [{"key": "app.kubernetes.io/name", "operator": operator, "values": values}]},
                selected,
            )
            for operator, values, selected in (
                ("In", [NAME], True),
                ("In", ["x"], False),
                ("NotIn", [NAME], False),
                ("NotIn", ["x"], True),
                ("Exists", None, True),
                ("DoesNotExist", None, False),
            )
        ),
    ],
)
def test_selector_of_a_budget(selector: Json | None, *, is_selected: bool) -> None:
    store = installed()
    store.put("poddisruptionbudgets", budget(selector=selector))

    assert outcome("disruption-budget", StoreApi(store)).result is (Result.PASSED if is_selected else Result.WARNING)


def test_one_pod_needs_no_budget_and_no_pod_is_skipped() -> None:
    store = installed()
    store.remove("poddisruptionbudgets", NAME, NAME)
    store.remove("pods", NAME, "1")
    assert outcome("disruption-budget", StoreApi(store)).result is Result.PASSED

    store.remove("pods", NAME, "2")
    assert outcome("disruption-budget", StoreApi(store)).result is Result.SKIPPED


# --- spread ---


def put_nodes(store: Store, **zones: str | None) -> None:
    for name, zone in zones.items():
        labels = {} if zone is None else {"topology.kubernetes.io/zone": zone}
        store.put("nodes", {"metadata": {"name": name, "labels": labels}})


def test_endpoints_on_one_node_are_a_warning() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1", nodeName="a"), endpoint("2", nodeName="a")])

    assert messages(outcome("spread", StoreApi(store))) == [
        ("warning", f"all ready endpoints of Service {NAME}/{NAME} are on node a: if it fails, {FAIL}")
    ]


def test_endpoints_in_one_of_two_zones_are_a_warning() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1", zone="x"), endpoint("2", zone="x")])
    put_nodes(store, a="x", b="y", c=None)

    where = f"all ready endpoints of Service {NAME}/{NAME} are in zone x, and there are others (y)"
    assert messages(outcome("spread", StoreApi(store))) == [("warning", f"{where}: if that zone fails, {FAIL}")]
    assert outcome("spread", StoreApi(store, forbidding("nodes"))).result is Result.UNKNOWN


def test_endpoints_in_the_only_zone_pass() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1", zone="x"), endpoint("2", zone="x")])
    put_nodes(store, a="x", b=None)

    assert outcome("spread", StoreApi(store)).result is Result.PASSED


def test_endpoints_in_two_zones_need_no_right_on_nodes() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1", zone="x"), endpoint("2", zone="y")])

    assert outcome("spread", StoreApi(store, forbidding("nodes"))).result is Result.PASSED


def test_endpoints_without_node_are_unknown() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1"), endpoint("2", nodeName=None)])

    assert outcome("spread", StoreApi(store)).result is Result.UNKNOWN


def test_single_endpoint_is_skipped() -> None:
    store = installed()
    put_endpoints(store, [endpoint("1")])

    assert outcome("spread", StoreApi(store)).result is Result.SKIPPED


def test_every_check_of_availability_is_tested() -> None:
    mine = {one.name for one in CHECKS if one.category is Category.AVAILABILITY}
    assert mine == {*CHECKED, "serving-certificate", "ca-certificate"}
