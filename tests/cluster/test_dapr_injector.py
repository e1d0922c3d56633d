"""R2: Dapr's real injector adds the sidecar, before us or after us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import wait_until_injecting
from tests.cluster.kubelet import Kubelet
from tests.cluster.objects import APP, ASKING, container, deployment, pod, pods_of, token_variable, tokens
from tests.cluster.tokencommands import Commands, limited
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import NAME, dapr_sidecar_injector, token_injector
from tests.controlplane.webhook import SIDECAR_IMAGE, DaprInjector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

# Configurations are called in the order of their names. The first is the name that Dapr's chart gives.
DAPR_FIRST = "dapr-sidecar-injector"
DAPR_LAST = "later-dapr-sidecar-injector"
WITH_KEY = {"dapr-token-injector/api-token-key": "api.key"}


@pytest.fixture(params=[DAPR_FIRST, DAPR_LAST])
def dapr_name(
    request: pytest.FixtureRequest,
    kubectl: Kubectl,
    webhook: Webhook,
    daprs_injector: DaprInjector,
    register: Callable[[Json], None],
) -> str:
    """Both injectors, registered and seen working; the name that decides about their order."""
    name: str = request.param
    register(token_injector(webhook.endpoint, namespace=kubectl.namespace))
    register(dapr_sidecar_injector(daprs_injector.endpoint, namespace=kubectl.namespace, name=name))
    wait_until_injecting(kubectl)
    wait_for("Dapr's injector called", lambda: _has_sidecar(kubectl))
    return name


def _has_sidecar(kubectl: Kubectl) -> bool:
    item = kubectl.dry_run(pod({**ASKING, "dapr.io/app-id": "probe"}, APP))
    return any(c["name"] == "daprd" for c in item["spec"]["containers"])


@pytest.mark.parametrize(
    ("annotations", "key"), [({}, "token"), (WITH_KEY, "api.key")], ids=["dapr's key", "a key of its own"]
)
def test_final_pod_does_not_depend_on_the_order_of_injectors(
    kubectl: Kubectl, daprs_injector: DaprInjector, dapr_name: str, annotations: dict[str, str], key: str
) -> None:
    assert (dapr_name < NAME) == (dapr_name == DAPR_FIRST)
    app_id = f"shop-{key.replace('.', '-')}-{dapr_name}"
    kubectl.apply(deployment({**ASKING, **annotations, "dapr.io/app-id": app_id}, APP))

    pods = wait_for("two Pods", lambda: pods_of(kubectl, "shop"))

    for item in pods:
        sidecar = container(item, "daprd")
        assert sidecar["image"] == SIDECAR_IMAGE
        assert sidecar["args"][0] == "/daprd"
        assert item["metadata"]["labels"]["dapr.io/sidecar-injected"] == "true"
        assert tokens(item) == [token_variable(key=key)]
    assert daprs_injector.injected(app_id), "Dapr's own log does not tell of this app"


def test_app_container_has_the_token_of_its_sidecar(
    kubectl: Kubectl, daprs_injector: DaprInjector, dapr_name: str
) -> None:
    app_id = f"both-{dapr_name}"
    asked = {**ASKING, **WITH_KEY, "dapr.io/app-id": app_id, "dapr-token-injector/app-containers": "*"}
    item = kubectl.create(pod(asked, APP))

    assert daprs_injector.injected(app_id), "Dapr's own log does not tell of this app"
    assert tokens(item) == tokens(item, "web") == [token_variable(key="api.key")]


@pytest.mark.usefixtures("dapr_name")
def test_rotate_by_user_whom_dapr_injector_ignores(kubectl: Kubectl, tmp_path: Path) -> None:
    commands = Commands(kubectl, kubectl.kubeconfig)
    assert commands.run("secret", "create", commands.secret).code == 0
    kubectl.create(deployment({**ASKING, "dapr.io/app-id": "rotated"}, APP, name="rotated"))
    person = limited(commands, tmp_path, "get,update secrets", "list,create pods", "get replicasets.apps",
                     "get,patch deployments.apps")  # fmt: skip
    with Kubelet(kubectl):
        wait_for("two injected Pods", lambda: (found := pods_of(kubectl, "rotated")) and all(map(tokens, found)))
        done = person.run("secret", "rotate", commands.secret, "--restart", "-o", "json", "--propagation-delay", "0s")

    assert done.code == 0, done
    assert [row["state"] for row in done.json["workloads"]] == ["ready"]
