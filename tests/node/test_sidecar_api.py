"""The guarantee, on a kubelet: a sidecar with a requested token serves only calls with the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.cluster.objects import ASKING, DAPR, SECRET, token_variable, tokens
from tests.node.calls import REFUSED, SERVED, call_sidecar
from tests.node.objects import app_container, deployment, roll_out, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

MakeDeployment: TypeAlias = "Callable[[Target, dict[str, str]], Json]"
TOKEN = "marker-4f1c97d2a5e8-node"
FOR_APP = {"dapr-token-injector/app-containers": "app"}


@pytest.fixture
def secret(kubectl: Kubectl) -> str:
    kubectl.run("create", "secret", "generic", SECRET, f"--from-literal=token={TOKEN}")
    return SECRET


def regular(target: Target, annotations: dict[str, str]) -> Json:
    return deployment([app_container(target), sidecar(target)], [], annotations)


def native(target: Target, annotations: dict[str, str]) -> Json:
    return deployment([app_container(target)], [sidecar(target, restartPolicy="Always")], annotations)


@pytest.mark.parametrize("make", [regular, native])
@pytest.mark.usefixtures("release", "secret")
def test_sidecar_rejects_calls_without_its_token(kubectl: Kubectl, target: Target, make: MakeDeployment) -> None:
    pod = roll_out(kubectl, make(target, {**ASKING, **FOR_APP}))
    name = pod["metadata"]["name"]

    assert tokens(pod) == [token_variable()]
    assert tokens(pod, "app") == [token_variable()]
    answers = {how: call_sidecar(kubectl, name, how) for how in ("none", "wrong", "file", "own")}
    assert answers == {"none": REFUSED, "wrong": REFUSED, "file": SERVED, "own": SERVED}
    assert TOKEN not in str(pod)


@pytest.mark.usefixtures("release", "secret")
def test_app_without_request_has_no_token(kubectl: Kubectl, target: Target) -> None:
    pod = roll_out(kubectl, regular(target, ASKING))

    assert tokens(pod) == [token_variable()]
    assert tokens(pod, "app") == []
    assert call_sidecar(kubectl, pod["metadata"]["name"], "none") == REFUSED


@pytest.mark.usefixtures("release", "secret")
def test_sidecar_without_annotation_runs_open(kubectl: Kubectl, target: Target) -> None:
    pod = roll_out(kubectl, regular(target, DAPR))

    assert tokens(pod) == []
    assert call_sidecar(kubectl, pod["metadata"]["name"], "none") == SERVED
