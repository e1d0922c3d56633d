"""The checks of the cluster: version, APIs, clock, and other installations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector.check.catalogue import BY_WORD
from injector.check.model import Result
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.installed import MUTATING, NAME, InstalledApi, installed

if TYPE_CHECKING:
    from injector.check.model import Outcome

NAMES = ("kubernetes-version", "admission-apis", "clock-skew", "one-installation")
DISCOVERY = "/apis/admissionregistration.k8s.io/v1"


def words(found: Outcome) -> str:
    return "\n".join(problem.message for problem in found.problems)


@pytest.mark.parametrize("store", [Store(), installed()], ids=["nothing", "installed"])
@pytest.mark.parametrize("name", NAMES)
def test_sound_cluster_passes(name: str, store: Store) -> None:
    found = outcome(name, InstalledApi(store))

    assert (found.result, words(found)) == (Result.PASSED, "")


@pytest.mark.parametrize("name", NAMES)
def test_all_run_before_the_installation(name: str) -> None:
    assert BY_WORD[name].is_pre


@pytest.mark.parametrize(
    ("version", "result"),
    [
        ("v1.29.15", Result.FAILED),
        ("v1.3.0", Result.FAILED),
        ("v1.30.0", Result.PASSED),
        ("v1.37.2+k3s1", Result.PASSED),
        ("v2.0.0", Result.PASSED),
        ("1.31", Result.PASSED),
        ("", Result.UNKNOWN),
        ("dev", Result.UNKNOWN),
        ("v1.99999", Result.UNKNOWN),
        (None, Result.UNKNOWN),
    ],
)
def test_version_of_the_api_server(version: str | None, result: Result) -> None:
    api = InstalledApi(Store())
    api.answers["/version"] = {"gitVersion": version}

    assert outcome("kubernetes-version", api).result is result


@pytest.mark.parametrize("name", ["kubernetes-version", "admission-apis", "clock-skew"])
def test_missing_permission_is_unknown(name: str) -> None:
    assert outcome(name, InstalledApi(Store(), forbidden="/")).result is Result.UNKNOWN


@pytest.mark.parametrize("resources", [None, [], [{"name": MUTATING}]])
def test_api_that_is_not_served_fails(resources: object) -> None:
    api = InstalledApi(Store())
    api.answers[DISCOVERY] = {"resources": resources}

    found = outcome("admission-apis", api)

    assert found.result is Result.FAILED
    assert "validatingadmissionpolicies" in words(found)


def test_group_that_is_not_served_fails() -> None:
    api = InstalledApi(Store())
    del api.answers[DISCOVERY]

    assert outcome("admission-apis", api).result is Result.FAILED


@pytest.mark.parametrize(
    ("skew", "message"),
    [
        (59.0, ""),
        (-59.0, ""),
        (3600.0, "the API server's clock is 60 minutes ahead of the clock here"),
        (-90.0, "the API server's clock is 90 seconds behind the clock here"),
    ],
)
def test_clock(skew: float, message: str) -> None:
    api = InstalledApi(Store())
    api.skew_seconds = skew

    found = outcome("clock-skew", api)

    assert words(found).startswith(message)
    assert found.result is (Result.WARNING if message else Result.PASSED)


def own(store: Store, plural: str, name: str, namespace: str) -> None:
    """Mark an object as part of a Helm release."""
    annotations = {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": namespace}
    store.objects[plural, "", name]["metadata"]["annotations"] = annotations


def test_objects_of_several_owners_fail() -> None:
    store = installed()
    own(store, MUTATING, NAME, NAME)

    found = outcome("one-installation", InstalledApi(store))

    assert found.result is Result.FAILED
    assert "have several owners" in words(found)


def test_installation_in_another_namespace_fails() -> None:
    store = Store()
    store.put(MUTATING, {"metadata": {"name": NAME}, "webhooks": None})
    own(store, MUTATING, NAME, "first")

    found = outcome("one-installation", InstalledApi(store), namespace="second")

    assert found.result is Result.FAILED
    assert "exists as Helm release r in namespace first, not in namespace second" in words(found)
    assert outcome("one-installation", InstalledApi(store), namespace="first").result is Result.PASSED


def test_leftovers_are_warning() -> None:
    store = installed()
    store.remove(MUTATING, "", NAME)

    found = outcome("one-installation", InstalledApi(store))

    assert found.result is Result.WARNING
    assert "left by an earlier installation, or the registration was deleted" in words(found)


def test_second_registration_fails() -> None:
    store = installed()
    entry = {"name": "inject.dapr-token-injector.svc"}
    store.put(MUTATING, {"metadata": {"name": "copy"}, "webhooks": [entry]})
    store.put(MUTATING, {"metadata": {"name": "foreign"}, "webhooks": None})

    found = outcome("one-installation", InstalledApi(store))

    assert found.result is Result.FAILED
    assert words(found).startswith("MutatingWebhookConfiguration copy has an entry of dapr-token-injector")


def test_each_missing_permission_is_named() -> None:
    found = outcome("one-installation", InstalledApi(installed(), forbidden="rbac."))

    assert found.result is Result.UNKNOWN
    assert ["clusterroles/" in one.message or "clusterrolebindings/" in one.message for one in found.problems] == [
        True
    ] * 2
