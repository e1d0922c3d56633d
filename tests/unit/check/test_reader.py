"""What the reader requests, and what it keeps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from injector.check.reader import ClusterReader
from injector.kube.errors import ForbiddenError
from injector.kube.resources import PODS, SECRETS
from tests.fake_cluster.store import Store
from tests.unit.check.installed import InstalledApi

if TYPE_CHECKING:
    from injector.kube.resources import Object
    from injector.kube.transport import Request

METADATA = "application/json;as=PartialObjectMetadata"


class RecordingApi(InstalledApi):
    """Keeps the requests."""

    def __init__(self, store: Store, *, forbidden: str = "") -> None:
        super().__init__(store, forbidden=forbidden)
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Object:
        """Keep the request."""
        self.requests.append(request)
        return await super().send(request)


def store() -> Store:
    made = Store()
    for plural in ("secrets", "pods"):
        made.put(plural, {"metadata": {"namespace": "n", "name": "s", "managedFields": [{}]}})
    return made


def test_secrets_are_requested_as_metadata() -> None:
    api = RecordingApi(store())

    async def read() -> None:
        reader = ClusterReader(api, None, 0)
        await reader.list(SECRETS, "n")
        await reader.get(SECRETS, "s", "n")
        assert await reader.get(SECRETS, "missing", "n") is None

    asyncio.run(read())

    assert len(api.requests) == 3
    assert all(request.accept.startswith(METADATA) for request in api.requests)


def test_managed_fields_are_kept_of_secrets_only() -> None:
    async def read() -> tuple[list[Object], list[Object]]:
        reader = ClusterReader(InstalledApi(store()), None, 0)
        return await reader.list(SECRETS), await reader.list(PODS)

    (secret,), (pod,) = asyncio.run(read())

    assert "managedFields" in secret["metadata"]
    assert "managedFields" not in pod["metadata"]


def test_equal_reads_are_one_request_and_one_error() -> None:
    api = RecordingApi(store(), forbidden="/pods")

    async def read() -> None:
        reader = ClusterReader(api, None, 0)
        for _ in range(2):
            with pytest.raises(ForbiddenError):
                await reader.list(PODS)
        await asyncio.gather(*(reader.raw("/version") for _ in range(3)))

    asyncio.run(read())

    assert [request.path for request in api.requests] == ["/api/v1/pods", "/version"]
