"""R2 on a node: the installed webhook and Dapr's real injector, in both orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.objects import APP, ASKING, container, pod, token_variable, tokens
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import NAME, dapr_sidecar_injector
from tests.controlplane.target import HOST_VARIABLE
from tests.controlplane.webhook import SIDECAR_IMAGE, DaprInjector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

DAPR_FIRST = "dapr-sidecar-injector"
DAPR_LAST = "later-dapr-sidecar-injector"


@pytest.fixture(params=[DAPR_FIRST, DAPR_LAST])
def dapr_name(
    request: pytest.FixtureRequest, kubectl: Kubectl, target: Target, report: binaries.Report
) -> Iterator[str]:
    """Dapr's injector, registered and seen working; the name that decides about the order."""
    if target.webhook_host is None:
        pytest.skip(f"runs Dapr's injector here, and {HOST_VARIABLE} does not say where the API server reaches it")
    name: str = request.param
    started = DaprInjector.start(target.folder / f"injector-{name}", host=target.webhook_host, report=report)
    with started.process:
        kubectl.create(dapr_sidecar_injector(started.endpoint, namespace=kubectl.namespace, name=name))
        try:
            wait_for("Dapr's injector called", lambda: sidecars(admitted(kubectl)))
            yield name
        finally:
            kubectl.delete("mutatingwebhookconfiguration", name)


def admitted(kubectl: Kubectl) -> Json:
    """Return a Pod without a sidecar of its own as the API server would make it."""
    return kubectl.dry_run(pod(ASKING, APP))


def sidecars(item: Json) -> list[Json]:
    spec = item["spec"]
    return [c for c in (*spec["containers"], *spec.get("initContainers", ())) if c["name"] == "daprd"]


@pytest.mark.usefixtures("release")
def test_final_pod_does_not_depend_on_the_order_of_injectors(kubectl: Kubectl, dapr_name: str) -> None:
    assert (dapr_name < NAME) == (dapr_name == DAPR_FIRST)

    item = admitted(kubectl)

    assert container(item, "daprd")["image"] == SIDECAR_IMAGE
    assert tokens(item) == [token_variable()]
