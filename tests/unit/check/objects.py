"""Objects of a cluster with Dapr, for the checks of Dapr, tokens and neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from injector.kube.errors import ForbiddenError, Refusal

if TYPE_CHECKING:
    from injector.kube.resources import Resource

Json = dict[str, Any]
ASKING: Final = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "token"}


def reference(name: str = "token", key: str = "token", variable: str = "DAPR_API_TOKEN") -> Json:
    """Return a variable that is read from a Secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def pod(
    *env: Json, image: str = "daprio/daprd:1.18.3", deployment: str = "web", number: int = 1, **meta: object
) -> Json:
    """Return a running Pod of a Deployment with a sidecar."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{deployment}-7f", "uid": "1", "controller": True}
    return {
        "metadata": {
            "namespace": "shop",
            "name": f"{deployment}-7f-{number}",
            "labels": {"pod-template-hash": "7f"},
            "ownerReferences": [owner],
            "annotations": ASKING,
            **meta,
        },
        "spec": {"containers": [{"name": "daprd", "image": image, "env": list(env)}]},
        "status": {"phase": "Running"},
    }


def secret(name: str = "token", *keys: str, namespace: str = "shop", **annotations: str) -> Json:
    """Return the metadata of a token Secret of ours with these keys."""
    written = {f"dapr-token-injector/{key.replace('_', '-')}": text for key, text in annotations.items()}
    fields: Json = {
        "f:data": {f"f:{key}": {} for key in keys or ("token",)},
        "f:metadata": {"f:annotations": {f"f:{name}": {} for name in written}},
    }
    entry = {"manager": "dapr-token-injector", "time": "2023-01-01T00:00:00Z", "fieldsV1": fields}
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"dapr-token-injector/token": "api", "app.kubernetes.io/managed-by": "dapr-token-injector"},
            "annotations": written,
            "managedFields": [entry],
        }
    }


def forbidden(verb: str, resource: Resource) -> ForbiddenError:
    """Return the error of a call without permission."""
    return ForbiddenError(f"{verb} {resource.plural}", Refusal(403))
