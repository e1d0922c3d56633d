"""Smallest valid objects, and where to look in what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

SECRET = "dapr-api-token"
DAPR = {"dapr.io/enabled": "true", "dapr.io/app-id": "shop"}
ASKING = {**DAPR, "dapr.io/api-token-secret": SECRET}
APP = {"name": "web", "image": "example.invalid/web:1"}
SIDECAR = {"name": "daprd", "image": "example.invalid/daprd:1"}


def pod(
    annotations: Mapping[str, str],
    *containers: Mapping[str, Any],
    init_containers: tuple[Mapping[str, Any], ...] = (),
) -> Json:
    """Return a Pod; by default with an app and a sidecar."""
    spec: Json = {"containers": [dict(c) for c in containers or (APP, SIDECAR)]}
    if init_containers:
        spec["initContainers"] = [dict(c) for c in init_containers]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shop", "annotations": dict(annotations)},
        "spec": spec,
    }


def deployment(annotations: Mapping[str, str], *containers: Mapping[str, Any], name: str = "shop") -> Json:
    """Return a Deployment of two such Pods."""
    template = pod(annotations, *containers)
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": template["metadata"]["annotations"]},
                "spec": template["spec"],
            },
        },
    }


def token_variable(secret: str = SECRET, key: str = "token") -> Json:
    """Return the variable exactly as it must be in a container."""
    return {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def container(item: Json, name: str) -> Json:
    """Return a Pod's container or init container."""
    spec = item["spec"]
    found: list[Json] = [c for c in (*spec["containers"], *spec.get("initContainers", ())) if c["name"] == name]
    assert len(found) == 1, f"{len(found)} containers named {name}"
    return found[0]


def tokens(item: Json, name: str = "daprd") -> list[Json]:
    """Return the entries of the token's variable in one container."""
    return [entry for entry in container(item, name).get("env", ()) if entry["name"] == "DAPR_API_TOKEN"]


def pods_of(kubectl: Kubectl, app: str, *, count: int = 2) -> tuple[Json, ...] | None:
    """Return a Deployment's Pods once there are as many as wanted."""
    found = kubectl.list("pods", labelSelector=f"app={app}")
    return found if len(found) >= count else None


def failed_creations(kubectl: Kubectl) -> tuple[str, ...]:
    """Return the messages of ReplicaSets about Pods that they could not create."""
    events = kubectl.list("events", fieldSelector="reason=FailedCreate,involvedObject.kind=ReplicaSet")
    return tuple(event["message"] for event in events)
