"""R8: a malformed value is denied with a message that reaches the user who can fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import ASKING, deployment, failed_creations, pod, pods_of
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import INJECT_ENTRY

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl

pytestmark = pytest.mark.usefixtures("injecting")

DENIED = {**ASKING, "dapr.io/api-token-secret": "other-team/token"}
INTRODUCTION = f'admission webhook "{INJECT_ENTRY}" denied the request: '


def test_replica_set_event_shows_the_denial_message(kubectl: Kubectl) -> None:
    refused = kubectl.try_run("create", "-f", "-", stdin=pod(DENIED))
    kubectl.apply(deployment(DENIED))

    messages = wait_for("the ReplicaSet's event", lambda: failed_creations(kubectl))

    sentence = refused.stderr.strip().partition(INTRODUCTION)[2]
    assert all(message == f"Error creating: {INTRODUCTION}{sentence}" for message in messages)
    assert "dapr.io/api-token-secret" in sentence
    assert '"other-team/token"' in sentence
    assert "allowed" in sentence
    assert pods_of(kubectl, "shop", count=1) is None


def test_deployment_condition_shows_the_denial_message(kubectl: Kubectl) -> None:
    kubectl.apply(deployment(DENIED))

    def failure() -> str | None:
        conditions = kubectl.get("deployment", "shop").get("status", {}).get("conditions", ())
        return next((c["message"] for c in conditions if c["type"] == "ReplicaFailure"), None)

    assert INTRODUCTION in wait_for("the Deployment's condition", failure)


def test_pasted_token_is_denied_and_never_shown(kubectl: Kubectl) -> None:
    pasted = "eyJhbGciOiJIUzI1NiJ9.bWFya2Vy.c2lnbmF0dXJl"

    refused = kubectl.try_run("create", "-f", "-", stdin=pod({**ASKING, "dapr.io/api-token-secret": pasted}))

    assert INTRODUCTION in refused.stderr
    assert pasted[:8] not in refused.stderr
