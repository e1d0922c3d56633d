"""Objects of an API server, for commands that read Secrets and the Pods that use them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.fake_cluster.store import Store

Json = dict[str, Any]

SHOP: Final = "shop"
WRITTEN: Final = "2026-01-01T00:00:00Z"
BEFORE: Final = "2019-01-01T00:00:00Z"


def namespace(name: str = SHOP) -> Json:
    """Return an empty namespace."""
    return {"metadata": {"name": name}}


def secret(name: str, token: str = "0123456789abcdef", *, within: str = SHOP, **labels: str) -> Json:
    """Return a token Secret that this project manages."""
    ours = {"app.kubernetes.io/managed-by": "dapr-token-injector", "dapr-token-injector/token": "api"}
    fields = {"f:data": {"f:token": {}}, "f:metadata": {"f:annotations": {"f:dapr-token-injector/token-id": {}}}}
    entry = {"manager": "dapr-token-injector", "time": WRITTEN, "fieldsV1": fields}
    meta = {
        "namespace": within,
        "name": name,
        "labels": ours | labels,
        "annotations": {"dapr-token-injector/token-id": "bcdfghjklm", "dapr-token-injector/token-issued": WRITTEN},
        "managedFields": [entry],
    }
    return {"metadata": meta, "data": {"token": base64.b64encode(token.encode()).decode()}}


def pod(workload: str, number: int = 1, *, owner: bool = True, secret: str = "s", within: str = SHOP) -> Json:
    """Return a Pod of the workload's only ReplicaSet that started long ago."""
    meta: Json = {"namespace": within, "name": f"{workload}-1-{number}", "creationTimestamp": BEFORE}
    if owner:
        meta["ownerReferences"] = [controlled_by("ReplicaSet", f"{workload}-1")]
    reference = {"secretKeyRef": {"name": secret, "key": "token"}}
    container = {"name": "daprd", "env": [{"name": "DAPR_API_TOKEN", "valueFrom": reference}]}
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "daprd", "state": {"running": {"startedAt": BEFORE}}}],
    }
    return {"metadata": meta, "spec": {"nodeName": "node", "containers": [container]}, "status": status}


def admitted(pod: Json, secret: str = "s") -> Json:
    """Return the Pod after admission by a webhook that injects the token into each sidecar."""
    reference = {"secretKeyRef": {"name": secret, "key": "token"}}
    entry = {"name": "DAPR_API_TOKEN", "valueFrom": reference}
    spec = pod["spec"]
    return {
        **pod,
        "spec": {
            **spec,
            "containers": [
                {**one, "env": [*(one.get("env") or ()), entry]} if one["name"] == "daprd" else one
                for one in spec["containers"]
            ],
        },
    }


def replica_set(workload: str, within: str = SHOP) -> Json:
    """Return the only ReplicaSet of a Deployment."""
    owners = [controlled_by("Deployment", workload)]
    return {"metadata": {"namespace": within, "name": f"{workload}-1", "ownerReferences": owners}}


def deployment(name: str, within: str = SHOP) -> Json:
    """Return a Deployment whose only Pod is available."""
    counts = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    return {"metadata": {"namespace": within, "name": name}, "spec": {"replicas": 1, "template": {}}, "status": counts}


def put_outdated_workload(api: Store, pods: int = 2) -> None:
    """Put the webhook, and the Deployment `web` of Pods that run an outdated token of the Secret `s`."""
    install_webhook(api)
    api.put("namespaces", namespace())
    api.put("secrets", secret("s"))
    api.put("deployments", deployment("web"))
    api.put("replicasets", replica_set("web"))
    for number in range(pods):
        api.put("pods", pod("web", number + 1))


def controlled_by(kind: str, name: str) -> Json:
    """Return the owner reference of the controller."""
    uid = f"{kind.lower()}s-{name}"
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": True}


def install_webhook(api: Store, policy: str = "{}") -> None:
    """Put the webhook's Deployment and its Policy."""
    volume = {"name": "policy", "configMap": {"name": "dapr-token-injector-policy-h1"}}
    labels = {"app.kubernetes.io/name": "dapr-token-injector"}
    meta = {"namespace": "injector", "name": "dapr-token-injector", "labels": labels}
    api.put("deployments", {"metadata": meta, "spec": {"template": {"spec": {"volumes": [{"name": "tls"}, volume]}}}})
    named = {"namespace": "injector", "name": "dapr-token-injector-policy-h1"}
    api.put("configmaps", {"metadata": named, "data": {"policy.yaml": policy}})
