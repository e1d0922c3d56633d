"""Reviews as a kube-apiserver sends them, grown to a wanted size; the same bytes on every machine.

A body is one compact AdmissionReview with a trailing newline. Its Pod was made by a ReplicaSet: generateName, owner,
managedFields that mirror the spec, an app container, and last the sidecar. To grow it, variables, mounts, annotations
and now and then a whole container are added, each with its share of managedFields, as real Pods grow.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

UID: Final = "0f9c1bb4-7a52-4d8e-9d1c-5e0f3a6b2c71"
# Sizes that are timed, in bytes, by the names that tables use.
SIZES: Final[Mapping[str, int]] = {"4 KB": 4 << 10, "12 KB": 12 << 10, "62 KB": 62 << 10, "1 MB": 1 << 20}
# How far a body may be from its nominal size, as a share.
TOLERANCE: Final = 0.05
# Growth steps after which a Pod gets a volume, an annotation, and one more container.
_VOLUME_EVERY: Final = 8
_ANNOTATION_EVERY: Final = 10
_CONTAINER_EVERY: Final = 90
# A step adds about 200 bytes, so this many make more than 1 MB.
_MAX_STEPS: Final = 16_384


@cache
def body(size: int, *, seal: bool = False) -> bytes:
    """The largest review of at most `size` bytes, of a Pod that requests to be sealed or does not.

    Raises:
        ValueError: No body comes within `TOLERANCE` of `size`.
    """
    low, high = 0, _MAX_STEPS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(encode(review(pod(middle, seal=seal)))) <= size else (low, middle - 1)
    made = encode(review(pod(low, seal=seal)))
    if abs(len(made) - size) > TOLERANCE * size:
        raise ValueError(f"the nearest body to {size} bytes has {len(made)}")
    return made


def encode(value: Json) -> bytes:
    """Compact JSON with the newline that the API server's encoder leaves at the end."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def review(pod_object: Json, *, uid: str = UID, operation: str = "CREATE") -> Json:
    """An `admission.k8s.io/v1` review of a Pod made by the ReplicaSet controller."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": "shop",
            "operation": operation,
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "6d8f2a4e-3b19-4c0e-8a54-1f7e9b2c3d60",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": pod_object,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def pod(steps: int, *, seal: bool = False) -> Json:
    """A Pod that requests a token, and perhaps the seal, after `steps` steps of growth; 0 is the smallest."""
    annotations = {
        "dapr.io/app-id": "orders",
        "dapr.io/app-port": "8080",
        "dapr.io/enabled": "true",
        "dapr.io/api-token-secret": "dapr-api-token",
    }
    if seal:
        annotations["dapr-token-injector/seal"] = "true"
    containers = [_app("orders", 8080)]
    volumes: list[Json] = []
    for step in range(steps):
        _grow(step, annotations, containers, volumes)
    containers.append(sidecar())
    spec: Json = {"volumes": volumes, "containers": containers, **_SPEC}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "orders-6b7c9d8f4-",
            "namespace": "shop",
            "creationTimestamp": None,
            "labels": {"app": "orders", "pod-template-hash": "6b7c9d8f4"},
            "annotations": annotations,
            "ownerReferences": [_OWNER],
            "managedFields": [_managed(annotations, containers, volumes)],
        },
        "spec": spec,
        "status": {},
    }


def sidecar() -> Json:
    """The container `daprd` as Dapr's injector writes it, without a token."""
    return {
        "name": "daprd",
        "image": "daprio/daprd:1.18.0",
        "args": ["/daprd", "--mode", "kubernetes", "--app-id", "orders", "--app-port", "8080", "--enable-metrics"],
        "ports": [{"name": "dapr-http", "containerPort": 3500, "protocol": "TCP"}],
        "env": [{"name": name, "value": value} for name, value in _SIDECAR_ENV.items()]
        + [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


_SIDECAR_ENV: Final[Mapping[str, str]] = {
    "NAMESPACE": "shop",
    "DAPR_TRUST_DOMAIN": "public",
    "DAPR_CONTROLPLANE_NAMESPACE": "dapr-system",
    "DAPR_CONTROLPLANE_TRUST_DOMAIN": "cluster.local",
    "APP_ID": "orders",
    "APP_PORT": "8080",
    "APP_PROTOCOL": "http",
    "DAPR_HTTP_PORT": "3500",
    "DAPR_GRPC_PORT": "50001",
    "DAPR_METRICS_PORT": "9090",
    "DAPR_LOG_LEVEL": "info",
    "LOG_AS_JSON": "true",
    "SENTRY_LOCAL_IDENTITY": "shop:default",
    "DAPR_SCHEDULER_HOST": "dapr-scheduler:50006",
    "DAPR_PLACEMENT_HOST": "dapr-placement:50005",
    "DAPR_MAX_BODY": "4Mi",
    "GOMEMLIMIT": "64MiB",
    "TZ": "UTC",
    "HTTP_PROXY": "",
}
_OWNER: Final[Json] = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "name": "orders-6b7c9d8f4",
    "uid": "a4f0c3d2-58b6-4e71-9c2d-7b1e6f3a8d95",
    "controller": True,
    "blockOwnerDeletion": True,
}
_SPEC: Final[Json] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "default",
    "serviceAccount": "default",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}


def _app(name: str, port: int) -> Json:
    return {
        "name": name,
        "image": f"registry.example/shop/{name}:2026.11.3",
        "ports": [{"containerPort": port, "protocol": "TCP"}],
        "env": [],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _grow(step: int, annotations: dict[str, str], containers: list[Json], volumes: list[Json]) -> None:
    """Add one variable to the newest container and, at their turns, a container, a volume and an annotation."""
    if step % _CONTAINER_EVERY == _CONTAINER_EVERY - 1:
        containers.append(_app(f"worker-{step:05d}", 9000 + step))
    newest = containers[-1]
    newest["env"].append({"name": f"SHOP_FEATURE_{step:05d}", "value": f"https://flags.shop.svc/v1/{step:05d}"})
    if step % _VOLUME_EVERY == _VOLUME_EVERY - 1:
        name = f"settings-{step:05d}"
        volumes.append({"name": name, "configMap": {"name": f"shop-{name}", "defaultMode": 420}})
        newest["volumeMounts"].append({"name": name, "readOnly": True, "mountPath": f"/etc/shop/{name}"})
    if step % _ANNOTATION_EVERY == _ANNOTATION_EVERY - 1:
        annotations[f"shop.example/note-{step:05d}"] = f"kept for the auditors, entry {step:05d} of the register"


def _managed(annotations: Mapping[str, str], containers: list[Json], volumes: list[Json]) -> Json:
    """The entry of managedFields that the creator of such a Pod has."""
    spec: Json = {f"f:{name}": {} for name in _SPEC}
    spec["f:containers"] = {f'k:{{"name":"{c["name"]}"}}': _managed_container(c) for c in containers}
    if volumes:
        spec["f:volumes"] = {
            ".": {},
            **{f'k:{{"name":"{v["name"]}"}}': {".": {}, "f:configMap": {}, "f:name": {}} for v in volumes},
        }
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-11-03T09:30:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:annotations": {".": {}, **{f"f:{name}": {} for name in annotations}}},
            "f:spec": spec,
        },
    }


def _managed_container(container: Json) -> Json:
    fields: Json = {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}
    # Dapr's injector is an admission webhook: its additions are booked on the creator, entry by entry, like these.
    if container["name"] != "daprd":
        fields["f:env"] = {
            f'k:{{"name":"{e["name"]}"}}': {".": {}, "f:name": {}, "f:value": {}} for e in container["env"]
        }
    return fields
