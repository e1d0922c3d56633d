"""A large cluster: objects of a real API server, without a kubelet.

Each workload has a Deployment, a ReplicaSet and Pods of about 8 KB, as Dapr's injector and our webhook leave them and a
kubelet reports them, with managed fields. One Pod in a hundred has a sidecar without its token.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.kube.client import Api
from injector.kube.resources import DEPLOYMENTS, NAMESPACES, PODS, REPLICASETS, SECRETS
from injector.kube.transport import Request

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from pathlib import Path

    from injector.kube.resources import Resource

Json = dict[str, Any]
SECRET: Final = "dapr-api-token"
_CONNECTIONS: Final = 24
_PODS_EACH: Final = 5
_OPEN_EACH: Final = 100
_TIME: Final = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of objects. Workloads and Secrets are spread over the namespaces."""

    pods: int
    namespaces: int = 40
    secrets_each: int = 10

    @property
    def workloads(self) -> int:
        """Deployments, each with a ReplicaSet."""
        return self.pods // _PODS_EACH


def namespace(number: int) -> str:
    """The name of a namespace."""
    return f"team-{number:02}"


async def create_namespaces(kubeconfig: Path, size: Size) -> None:
    """Create the namespaces and their Secrets: one of ours, the others as External Secrets writes them."""
    async with await Api.from_kubeconfig(str(kubeconfig)) as api:
        names = [namespace(number) for number in range(size.namespaces)]
        await _together(_create(api, NAMESPACES, {"metadata": {"name": name}}) for name in names)
        await _together(
            _create(api, SECRETS, _secret(name, number)) for name in names for number in range(size.secrets_each)
        )


async def create_workloads(kubeconfig: Path, size: Size, begin: int, end: int) -> None:
    """Create the workloads from number `begin` to before `end`, with their Pods."""
    async with await Api.from_kubeconfig(str(kubeconfig)) as api:
        await _together(_workload(api, size, number) for number in range(begin, end))


async def _together(calls: Iterable[Coroutine[Any, Any, object]]) -> None:
    free = asyncio.Semaphore(_CONNECTIONS)

    async def limited(call: Coroutine[Any, Any, object]) -> None:
        async with free:
            await call

    await asyncio.gather(*map(limited, calls))


async def _workload(api: Api, size: Size, number: int) -> None:
    within, name = namespace(number % size.namespaces), f"orders-{number:04}"
    secret = _secret_name(number // size.namespaces % size.secrets_each)
    template = _template(name, secret, is_open=False)
    meta = {"namespace": within, "name": name, "labels": template["metadata"]["labels"]}
    spec = {"replicas": _PODS_EACH, "selector": {"matchLabels": {"app": name}}, "template": template}
    uid = await _create(api, DEPLOYMENTS, {"metadata": meta, "spec": spec})
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid, "controller": True}
    meta = {**meta, "name": f"{name}-6d4cf56db6", "ownerReferences": [owner]}
    uid = await _create(api, REPLICASETS, {"metadata": meta, "spec": spec})
    for position in range(_PODS_EACH):
        index = number * _PODS_EACH + position
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta["name"], "uid": uid}
        await _pod(api, within, owner, _template(name, secret, is_open=index % _OPEN_EACH == 0), index)


async def _pod(api: Api, within: str, owner: Json, template: Json, index: int) -> None:
    meta = {
        **template["metadata"],
        "namespace": within,
        "name": f"{owner['name']}-{index:05}",
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
    }
    pod = {"metadata": meta, "spec": {**template["spec"], "nodeName": f"node-{index % 100:03}"}}
    await _create(api, PODS, pod)
    path = PODS.path(within, meta["name"], "status")
    body = {"status": _status([one["name"] for one in template["spec"]["containers"]], index)}
    query = (("fieldManager", "kubelet"),)
    await api.send(
        Request("PATCH", path, "patch a status", query, body=body, content_type="application/merge-patch+json")
    )


async def _create(api: Api, resource: Resource, item: Json) -> str:
    """Create an object and return its uid."""
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **item}
    request = Request("POST", resource.path(item["metadata"].get("namespace")), "create an object", body=body)
    return str((await api.send(request))["metadata"]["uid"])


def _secret_name(number: int) -> str:
    return f"{SECRET}-{number}" if number else SECRET


def _secret(within: str, number: int) -> Json:
    labels = {"reconcile.external-secrets.io/managed": "true"}
    ours = {"app.kubernetes.io/managed-by": "dapr-token-injector", "dapr-token-injector/token": "api"}
    meta = {"namespace": within, "name": _secret_name(number), "labels": labels if number else ours}
    return {"metadata": meta, "data": {"token": base64.b64encode(b"0123456789abcdef" * 2).decode()}}


def _template(name: str, secret: str, *, is_open: bool) -> Json:
    token = {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}}
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 3}
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
    variables = [{"name": f"SETTING_{number:02}", "value": f"https://service-{number}.example"} for number in range(12)]
    app = {
        "name": "orders",
        "image": f"registry.example.com/shop/{name}:1.42.0",
        "env": [*variables, *([] if is_open else [token])],
        "ports": [{"name": "http", "containerPort": 8080}],
        "livenessProbe": probe,
        "readinessProbe": probe,
        "resources": resources,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/orders"}],
    }
    sidecar = {
        "name": "daprd",
        "image": "registry.example.com/dapr/daprd:1.18.4",
        "command": ["/daprd"],
        "args": [*_ARGUMENTS, "--app-id", name],
        "env": [*_DAPR_VARIABLES, *([] if is_open else [token])],
        "ports": [
            {"name": part, "containerPort": number}
            for part, number in (("dapr-http", 3500), ("dapr-grpc", 50001), ("dapr-internal", 50002))
        ],
        "livenessProbe": {"httpGet": {"path": "/v1.0/healthz", "port": 3501}},
        "readinessProbe": {"httpGet": {"path": "/v1.0/healthz/outbound", "port": 3501}},
        "resources": resources,
        "securityContext": {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
        "volumeMounts": [{"name": "dapr-identity-token", "mountPath": "/var/run/secrets/dapr.io/sentrytoken"}],
    }
    projected = {"sources": [{"serviceAccountToken": {"audience": "sentry", "path": "token"}}]}
    labels = {"app": name, "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop", "team": "orders"}
    return {
        "metadata": {
            "labels": {**labels, "dapr.io/sidecar-injected": "true"},
            "annotations": {
                "dapr.io/enabled": "true",
                "dapr.io/app-id": name,
                "dapr.io/app-port": "8080",
                "dapr.io/config": "tracing",
                "dapr.io/api-token-secret": secret,
                "dapr-token-injector/app-containers": "orders",
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "9090",
            },
        },
        "spec": {
            "containers": [app, sidecar],
            "volumes": [
                {"name": "config", "configMap": {"name": f"{name}-config", "optional": True}},
                {"name": "dapr-identity-token", "projected": projected},
            ],
        },
    }


_DAPR_VARIABLES: Final = (
    {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"name": "DAPR_TRUST_ANCHORS", "value": "-----BEGIN CERTIFICATE-----\n" + "MIIB" * 180},
    {"name": "DAPR_CONTROLPLANE_NAMESPACE", "value": "dapr-system"},
    {"name": "DAPR_CONTROLPLANE_TRUST_DOMAIN", "value": "cluster.local"},
)
_ARGUMENTS: Final = (
    *("--dapr-http-port", "3500", "--dapr-grpc-port", "50001", "--dapr-internal-grpc-port", "50002"),
    *("--dapr-listen-addresses", "[::1],127.0.0.1", "--dapr-public-port", "3501", "--app-port", "8080"),
    *("--control-plane-address", "dapr-api.dapr-system.svc.cluster.local:443", "--app-protocol", "http"),
    *("--placement-host-address", "dapr-placement-server.dapr-system.svc.cluster.local:50005"),
    *("--sentry-address", "dapr-sentry.dapr-system.svc.cluster.local:443", "--log-level", "info"),
    *("--app-max-concurrency", "-1", "--enable-metrics", "--metrics-port", "9090", "--config", "tracing"),
    *("--mode", "kubernetes", "--enable-mtls", "--max-body-size", "4Mi", "--dapr-block-shutdown-duration", "5s"),
)


def _status(containers: list[str], index: int) -> Json:
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    address = f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}"
    return {
        "phase": "Running",
        "qosClass": "Burstable",
        "hostIP": "192.168.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _TIME,
        "conditions": [{"type": one, "status": "True", "lastTransitionTime": _TIME} for one in conditions],
        "containerStatuses": [
            {
                "name": name,
                "image": f"registry.example.com/{name}:1",
                "imageID": f"registry.example.com/{name}@sha256:{index:064x}",
                "containerID": f"containerd://{index:064x}",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": _TIME}},
            }
            for name in containers
        ],
    }
