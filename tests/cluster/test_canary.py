"""`helm test`, as its Pod does it: the chart's script, with the token of the account that the chart makes for it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.cluster.objects import ASKING, pod
from tests.controlplane import registration
from tests.controlplane.cluster import wait_for_service_account
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.polling import wait_for
from tests.documents import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

CANARY: Final = "dapr-token-injector-canary"


@dataclass(frozen=True, slots=True)
class Result:
    """How the script ended."""

    code: int
    text: str


class Canary:
    """The hook's objects in a release's namespace, asking in another one."""

    def __init__(self, own: ControlPlane, helm: Helm, folder: Path, kubectl: Kubectl, release: Kubectl) -> None:
        self.own, self.helm, self.folder, self.kubectl, self.release = own, helm, folder, kubectl, release

    def __call__(self, *values: str, **env: str) -> Result:
        rendered = self.helm.run(
            "template", "release", str(CHART), "--namespace", self.release.namespace,
            "--show-only", "templates/tests/canary.yaml",
            *(part for value in (f"test.namespace={self.kubectl.namespace}", *values) for part in ("--set", value)),
        )  # fmt: skip
        objects = {item["kind"]: item for item in documents(rendered)}
        for kind in ("ServiceAccount", "Role", "RoleBinding"):
            # Applied for the namespace that each names itself.
            self.kubectl.within(objects[kind]["metadata"]["namespace"]).apply(objects[kind])
        variables = {entry["name"]: entry["value"] for entry in objects["Pod"]["spec"]["containers"][0]["env"]}
        script = self.folder / "canary.py"
        script.write_text(objects["ConfigMap"]["data"]["canary.py"])
        done = subprocess.run(
            [sys.executable, "-I", str(script)],
            env={**self._pod_environment(), **variables, **env},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.stderr == ""
        return Result(done.returncode, done.stdout)

    def _pod_environment(self) -> dict[str, str]:
        cluster = json.loads(self.own.kubeconfig.read_text())["clusters"][0]["cluster"]
        (self.folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        token = self.release.run("create", "token", CANARY).stdout
        (self.folder / "token").write_text(token)
        server = urlsplit(cluster["server"])
        return {
            "CANARY_ACCOUNT": str(self.folder),
            "KUBERNETES_SERVICE_HOST": str(server.hostname),
            "KUBERNETES_SERVICE_PORT": str(server.port),
        }


@pytest.fixture
def canary(
    own_control_plane: ControlPlane, kubectl: Kubectl, report: binaries.Report, tmp_path: Path
) -> Iterator[Canary]:
    release = f"{kubectl.namespace}-release"
    kubectl.run("create", "namespace", release)
    try:
        wait_for_service_account(kubectl.within(release))
        helm = Helm.find(own_control_plane.folder, report=report)
        yield Canary(own_control_plane, helm, tmp_path, kubectl, kubectl.within(release))
    finally:
        kubectl.delete("namespace", release)


def test_working_installation_is_reported(canary: Canary, injecting: Webhook) -> None:
    before = injecting.requests_served()

    result = canary()

    assert result.code == 0
    assert result.text == (
        f"OK: the webhook serves namespace {canary.kubectl.namespace}. It was a dry run; no Pod was made.\n"
    )
    assert injecting.requests_served() == before + 1
    assert canary.kubectl.list("pods") == ()


def test_webhook_that_is_not_called_is_reported(canary: Canary) -> None:
    result = canary()

    assert result.code == 1
    assert result.text.startswith("FAILED: the Pod came out of namespace")


def test_unreachable_webhook_is_reported_with_the_api_server_message(canary: Canary, injecting: Webhook) -> None:
    # The process is shared and stays; the registration points elsewhere.
    gone = registration.Endpoint("https://127.0.0.1:9", injecting.endpoint.ca_pem)
    moved = registration.token_injector(gone, namespace=canary.kubectl.namespace)
    canary.kubectl.run("replace", "-f", "-", stdin=moved)
    create = ("create", "-f", "-", "--dry-run=server")
    wait_for("it away", lambda: canary.kubectl.try_run(*create, stdin=pod(ASKING)).returncode)

    result = canary()

    assert result.code == 1
    assert "FAILED: the API server refused the Pod: Internal error occurred: failed calling webhook" in result.text


@pytest.fixture
def start_registered(
    kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> Callable[[dict[str, object]], Webhook]:
    def start(policy: dict[str, object]) -> Webhook:
        webhook = start_webhook(policy)
        register(registration.token_injector(webhook.endpoint, namespace=kubectl.namespace))
        return webhook

    return start


def test_shadow_mode_passes_when_expected(
    canary: Canary, start_registered: Callable[[dict[str, object]], Webhook]
) -> None:
    webhook = start_registered({"shadow": True})
    wait_for("it asked", lambda: canary("policy.shadow=true").code == 0 and webhook.requests_served())

    result = canary("policy.shadow=true")

    assert "Warning: " in result.text
    assert result.code == 0
    assert canary().code == 1  # without the value it must inject


def test_disallowed_secret_is_reported_with_the_webhook_message(
    canary: Canary, start_registered: Callable[[dict[str, object]], Webhook]
) -> None:
    start_registered({"allowedSecrets": ["team-*"]})
    wait_for("it denying", lambda: "denied the request" in canary().text)

    assert "dapr.io/api-token-secret" in canary().text
    assert canary("test.secretName=team-x").code == 0


@pytest.mark.usefixtures("injecting")
def test_custom_key_that_the_pod_lacks_fails(canary: Canary) -> None:
    assert canary("policy.defaultKeys.api=api.key").code == 1


def test_unreachable_api_server_is_reported(canary: Canary) -> None:
    result = canary(KUBERNETES_SERVICE_HOST="::1", KUBERNETES_SERVICE_PORT="9")

    assert result.code == 1
    assert result.text.startswith("FAILED: the API server cannot be reached: ")


def test_account_can_only_create_pods_in_its_namespace(canary: Canary) -> None:
    canary()
    account = f"--as=system:serviceaccount:{canary.release.namespace}:{CANARY}"

    for arguments in (("get", "pods"), ("get", "secrets"), ("delete", "pod", "x")):
        assert "orbidden" in canary.kubectl.try_run(*arguments, account).stderr
    refused = canary.release.try_run("create", "-f", "-", "--dry-run=server", account, stdin=pod({}))
    assert "orbidden" in refused.stderr
