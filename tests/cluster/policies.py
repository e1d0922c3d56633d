"""The admission policies as `deploy/` ships them, narrowed to a test's namespace or to a test's user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Json

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
GUARD_LABEL: Final = "dapr-token-injector/guard"
_SHIPPED_USER: Final = "system:serviceaccount:dapr-token-injector:dapr-token-injector"


def guard(*, namespace: str) -> tuple[Json, ...]:
    """Return the guard and its bindings, for one namespace alone."""
    policy = _documents("components/guard/policy.yaml")
    bindings = _documents("components/guard/bindings.yaml")
    for binding in bindings:
        only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}
        binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"].append(only)
    return (*policy, *bindings)


def fence(*, namespace: str) -> tuple[Json, ...]:
    """Return the fence around the ServiceAccount `dapr-token-injector` of a namespace."""
    text = json.dumps(_documents("base/fence.yaml"))
    documents: list[Json] = json.loads(
        text.replace(_SHIPPED_USER, f"system:serviceaccount:{namespace}:dapr-token-injector")
    )
    return tuple(documents)


def _documents(path: str) -> list[Json]:
    return list(YAML(typ="safe").load_all(DEPLOY / path))
