"""Smallest reviews that the HTTP tests need."""

from __future__ import annotations

import json
from typing import Any

UID = "0df28fbd-5f5f-11e8-bc74-36e6bb280816"


def pod(**metadata: object) -> dict[str, Any]:
    """A Pod that requests a token and has a sidecar without one."""
    annotations = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "dapr-api-token"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-7d9f-", "annotations": annotations, **metadata},
        "spec": {"containers": [{"name": "app", "image": "app"}, {"name": "daprd", "image": "daprd"}]},
    }


def review(
    obj: object | None = None,
    *,
    version: str = "v1",
    uid: str = UID,
    kind: tuple[str, str, str] = ("", "v1", "Pod"),
    **request: object,
) -> bytes:
    """A review of `obj` (by default, a Pod that is going to be patched)."""
    group, kind_version, name = kind
    question = {
        "uid": uid,
        "kind": {"group": group, "version": kind_version, "kind": name},
        "operation": "CREATE",
        "namespace": "shop",
        "object": pod() if obj is None else obj,
        **request,
    }
    reported = {"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": question}
    return json.dumps(reported).encode()


def expensive_review(containers: int, *, uid: str = UID) -> bytes:
    """A small review with a long answer: so many containers request the variable, 30 bytes each."""
    obj = pod()
    obj["metadata"]["annotations"]["dapr-token-injector/app-containers"] = "*"
    obj["spec"]["containers"] += [{"name": f"c{i}"} for i in range(containers)]
    return json.dumps(json.loads(review(obj, uid=uid)), separators=(",", ":")).encode()
