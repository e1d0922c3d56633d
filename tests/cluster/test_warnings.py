"""Warnings reach the person at the terminal: for a bare Pod directly, for workloads through `/warn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, deployment, pod, pods_of
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import workload_warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl, Output
    from tests.controlplane.webhook import Webhook

LITERAL = {**SIDECAR, "env": [{"name": "DAPR_API_TOKEN", "value": "in-clear"}]}


def _create(kubectl: Kubectl, item: Json, *flags: str) -> Output:
    return kubectl.run("create", "-f", "-", *flags, stdin=item)


@pytest.mark.usefixtures("injecting")
def test_pod_create_warns_about_a_kept_literal(kubectl: Kubectl) -> None:
    output = _create(kubectl, pod(ASKING, APP, LITERAL))

    assert len(output.warnings) == 1
    assert "DAPR_API_TOKEN" in output.warnings[0]
    assert "in-clear" not in output.stderr


@pytest.mark.usefixtures("injecting")
def test_create_of_a_valid_pod_has_no_warning(kubectl: Kubectl) -> None:
    assert _create(kubectl, pod(ASKING)).stderr == ""


@pytest.fixture
def warning(kubectl: Kubectl, webhook: Webhook, register: Callable[[Json], None]) -> Webhook:
    """The registration for workloads, seen working."""
    register(workload_warnings(webhook.endpoint, namespace=kubectl.namespace))
    invalid = deployment({**ASKING, "dapr.io/api-token-secret": "not a name"}, name="probe")
    wait_for(
        "the webhook called for a dry run",
        lambda: bool(_create(kubectl, invalid, "--dry-run=server").warnings),
    )
    return webhook


@pytest.mark.usefixtures("warning")
def test_deployment_create_warns_about_its_template(kubectl: Kubectl) -> None:
    output = kubectl.apply(deployment({**ASKING, "dapr.io/api-token-secret": "other-team/token"}))

    assert output.stdout == "deployment.apps/shop created\n"
    assert any("dapr.io/api-token-secret" in line for line in output.warnings)


@pytest.mark.usefixtures("warning")
def test_deployment_update_warns_about_its_template(kubectl: Kubectl) -> None:
    first = kubectl.apply(deployment(ASKING))
    second = kubectl.apply(deployment({**ASKING, "dapr.io/api-token-secret": "other-team/token"}))

    assert first.warnings == ()
    assert any("dapr.io/api-token-secret" in line for line in second.warnings)


@pytest.mark.usefixtures("warning")
def test_annotation_outside_the_pod_template_is_warned(kubectl: Kubectl) -> None:
    misplaced = deployment({"dapr.io/enabled": "true"})
    misplaced["metadata"]["annotations"] = {"dapr.io/api-token-secret": "dapr-api-token"}

    output = kubectl.apply(misplaced)

    assert any("dapr.io/api-token-secret" in line for line in output.warnings)


@pytest.mark.usefixtures("warning")
def test_misspelt_annotation_is_warned_with_the_likely_one(kubectl: Kubectl) -> None:
    output = kubectl.apply(deployment({"dapr.io/enabled": "true", "dapr.io/apiTokenSecret": "dapr-api-token"}))

    assert output.warnings == ('unknown annotation: "dapr.io/apiTokenSecret"; did you mean dapr.io/api-token-secret?',)


def test_replica_set_of_a_deployment_is_not_reviewed_again(kubectl: Kubectl, warning: Webhook) -> None:
    before = warning.requests_served()

    kubectl.apply(deployment(ASKING))
    wait_for("two Pods", lambda: pods_of(kubectl, "shop"))

    # Status changes are a subresource and cause no review; the only one is for the create of the Deployment.
    assert warning.requests_served() == before + 1
