"""Sealed Pods on a real API server: with the injector of Dapr before or after us, other webhooks, and the guard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from injector.core.sealed import SealableSpec, sealed_tokens
from tests.cluster.annotator import mutator
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.objects import (
    APP,
    ASKING,
    SECRET,
    SIDECAR,
    deployment,
    pod,
    pods_of,
    token_variable,
    tokens,
)
from tests.cluster.policies import refusal
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import dapr_sidecar_injector, token_injector

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import DaprInjector, Webhook

# Configurations are called in the order of their names. The first is the name that Dapr's chart gives.
DAPR_FIRST: Final = "dapr-sidecar-injector"
DAPR_LAST: Final = "later-dapr-sidecar-injector"
SEALED: Final = {**ASKING, "dapr-token-injector/seal": "true", "dapr-token-injector/app-containers": "web"}
SEAL: Final = "dapr-token-injector-seal"
CHECK: Final = "dapr-token-injector-seal-check"
FILE: Final = {"volumeName": SEAL, "path": "tokens.env", "key": "DAPR_API_TOKEN", "optional": False}
IN_FILE: Final = {"name": "DAPR_API_TOKEN", "valueFrom": {"fileKeyRef": FILE}}
POLICY: Final = {"sealImage": "example.invalid/dapr-token-injector:1"}


pytestmark = pytest.mark.usefixtures("env_files")


@pytest.fixture
def sealing(enforcing: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]) -> Webhook:
    """Our webhook with an image for sealed Pods, in a namespace where the guard denies."""
    webhook = start_webhook(POLICY)
    register(token_injector(webhook.endpoint, namespace=enforcing.namespace))
    wait_until_injecting(enforcing)
    return webhook


@pytest.fixture(params=[DAPR_FIRST, DAPR_LAST])
def dapr_name(
    request: pytest.FixtureRequest,
    enforcing: Kubectl,
    sealing: Webhook,  # noqa: ARG001 - registered
    daprs_injector: DaprInjector,
    register: Callable[[Json], None],
) -> str:
    """Dapr's injector, registered and seen working; the name that decides about its order."""
    name: str = request.param
    register(dapr_sidecar_injector(daprs_injector.endpoint, namespace=enforcing.namespace, name=name))
    wait_for("Dapr's injector called", lambda: "daprd" in container_names(enforcing.dry_run(pod(ASKING, APP))))
    return name


def container_names(item: Json) -> list[str]:
    return [found["name"] for found in item["spec"]["containers"]]


def init_names(item: Json) -> list[str]:
    return [found["name"] for found in item["spec"].get("initContainers", ())]


def is_sealed(item: Json) -> bool:
    """Whether the core recognizes the seal, and both containers use it."""
    spec = msgspec.json.decode(json.dumps(item["spec"]), type=SealableSpec)
    return bool(sealed_tokens(spec)) and tokens(item) == tokens(item, "web") == [IN_FILE]


def test_pod_is_sealed_in_either_order_of_injectors(enforcing: Kubectl, dapr_name: str) -> None:
    enforcing.apply(deployment({**SEALED, "dapr.io/app-id": f"sealed-{dapr_name}"}, APP))

    pods = wait_for("two Pods", lambda: pods_of(enforcing, "shop"))

    for item in pods:
        assert is_sealed(item)
        assert init_names(item) == [SEAL, CHECK]
        assert tokens(item, SEAL) == [token_variable()]
        assert tokens(item, CHECK) == [IN_FILE]
        assert [volume["name"] for volume in item["spec"]["volumes"]].count(SEAL) == 1


def test_pod_is_sealed_once_and_in_the_round_that_sees_its_sidecar(
    enforcing: Kubectl, dapr_name: str, sealing: Webhook
) -> None:
    item = pod(SEALED, APP)
    item["spec"]["automountServiceAccountToken"] = False  # the API server would add volumes
    before = sealing.requests_served()

    made = enforcing.dry_run(item)

    # Dapr's injector after us makes the API server call us again: only then is there a sidecar to seal.
    assert sealing.requests_served() - before == (1 if dapr_name == DAPR_FIRST else 2)
    record = json.loads(made["metadata"]["annotations"]["dapr-token-injector/status"])
    assert {(entry["container"], entry["sealed"]) for entry in record["injected"]} == {("web", True), ("daprd", True)}
    made["metadata"] = {key: made["metadata"][key] for key in ("name", "annotations")}
    again = enforcing.dry_run(made)
    assert again["metadata"]["annotations"] == made["metadata"]["annotations"]
    assert again["spec"] == made["spec"]


def test_pod_whose_sidecar_comes_too_late_is_not_sealed_at_all(
    enforcing: Kubectl, start_webhook: StartWebhook, daprs_injector: DaprInjector, register: Callable[[Json], None]
) -> None:
    ours = token_injector(start_webhook(POLICY).endpoint, namespace=enforcing.namespace)
    for entry in ours["webhooks"]:
        entry["reinvocationPolicy"] = "Never"
    register(ours)
    wait_until_injecting(enforcing)
    register(dapr_sidecar_injector(daprs_injector.endpoint, namespace=enforcing.namespace, name=DAPR_LAST))

    def injected() -> Json | None:
        item = enforcing.dry_run(pod(SEALED, APP))
        return item if "daprd" in container_names(item) else None

    item = wait_for("Dapr's injector called", injected)

    assert init_names(item) == []
    assert tokens(item) == tokens(item, "web") == [token_variable()]


@pytest.mark.parametrize("native", [False, True], ids=["ordinary", "native"])
@pytest.mark.parametrize("name", ["aa-mesh", "zz-mesh"])
@pytest.mark.usefixtures("sealing")
def test_init_container_of_another_webhook_keeps_the_seal(
    enforcing: Kubectl,
    register: Callable[[Json], None],
    name: str,
    native: bool,  # noqa: FBT001
) -> None:
    added = {"name": "istio", "image": "i", **({"restartPolicy": "Always"} if native else {})}
    item = pod(SEALED, APP, SIDECAR, init_containers=({"name": "migrate", "image": "m"},))
    first = {"op": "add", "path": "/spec/initContainers/0", "value": added}
    with mutator(name, [first], namespace=enforcing.namespace) as configuration:
        for entry in configuration["webhooks"]:
            entry["reinvocationPolicy"] = "Never"
        register(configuration)

        def prepended() -> Json | None:
            made = enforcing.dry_run(item)
            return made if "istio" in init_names(made) else None

        made = wait_for("the other webhook at work", prepended)

    assert is_sealed(made)
    assert init_names(made) == ["istio", "migrate", SEAL, CHECK]


@pytest.mark.usefixtures("sealing")
def test_native_sidecar_follows_the_check_container(enforcing: Kubectl) -> None:
    sidecar = {**SIDECAR, "restartPolicy": "Always"}

    item = enforcing.dry_run(pod(SEALED, APP, init_containers=({"name": "migrate", "image": "m"}, sidecar)))

    assert is_sealed(item)
    assert init_names(item) == ["migrate", SEAL, CHECK, "daprd"]


@pytest.mark.usefixtures("sealing")
def test_guard_finds_seal_that_a_later_webhook_changes(enforcing: Kubectl, register: Callable[[Json], None]) -> None:
    changed = {"op": "add", "path": "/spec/initContainers/0/args/-", "value": "APP_API_TOKEN"}
    with mutator("zz-other", [changed], namespace=enforcing.namespace) as configuration:
        for entry in configuration["webhooks"]:
            entry["reinvocationPolicy"] = "Never"
        register(configuration)

        wait_for("the guard's refusal", lambda: "different command or arguments" in refusal(enforcing, pod(SEALED)))


@pytest.mark.usefixtures("sealing")
def test_pod_that_does_not_request_the_seal_is_not_sealed(enforcing: Kubectl) -> None:
    item = enforcing.dry_run(pod(ASKING))

    assert init_names(item) == []
    assert tokens(item) == [token_variable(SECRET)]
