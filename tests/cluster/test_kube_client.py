"""Our client of the Kubernetes API against a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from injector.kube.client import Api
from injector.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)
from injector.kube.resources import NAMESPACES, SECRETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

MARKER = "bWFya2VyLWRvLW5vdC1zaG93"


@contextlib.asynccontextmanager
async def api_of(kubectl: Kubectl) -> AsyncIterator[Api]:
    async with await Api.from_kubeconfig(str(kubectl.kubeconfig)) as api:
        yield api


def secret(name: str = "s", **data: str) -> Json:
    return {"metadata": {"name": name}, "data": data}


def test_conflicting_write_is_rejected(kubectl: Kubectl) -> None:
    namespace = kubectl.namespace

    async def work() -> None:
        async with api_of(kubectl) as api:
            created = await api.create(SECRETS, secret(token=MARKER), namespace)
            with pytest.raises(AlreadyExistsError):
                await api.create(SECRETS, secret(), namespace)
            await api.patch(SECRETS, "s", {"metadata": {"labels": {"a": "b"}}}, namespace)
            with pytest.raises(ConflictError):
                await api.replace(SECRETS, created, namespace)
            await api.apply(SECRETS, "s", {"metadata": {"name": "s", "labels": {"c": "d"}}}, namespace)
            found = await api.get(SECRETS, "s", namespace)
            assert found["metadata"]["labels"] == {"a": "b", "c": "d"}
            assert found["data"] == {"token": MARKER}
            kubectl.delete("secret", "s")
            with pytest.raises(NotFoundError, match=f"^cannot get secrets/s in namespace {namespace}: not found"):
                await api.get(SECRETS, "s", namespace)

    asyncio.run(work())


def test_dry_run_stores_nothing(kubectl: Kubectl) -> None:
    async def work() -> None:
        async with api_of(kubectl) as api:
            await api.create(SECRETS, secret(), kubectl.namespace, dry_run=True)
            assert await api.list(SECRETS, kubectl.namespace) == []

    asyncio.run(work())


def test_watch_of_one_name_yields_only_its_events(kubectl: Kubectl) -> None:
    async def work() -> None:
        async with api_of(kubectl) as api:
            only = "metadata.name=s"
            first = await api.create(SECRETS, secret("first"), kubectl.namespace)
            version = first["metadata"]["resourceVersion"]
            await api.create(SECRETS, secret("other"), kubectl.namespace)
            await api.create(SECRETS, secret("s"), kubectl.namespace)
            events = api.watch(SECRETS, kubectl.namespace, resource_version=version, field_selector=only)
            async for event in events:
                if event["type"] != "BOOKMARK":
                    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "s")
                    break
            await events.aclose()

    asyncio.run(work())


def test_watch_without_events_is_ended_by_the_api_server(kubectl: Kubectl) -> None:
    quiet = kubectl.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "quiet"}})

    async def follow() -> list[Json]:
        async with api_of(kubectl) as api:
            version, only = quiet["metadata"]["resourceVersion"], "metadata.name=quiet"
            events = api.watch(
                SECRETS, kubectl.namespace, resource_version=version, field_selector=only, timeout_seconds=1
            )
            return [event async for event in events]

    assert {event["type"] for event in asyncio.run(follow())} <= {"BOOKMARK"}


def test_rejection_of_an_invalid_secret_does_not_show_it(kubectl: Kubectl) -> None:
    async def work() -> None:
        async with api_of(kubectl) as api:
            with pytest.raises(InvalidError) as caught:
                await api.create(SECRETS, secret("s", **{"bad/key": MARKER, "a": MARKER + "!"}), kubectl.namespace)
            assert MARKER not in str(caught.value) + repr(caught.value.refusal)

    asyncio.run(work())


def test_missing_permission_is_named(kubectl: Kubectl) -> None:
    token = kubectl.token("default")

    async def work() -> None:
        async with api_of(kubectl) as admin:
            configuration = admin.configuration
            configuration.api_key["BearerToken"] = f"Bearer {token}"
            configuration.cert_file = configuration.key_file = None
            async with Api(configuration) as api:
                with pytest.raises(ForbiddenError, match=r"list namespaces.*cannot list resource \"namespaces\""):
                    await api.list(NAMESPACES)
            configuration.api_key["BearerToken"] = "Bearer none"
            async with Api(configuration) as api:
                with pytest.raises(UnauthorizedError):
                    await api.list(NAMESPACES)

    asyncio.run(work())
