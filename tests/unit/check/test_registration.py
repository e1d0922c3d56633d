"""The checks of the registration, against the store of the fake API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector.check.model import Result
from injector.kube.errors import ForbiddenError, Refusal
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome

if TYPE_CHECKING:
    from injector.kube.resources import Resource

NAME = "dapr-token-injector"


def registered(*entries: str) -> Store:
    store = Store()
    store.put(
        "mutatingwebhookconfigurations", {"metadata": {"name": NAME}, "webhooks": [{"name": one} for one in entries]}
    )
    return store


def test_registered() -> None:
    found = outcome("registered", StoreApi(registered("inject.dapr-token-injector.svc")))

    assert (found.result, found.problems) == (Result.PASSED, ())
    assert "inject.dapr-token-injector.svc" in found.seen


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        (Store(), "MutatingWebhookConfiguration dapr-token-injector does not exist: Pods are created without a token"),
        (registered(), "has no entry inject.dapr-token-injector.svc"),
        (registered("default.dapr-token-injector.svc"), "has no entry inject.dapr-token-injector.svc"),
    ],
)
def test_not_registered(store: Store, problem: str) -> None:
    found = outcome("registered", StoreApi(store))

    assert found.result is Result.FAILED
    assert problem in found.problems[0].message


def test_no_permission_is_unknown() -> None:
    def forbidden(verb: str, _resource: Resource) -> ForbiddenError:
        return ForbiddenError(f"{verb} it", Refusal(403))

    found = outcome("registered", StoreApi(registered(), forbidden))

    assert found.result is Result.UNKNOWN
    assert "not allowed" in found.problems[0].message


def test_malformed_object_is_unknown() -> None:
    store = Store()
    store.put("mutatingwebhookconfigurations", {"metadata": {"name": NAME}, "webhooks": ["x"]})

    assert outcome("registered", StoreApi(store)).result is Result.UNKNOWN
