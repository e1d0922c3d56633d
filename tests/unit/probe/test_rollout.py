from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from injector.kube.client import Api
from injector.kube.resources import ROLLOUTS
from injector.probe.pods import pods_of
from tests.fake_cluster.argo import put_rollout
from tests.fake_cluster.server import ApiServer
from tests.unit.cli.objects import pod

if TYPE_CHECKING:
    from pathlib import Path


def test_pods_of_an_argo_rollout_are_those_of_its_replica_sets(tmp_path: Path) -> None:
    async def names(server: ApiServer) -> list[str]:
        async with await Api.from_kubeconfig(str(server.kubeconfig)) as api:
            return [one["metadata"]["name"] for one in await pods_of(api, ROLLOUTS, "web", "shop")]

    with ApiServer(folder=tmp_path) as server:
        put_rollout(server, "web", [pod("web", 1), pod("web", 2)])
        put_rollout(server, "other", [pod("other")])
        assert asyncio.run(names(server)) == ["web-1-1", "web-1-2"]
