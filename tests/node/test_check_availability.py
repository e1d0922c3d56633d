"""The checks of availability and rights on a node: what a kubelet reports, and what the Pods serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.test_check import check
from tests.controlplane.polling import wait_for
from tests.node.release import NAME, NAMESPACE, WAIT

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.node.release import Release

Capture = pytest.CaptureFixture[str]


def test_sound_release_passes(release: Release, capsys: Capture) -> None:
    _, found = check(capsys, release.kubectl.kubeconfig)

    own = {name: one["result"] for name, one in found.items() if one["category"] in {"availability", "rights"}}
    assert own.pop("spread") == "warning"  # there is one node
    assert own.pop("install-rights") == "skipped"
    assert set(own.values()) == {"passed"}, found
    assert found["serving-certificate"]["seen"].startswith("2 certificates of 2 ready Pods, valid for at least ")


def test_image_that_cannot_be_pulled(release: Release, capsys: Capture) -> None:
    """The Pods of the previous ReplicaSet still answer, so only the check shows it."""
    try:
        release.call("upgrade", "--set=image.tag=absent", "--set=image.pullPolicy=Never")

        def failed() -> Json | None:
            _, found = check(capsys, release.kubectl.kubeconfig)
            return found if found["pods-start"]["result"] == "failed" else None

        found = wait_for("the kubelet's reason", failed)
    finally:
        release.call("upgrade", *WAIT)

    (problem,) = found["pods-start"]["problems"]
    assert "container webhook does not start: ErrImageNeverPull: Container image " in problem["message"]
    assert problem["fix"].startswith(f"kubectl describe pod {NAME}-")
    assert problem["fix"].endswith(f" --namespace {NAMESPACE}")
    assert found["endpoints"]["result"] == "passed"
    (progress,) = found["rolled-out"]["problems"]
    assert progress["message"] == f"Deployment {NAME} is being rolled out: 1 of 2 Pods run its current template"
