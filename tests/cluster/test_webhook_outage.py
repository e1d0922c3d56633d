"""R3: the webhook is unavailable and its registration has `failurePolicy: Fail`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.conftest import StartWebhook, wait_until_injecting
from tests.cluster.objects import ASKING, DAPR, deployment, failed_creations, pod, pods_of, token_variable, tokens
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import INJECT_ENTRY, token_injector

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

CLEAR_ERROR = f'failed calling webhook "{INJECT_ENTRY}"'


def test_outage_delays_annotated_pods_only(
    kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> None:
    webhook = start_webhook()
    register(token_injector(webhook.endpoint, namespace=kubectl.namespace))
    wait_until_injecting(kubectl)
    webhook.kill()

    kubectl.apply(deployment(ASKING, name="asking"))
    kubectl.apply(deployment(DAPR, name="other"))
    refused = kubectl.try_run("create", "-f", "-", stdin=pod(ASKING))
    admitted = kubectl.create(pod({}))

    assert refused.returncode != 0
    assert CLEAR_ERROR in refused.stderr
    assert "connection refused" in refused.stderr
    assert tokens(admitted) == []
    wait_for("the other Deployment's Pods", lambda: pods_of(kubectl, "other"))
    messages = wait_for("the ReplicaSet's event", lambda: failed_creations(kubectl))
    assert all(CLEAR_ERROR in message for message in messages)
    assert pods_of(kubectl, "asking", count=1) is None

    with webhook.restart().process:
        # The ReplicaSet's controller retries with growing pauses, so this takes as long again as the outage did.
        pods = wait_for("the asking Pods", lambda: pods_of(kubectl, "asking"))

    assert [tokens(item) for item in pods] == [[token_variable()]] * 2
