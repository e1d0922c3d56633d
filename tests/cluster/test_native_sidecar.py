from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, SIDECAR, pod, token_variable, tokens

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Kubectl

pytestmark = pytest.mark.usefixtures("injecting")


def test_native_sidecar_gets_the_token(kubectl: Kubectl) -> None:
    native = {**SIDECAR, "restartPolicy": "Always"}

    created = kubectl.create(pod(ASKING, APP, init_containers=({"name": "migrate", "image": "m"}, native)))

    assert [c["name"] for c in created["spec"]["initContainers"]] == ["migrate", "daprd"]
    assert tokens(created) == [token_variable()]
    assert tokens(created, "migrate") == tokens(created, "web") == []


def test_sidecar_in_both_lists_is_rejected_by_kubernetes(kubectl: Kubectl) -> None:
    native = {**SIDECAR, "restartPolicy": "Always"}

    refused = kubectl.try_run("create", "-f", "-", stdin=pod(ASKING, APP, SIDECAR, init_containers=(native,)))

    assert "Duplicate value" in refused.stderr
    assert "webhook" not in refused.stderr
