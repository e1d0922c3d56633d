"""Namespaces that are labelled for it: every Dapr Pod gets the policy's default Secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import ASKING, DAPR, pod, token_variable, tokens
from tests.cluster.policies import refusal
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import DEFAULT_ENTRY, DEFAULT_LABEL, token_injector

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook


@pytest.fixture
def labelled(kubectl: Kubectl) -> Kubectl:
    kubectl.run("label", "namespace", kubectl.namespace, f"{DEFAULT_LABEL}=enabled")
    return kubectl


@pytest.fixture
def defaulting(labelled: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]) -> Webhook:
    webhook = start_webhook({"defaultSecret": "team-token"})
    register(token_injector(webhook.endpoint, namespace=labelled.namespace))
    wait_for(
        "the webhook called for a dry run",
        lambda: bool(tokens(labelled.dry_run(pod(DAPR)))),
    )
    return webhook


@pytest.mark.usefixtures("defaulting")
def test_dapr_pod_without_annotation_gets_the_default_secret(labelled: Kubectl) -> None:
    assert tokens(labelled.create(pod(DAPR))) == [token_variable("team-token")]


@pytest.mark.usefixtures("defaulting")
def test_annotation_overrides_the_default_secret(labelled: Kubectl) -> None:
    assert tokens(labelled.create(pod(ASKING))) == [token_variable()]


def test_pod_without_dapr_does_not_reach_the_webhook(labelled: Kubectl, defaulting: Webhook) -> None:
    before = defaulting.requests_served()

    assert tokens(labelled.create(pod({}))) == []
    assert defaulting.requests_served() == before


def test_default_endpoint_without_default_secret_fails_closed(
    labelled: Kubectl, webhook: Webhook, register: Callable[[Json], None]
) -> None:
    register(token_injector(webhook.endpoint, namespace=labelled.namespace))

    message = wait_for("a refusal", lambda: refusal(labelled, pod(DAPR)))

    assert f'failed calling webhook "{DEFAULT_ENTRY}"' in message
