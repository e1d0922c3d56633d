"""Simulates controllers and kubelet for Deployments whose template has changed."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, Final

from tests.unit.cli.objects import SHOP, pod, replica_set

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_cluster.server import ApiServer

Json = dict[str, Any]
_LIST: Final = re.compile(r"GET /api/v1/namespaces/([^/]+)/pods(\?|$)")


def _numbered(name: str, within: str, key: tuple[str, str, str]) -> re.Match[str] | None:
    """The number of the ReplicaSet of a Deployment's Pod, given the key of an object."""
    return re.fullmatch(rf"{name}-(\d+)-1", key[2]) if key[:2] == ("pods", within) else None


class Controllers:
    """Replaces the newest Pod of a Deployment after Pods were listed `looks` times since its template changed.

    `make`: returns the new Pod of a Deployment; by default it reads the token.
    """

    def __init__(self, server: ApiServer, looks: int = 1, make: Callable[[str], Json] = pod) -> None:
        self.restarted: list[str] = []
        self._server = server
        self._looks = looks
        self._make = make
        self._pending: dict[tuple[str, str], int] = {}
        self._templates: dict[tuple[str, str], Json] = {
            (within, name): copy.deepcopy(found["spec"]["template"])
            for (plural, within, name), found in server.objects.items()
            if plural == "deployments"
        }
        server.patched = self._patched
        server.called = self._called

    def restart(self, name: str, within: str = SHOP) -> None:
        """Start a rollout as after a change of the template."""
        found = self._server.objects["deployments", within, name]
        found["status"] = {**found["status"], "updatedReplicas": 0}
        self._pending[within, name] = self._looks

    def _patched(self, changed: Json) -> None:
        name, within = changed["metadata"]["name"], changed["metadata"]["namespace"]
        template = copy.deepcopy(changed["spec"]["template"])
        if self._templates.get((within, name)) == template:
            return
        self._templates[within, name] = template
        self.restart(name, within)
        self.restarted.append(name)

    def _called(self, call: str) -> None:
        listed = _LIST.match(call)
        for within, name in list(self._pending):
            if listed is None or listed[1] != within:
                continue
            self._pending[within, name] -= 1
            if not self._pending[within, name]:
                del self._pending[within, name]
                self._replace(name, within)

    def _replace(self, name: str, within: str) -> None:
        found = self._server.objects["deployments", within, name]
        found["status"] = {**found["status"], "updatedReplicas": 1}
        template = (found["spec"]["template"].get("metadata") or {}).get("annotations") or {}
        new = copy.deepcopy(self._make(name))
        meta = new["metadata"]
        pods = {int(at[1]): key for key in self._server.objects if (at := _numbered(name, within, key))}
        current = max(pods)
        del self._server.objects[pods[current]]
        following = f"{name}-{current + 1}"
        meta |= {"name": f"{following}-1", "namespace": within}
        meta["annotations"] = {**(meta.get("annotations") or {}), **template}
        meta["ownerReferences"][0] |= {"name": following, "uid": f"replicasets-{following}"}
        next_set = replica_set(name, within)
        next_set["metadata"]["name"] = following
        self._server.put("replicasets", next_set)
        self._server.put("pods", new)
