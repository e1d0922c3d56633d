"""Simulates controllers and kubelet for a Deployment whose template has changed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.unit.cli.objects import pod, replica_set

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_cluster.server import ApiServer

Json = dict[str, Any]


class Controllers:
    """Replaces the Pod of a Deployment after Pods were listed `looks` times since its template changed.

    `make`: returns the new Pod of a Deployment; by default it reads the token.
    """

    def __init__(self, server: ApiServer, looks: int = 1, make: Callable[[str], Json] = pod) -> None:
        self.restarted: list[str] = []
        self._server = server
        self._looks = looks
        self._make = make
        self._pending: dict[str, int] = {}
        server.patched = self._patched
        server.called = self._called

    def restart(self, name: str) -> None:
        """Start a rollout as after a change of the template."""
        found = self._server.objects["deployments", "shop", name]
        found["status"] = {**found["status"], "updatedReplicas": 0}
        self._pending[name] = self._looks

    def _patched(self, changed: Json) -> None:
        self.restart(changed["metadata"]["name"])
        self.restarted.append(changed["metadata"]["name"])

    def _called(self, call: str) -> None:
        if not call.startswith("GET /api/v1/namespaces/shop/pods?") and call != "GET /api/v1/namespaces/shop/pods":
            return
        for name in list(self._pending):
            self._pending[name] -= 1
            if not self._pending[name]:
                del self._pending[name]
                self._replace(name)

    def _replace(self, name: str) -> None:
        found = self._server.objects["deployments", "shop", name]
        found["status"] = {**found["status"], "updatedReplicas": 1}
        template = (found["spec"]["template"].get("metadata") or {}).get("annotations") or {}
        new = copy.deepcopy(self._make(name))
        meta = new["metadata"]
        meta |= {"name": f"{name}-2-1", "annotations": {**(meta.get("annotations") or {}), **template}}
        meta["ownerReferences"][0] |= {"name": f"{name}-2", "uid": f"replicasets-{name}-2"}
        del self._server.objects["pods", "shop", f"{name}-1-1"]
        next_set = replica_set(name)
        next_set["metadata"]["name"] = f"{name}-2"
        self._server.put("replicasets", next_set)
        self._server.put("pods", new)
