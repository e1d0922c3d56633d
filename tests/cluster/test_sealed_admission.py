"""Sealed Pods as a real API server accepts and completes them; servers below 1.35 refuse them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from injector.core.seal import SealingSpec
from injector.core.sealed import sealed_tokens
from tests.builders import encode
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.objects import APP, ASKING, SIDECAR, pod
from tests.controlplane.registration import token_injector
from tests.golden.cases import folders, is_patched, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

SEALED: Final = [one for one in folders() if is_patched(one) and "fileKeyRef" in (one / "want.yaml").read_text()]
REFUSED: Final = "must specify one of"
RESTRICTED: Final[Json] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
NOT_ROOT: Final[Json] = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.fixture
def webhook(kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]) -> Webhook:
    started = start_webhook({"sealImage": "example.invalid/dapr-token-injector:1", "sealImagePullSecrets": ["pull"]})
    register(token_injector(started.endpoint, namespace=kubectl.namespace))
    wait_until_injecting(kubectl)
    return started


def sealed(kubectl: Kubectl, item: Json) -> Json | None:
    """The Pod as the API server would store it; None if it is too old, and refuses the Pod."""
    minor = int(json.loads(kubectl.run("version", "-o", "json").stdout)["serverVersion"]["minor"].rstrip("+"))
    answer = kubectl.try_run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=item)
    if minor < 35:
        assert REFUSED in answer.stderr
        return None
    found: Json = json.loads(answer.stdout)
    return found


def tokens_of(item: Json) -> dict[str, str]:
    """The Secrets of the variables that the Pod's seal provides."""
    spec = msgspec.json.decode(encode(item["spec"]), type=SealingSpec)
    return {variable: ref.name for variable, ref in sealed_tokens(spec).items()}


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("is_native", [False, True])
def test_restricted_namespace_accepts_a_sealed_pod(kubectl: Kubectl, is_native: bool) -> None:  # noqa: FBT001 - drawn
    kubectl.run("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    app, daprd = ({**one, "securityContext": RESTRICTED} for one in (APP, SIDECAR))
    init = ({**daprd, "restartPolicy": "Always"},) if is_native else ()
    more: dict[str, Any] = {"dapr-token-injector/seal": "true", "dapr-token-injector/app-containers": "*"}
    asked = pod({**ASKING, **more}, app, *(() if is_native else (daprd,)), init_containers=init)
    asked["spec"]["securityContext"] = NOT_ROOT

    found = sealed(kubectl, asked)

    if found is not None:
        assert tokens_of(found) == {"DAPR_API_TOKEN": "dapr-api-token"}
        assert found["spec"]["imagePullSecrets"] == [{"name": "pull"}]


@pytest.mark.parametrize("folder", SEALED, ids=lambda folder: folder.name)
def test_every_sealed_golden_pod_is_accepted_and_recognized(kubectl: Kubectl, folder: Path) -> None:
    want = load(folder).want
    assert want is not None
    item = {**want, "metadata": {**want["metadata"], "namespace": kubectl.namespace}}

    found = sealed(kubectl, item)

    if found is not None and tokens_of(want):
        assert tokens_of(found) == tokens_of(want)
