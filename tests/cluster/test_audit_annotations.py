from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, pod
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import INJECT_ENTRY

if TYPE_CHECKING:
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

pytestmark = pytest.mark.usefixtures("injecting")


def _annotations(own: ControlPlane, namespace: str) -> dict[str, str]:
    """Return the webhook's annotations of the event for the namespace's Pod, not of a dry run."""
    event = wait_for(f"audit event of a Pod in {namespace}", lambda: own.creation_in(namespace))
    return {k: v for k, v in event["annotations"].items() if k.startswith(f"{INJECT_ENTRY}/")}


def test_audit_log_has_the_injected_variables(kubectl: Kubectl, own_control_plane: ControlPlane) -> None:
    kubectl.create(pod({**ASKING, "dapr-token-injector/app-containers": "web"}))

    annotations = _annotations(own_control_plane, kubectl.namespace)

    assert set(annotations) == {f"{INJECT_ENTRY}/injected-sidecar", f"{INJECT_ENTRY}/injected-app"}
    assert "daprd" in annotations[f"{INJECT_ENTRY}/injected-sidecar"]
    assert "web" in annotations[f"{INJECT_ENTRY}/injected-app"]


def test_audit_log_has_kept_variables_without_values(kubectl: Kubectl, own_control_plane: ControlPlane) -> None:
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [{"name": "DAPR_API_TOKEN", "value": "in-clear"}]}))

    annotations = _annotations(own_control_plane, kubectl.namespace)

    assert set(annotations) == {f"{INJECT_ENTRY}/kept"}
    assert "in-clear" not in str(annotations)


def test_audit_log_has_the_denial(kubectl: Kubectl, own_control_plane: ControlPlane) -> None:
    kubectl.try_run("create", "-f", "-", stdin=pod({**ASKING, "dapr.io/api-token-secret": "other-team/token"}))

    annotations = _annotations(own_control_plane, kubectl.namespace)

    assert set(annotations) == {f"{INJECT_ENTRY}/denied"}


def test_audit_log_of_a_pod_without_sidecar_has_no_annotation(
    kubectl: Kubectl, own_control_plane: ControlPlane
) -> None:
    kubectl.create(pod(ASKING, APP))

    assert _annotations(own_control_plane, kubectl.namespace) == {}
