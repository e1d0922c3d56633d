"""Which Pods are sealed: each line of the table in docs/decisions/0035-sealed-pods.md."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from injector.core.model import TokenRef
from injector.core.sealed import SealableSpec, first_reader, sealed_tokens

API: Final = "DAPR_API_TOKEN"


def _file(variable: str) -> dict[str, Any]:
    source = {"volumeName": "dapr-token-injector-seal", "path": "tokens.env", "key": variable}
    return {"name": variable, "valueFrom": {"fileKeyRef": source}}


SEALED: Final[dict[str, Any]] = {
    "volumes": [{"name": "dapr-token-injector-seal", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}],
    "initContainers": [
        {
            "name": "dapr-token-injector-seal",
            "command": ["dapr-token-injector", "seal"],
            "args": [API],
            "env": [{"name": API, "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "api"}}}],
            "volumeMounts": [{"name": "dapr-token-injector-seal", "mountPath": "/dapr-token-injector/seal"}],
        },
        {
            "name": "dapr-token-injector-seal-check",
            "command": ["dapr-token-injector", "seal", "--check"],
            "args": [API],
            "env": [_file(API)],
        },
        {"name": "daprd", "restartPolicy": "Always", "env": [_file(API)]},
    ],
    "containers": [{"name": "app", "env": [_file(API)]}],
}


def _spec(spec: object) -> SealableSpec:
    return msgspec.json.decode(msgspec.json.encode(spec), type=SealableSpec)


def test_sealed_pod_is_recognized() -> None:
    assert sealed_tokens(_spec(SEALED)) == {API: TokenRef("tokens", "api")}
    assert first_reader(_spec(SEALED)) == 2


def test_pod_without_seal_is_not_sealed() -> None:
    assert sealed_tokens(_spec({})) == {}
    assert first_reader(_spec({})) == 0
