"""`lint` reports an empty token where `status` calls a Pod with the same entry open, and nowhere else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from injector.core.assess import assess
from injector.core.assessment import Known, ProtectionReason
from injector.core.token_state import Ref
from injector.rotation.observation import observation
from tests.unit.lint.builders import ids, lint

if TYPE_CHECKING:
    from tests.builders import Json

_SECRET: Final = {"secretKeyRef": {"name": "s", "key": "token"}}
BEFORE: Final[dict[str, list[Json]]] = {
    "unset": [],
    "empty": [{"name": "X", "value": ""}],
    "text": [{"name": "X", "value": "not-a-secret-any-more"}],
    "secret": [{"name": "X", "valueFrom": _SECRET}],
    "note": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a']"}}}],
    "chain": [{"name": "W", "value": ""}, {"name": "X", "value": "$(W)"}],
    "unset-chain": [{"name": "X", "value": "$(W)"}],
}
EMPTY: Final = frozenset({ProtectionReason.EMPTY_VALUE, ProtectionReason.MAY_EXPAND_TO_EMPTY})


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("value", ["$(X)", "$(X)$(X)", "a$(X)", "$$(X)", ""])
def test_lint_and_assessment_agree_on_empty_tokens(before: str, value: str) -> None:
    env = [*BEFORE[before], {"name": "DAPR_API_TOKEN", "value": value}]
    annotations = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "s"}
    meta = {"name": "web", "namespace": "shop", "annotations": annotations}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "daprd", "env": env}]}}

    reason = assess(observation(pod, Ref("Pod", "shop", "web")), Known(now=0)).reason

    assert ("DTI009" in ids(lint(json.dumps(pod)))) is (reason in EMPTY)
