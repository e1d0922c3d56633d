"""Sealed Pods, as the webhook makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.objects import APP, SECRET, SIDECAR
from tests.cluster.tokencommands import workload
from tests.sealing import file_env, sealed_spec

if TYPE_CHECKING:
    from tests.controlplane.api import Json


def spec() -> Json:
    """Return the spec of a sealed Pod with an app and a sidecar, to change."""
    return sealed_spec(SECRET, {**APP, "env": [file_env()]}, {**SIDECAR, "env": [file_env()]})


def sealed_pod(name: str) -> Json:
    """Return a sealed Pod without an owner."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec()}


def sealed_workload(kind: str, name: str, *, replicas: int = 2, **more: object) -> Json:
    """Return a workload whose Pods are sealed, as after an injection."""
    made = workload(kind, name, replicas=replicas, **more)
    made["spec"]["template"]["spec"] |= spec()
    return made
