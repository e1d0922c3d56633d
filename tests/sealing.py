"""Sealed Pods as plain JSON, to change: docs/decisions/0035-sealed-pods.md."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]
API: Final = "DAPR_API_TOKEN"
SEAL: Final = "dapr-token-injector-seal"
CHECK: Final = "dapr-token-injector-seal-check"
IMAGE: Final = "example.invalid/dapr-token-injector:1"


def file_env(variable: str = API, **more: object) -> Json:
    """A variable that takes its value from the file of a sealed Pod; further members go into the reference."""
    reference = {"volumeName": SEAL, "path": "tokens.env", "key": variable, **more}
    return {"name": variable, "valueFrom": {"fileKeyRef": reference}}


def sealed_spec(secret: str, *containers: Json, init: tuple[Json, ...] = (), key: str = "token") -> Json:
    """The spec of a Pod that is sealed for the API token; `init` follow the two init containers."""
    reference = {"secretKeyRef": {"name": secret, "key": key}}
    seal = {
        "name": SEAL,
        "image": IMAGE,
        "command": ["dapr-token-injector", "seal"],
        "args": [API],
        "env": [{"name": API, "valueFrom": reference}],
        "volumeMounts": [{"name": SEAL, "mountPath": "/dapr-token-injector/seal"}],
    }
    check = {
        "name": CHECK,
        "image": IMAGE,
        "command": ["dapr-token-injector", "seal", "--check"],
        "args": [API],
        "env": [file_env()],
    }
    return {
        "volumes": [{"name": SEAL, "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}],
        "initContainers": [seal, check, *init],
        "containers": list(containers),
    }
