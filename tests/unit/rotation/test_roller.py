"""A rotation of many workloads: what it asks the API server for, look by look."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from injector.core.ownership import SecretRef
from injector.core.rollout import plan, version_of
from injector.kube.client import Api
from injector.tokens import observing, reading
from injector.tokens.observing import Owners
from injector.tokens.rolling import Pace, Roller, State
from tests.unit.cli.apiserver import ApiServer
from tests.unit.cli.objects import deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

Json = dict[str, Any]
WORKLOADS = 8
S = SecretRef("shop", "s")


class Controllers:
    """Replace a Deployment's Pod once it was looked at so many times after its restart."""

    def __init__(self, server: ApiServer, looks: int) -> None:
        self.server = server
        self.looks = looks
        self.pending: dict[str, int] = {}
        server.patched = self.patched
        server.called = self.called

    def patched(self, changed: Json) -> None:
        changed["status"] = {**changed["status"], "updatedReplicas": 0}
        self.pending[changed["metadata"]["name"]] = self.looks

    def called(self, call: str) -> None:
        if not call.startswith("GET /api/v1/namespaces/shop/pods"):
            return
        for name in list(self.pending):
            self.pending[name] -= 1
            if not self.pending[name]:
                del self.pending[name]
                self.replace(name)

    def replace(self, name: str) -> None:
        found = self.server.objects["deployments", "shop", name]
        found["status"] = {**found["status"], "updatedReplicas": 1}
        new = copy.deepcopy(pod(name))
        new["metadata"] |= {
            "name": f"{name}-2-1",
            "annotations": found["spec"]["template"]["metadata"]["annotations"],
        }
        new["metadata"]["ownerReferences"][0] |= {"name": f"{name}-2", "uid": f"replicasets-{name}-2"}
        del self.server.objects["pods", "shop", f"{name}-1-1"]
        next_set = replica_set(name)
        next_set["metadata"]["name"] = f"{name}-2"
        self.server.put("replicasets", next_set)
        self.server.put("pods", new)


def rolled(folder: Path, *, looks: int) -> Counter[str]:
    """What a rotation of all of them asked for after its plan, when each wave takes so many looks."""
    with ApiServer(folder) as server:
        server.put("namespaces", namespace())
        server.put("secrets", secret("s"))
        for number in range(WORKLOADS):
            name = f"web{number}"
            server.put("pods", pod(name))
            server.put("replicasets", replica_set(name))
            server.put("deployments", deployment(name))
        Controllers(server, looks)

        async def work() -> None:
            async with await Api.from_kubeconfig(str(server.kubeconfig)) as api:
                found = server.objects["secrets", "shop", "s"]
                versions = {S: version_of(reading.token_secret(found), "token")}
                keys = {S: "token"}
                owners = Owners(api)
                seen = await observing.observe(api, keys, owners)
                steps = plan(versions, seen.workloads, seen.holders)
                server.calls.clear()
                roller = Roller(api, keys, versions, Pace(at_once=4, timeout=60, interval=0), lambda _: None, owners)
                await roller.roll(steps, wait=True)
                assert {one.state for one in roller.progress.values()} == {State.READY}

        asyncio.run(work())
        return server.counted()


def test_owners_are_asked_for_once_however_often_it_is_looked(tmp_path: Path) -> None:
    few, many = (rolled(tmp_path, looks=looks) for looks in (1, 5))
    waves = 3  # of 1, 4 and 3
    for looks, counted in ((1, few), (5, many)):
        assert counted["LIST pods"] == waves * looks
        assert counted["GET replicasets"] == WORKLOADS, "the new ones; whose the old ones are is known"
        assert counted["GET deployments"] == WORKLOADS * looks, "each of a wave at each look"
