"""Our client's watch, from the HTTP stream of the stand-in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from injector.kube.client import Api
from injector.kube.errors import GoneError
from injector.kube.resources import SECRETS
from tests.fake_cluster.server import ApiServer
from tests.unit.cli.objects import secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as running:
        running.put("secrets", secret("s"))
        running.put("secrets", secret("other"))
        yield running


def watched(server: ApiServer, version: str) -> list[dict[str, Any]]:
    """The events of Secret `s` after a version, until the API server ends the watch."""

    async def work() -> list[dict[str, Any]]:
        async with await Api.from_kubeconfig(str(server.kubeconfig)) as api:
            events = api.watch(
                SECRETS, "shop", resource_version=version, field_selector="metadata.name=s", timeout_seconds=1
            )
            return [event async for event in events]

    return asyncio.run(work())


def test_watch_yields_later_changes_of_the_selected_object(server: ApiServer) -> None:
    since = str(server.version)
    changed = server.put("secrets", secret("s"))
    server.put("secrets", secret("other"))
    server.remove("secrets", "shop", "s")

    events = watched(server, since)

    assert [event["type"] for event in events] == ["MODIFIED", "DELETED"]
    assert events[0]["object"]["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]


def test_watch_of_an_expired_version_is_gone(server: ApiServer) -> None:
    server.compacted = server.version

    with pytest.raises(GoneError):
        watched(server, "1")
