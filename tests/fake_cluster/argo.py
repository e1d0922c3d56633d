"""Simulates the controller of Argo Rollouts, as far as a restart needs it. The real one is not part of the tests.

From its documentation and its source: Pods that were created before `spec.restartAt` are deleted one at a time, their
ReplicaSet replaces them from the same template, and `status.restartedAt` becomes the time when none is left. A change
of the template cancels the restart: `status.restartedAt` is set although old Pods are left.
https://argoproj.github.io/argo-rollouts/features/restart/
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_cluster.store import Store

Json = dict[str, Any]


def put_rollout(store: Store, name: str, pods: list[Json]) -> Json:
    """Put a Rollout with one ReplicaSet and these Pods, in their namespace."""
    namespace = pods[0]["metadata"]["namespace"]
    meta = {"namespace": namespace, "name": name}
    status = {"replicas": len(pods), "availableReplicas": len(pods), "observedGeneration": "1"}
    rollout = store.put(
        "rollouts",
        {"metadata": {**meta, "generation": 1}, "spec": {"replicas": len(pods), "template": {}}, "status": status},
    )
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": name, "uid": f"rollouts-{name}"}
    store.put(
        "replicasets",
        {"metadata": {"namespace": namespace, "name": f"{name}-1", "ownerReferences": [{**owner, "controller": True}]}},
    )
    by = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-1", "uid": f"replicasets-{name}-1"}
    for pod in pods:
        pod["metadata"]["ownerReferences"] = [{**by, "controller": True}]
        store.put("pods", pod)
    return rollout


class ArgoController:
    """Replaces a Pod of each Rollout that is to be restarted at each list of Pods. `make`: returns the new Pod."""

    def __init__(self, store: Store, make: Callable[[str], Json]) -> None:
        self.replaced: list[str] = []
        self.is_cancelling = False  # as if templates changed during restarts
        self._store = store
        self._make = make
        store.called = self._called

    def _called(self, call: str) -> None:
        if not call.startswith("GET /api/v1/namespaces/") or "/pods" not in call:
            return
        for (plural, namespace, name), rollout in list(self._store.objects.items()):
            restart_at = rollout["spec"].get("restartAt") if plural == "rollouts" else None
            if restart_at and rollout["status"].get("restartedAt") != restart_at:
                self._reconcile(rollout, namespace, name, restart_at)

    def _reconcile(self, rollout: Json, namespace: str, name: str, restart_at: str) -> None:
        mine = [
            (key, pod)
            for key, pod in self._store.objects.items()
            if key[:2] == ("pods", namespace) and key[2].startswith(f"{name}-1-")
        ]
        old = [(key, pod) for key, pod in mine if _time(pod["metadata"]["creationTimestamp"]) < _time(restart_at)]
        if not old or self.is_cancelling:
            rollout["status"]["restartedAt"] = restart_at
            return
        (_, _, before), pod = old[0]
        self._store.remove("pods", namespace, before)
        new = copy.deepcopy(self._make(name))
        after = f"{before}x"
        created = max(_time(restart_at), datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        owners = pod["metadata"]["ownerReferences"]
        new["metadata"] |= {
            "namespace": namespace,
            "name": after,
            "creationTimestamp": created,
            "ownerReferences": owners,
        }
        self._store.put("pods", new)
        self.replaced.append(before)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
