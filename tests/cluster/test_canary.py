"""The canary of the chart: that of `helm test` and that of the CronJob, each with the token of its own account."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.as_pod import Pod
from tests.cluster.objects import ASKING, pod
from tests.cluster.policies import requested
from tests.controlplane import registration
from tests.controlplane.cluster import create_namespace, wait_for_service_account
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.polling import wait_for
from tests.controlplane.workspace import write_private
from tests.documents import documents

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane import binaries
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

TEST: Final = "dapr-token-injector-test"
CANARY: Final = "dapr-token-injector-canary"
REQUESTED: Final = "dapr-token-injector-requested"
POLICY: Final = "validatingadmissionpolicy"
BINDING: Final = "validatingadmissionpolicybinding"
ENABLED: Final = ("canary.enabled=true", "requested.action=Deny")


class Canary:
    """The objects of a canary in a release's namespace, which sends Pods in another one."""

    def __init__(self, own: ControlPlane, helm: Helm, folder: Path, kubectl: Kubectl, release: Kubectl) -> None:
        self.own, self.helm, self.folder, self.kubectl, self.release = own, helm, folder, kubectl, release

    def __call__(self, *values: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `helm test`, as its Pod does."""
        objects = self.rendered("tests/canary.yaml", *values)
        self.grant(objects)
        return self.run(TEST, objects["Pod"]["spec"], **env)

    @functools.cache  # noqa: B019 - it lives as long as its test
    def rendered(self, template: str, *values: str) -> dict[str, Json]:
        """The objects of a template by kind."""
        rendered = self.helm.run(
            "template", "release", str(CHART), "--namespace", self.release.namespace,
            "--show-only", f"templates/{template}",
            *(part for value in (f"canary.namespace={self.kubectl.namespace}", *values) for part in ("--set", value)),
        )  # fmt: skip
        return {item["kind"]: item for item in documents(rendered)}

    def grant(self, objects: dict[str, Json]) -> None:
        """Create the account and its permissions, each in the namespace that it names, if they are not there."""
        for kind in ("ServiceAccount", "Role", "RoleBinding"):
            kubectl = self.kubectl.within(objects[kind]["metadata"]["namespace"])
            if kubectl.find(kind, objects[kind]["metadata"]["name"]) is None:
                kubectl.create(objects[kind])

    def run(self, account: str, spec: Json, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the command of a Pod as its account."""
        (container,) = spec["containers"]
        assert spec["serviceAccountName"] == account
        assert container.keys().isdisjoint({"command", "env", "volumeMounts"})
        write_private(self.folder / "ca.crt", self.own.authority.pem)
        write_private(self.folder / "token", self.token(account).encode())
        done = Pod(self.folder, self.own.url).run(*container["args"], **env)
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1
        return done

    def token(self, account: str) -> str:
        """A token of an account of the release."""
        return self.release.token(account)


@pytest.fixture
def canary(
    own_control_plane: ControlPlane, kubectl: Kubectl, report: binaries.Report, tmp_path: Path
) -> Iterator[Canary]:
    release = f"{kubectl.namespace}-release"
    create_namespace(kubectl, release)
    try:
        wait_for_service_account(kubectl.within(release))
        helm = Helm.find(own_control_plane.folder, report=report)
        yield Canary(own_control_plane, helm, tmp_path, kubectl, kubectl.within(release))
    finally:
        kubectl.delete("namespace", release)


def test_working_installation_is_reported(canary: Canary, injecting: Webhook) -> None:
    before = injecting.requests_served()

    result = canary()

    assert result.returncode == 0
    assert result.stdout == (
        f"passed: a Pod as a dry run in namespace {canary.kubectl.namespace} comes back with its token\n"
    )
    assert injecting.requests_served() == before + 1
    assert canary.kubectl.list("pods") == ()


def test_webhook_that_is_not_called_is_reported(canary: Canary) -> None:
    result = canary()

    assert result.returncode == 1
    assert result.stdout.startswith("failed: the Pod came back without its token: ")


def test_unreachable_webhook_is_reported_with_the_api_server_message(canary: Canary, injecting: Webhook) -> None:
    # The process is shared and stays; the registration points elsewhere.
    gone = registration.Endpoint("https://127.0.0.1:9", injecting.endpoint.ca_pem)
    moved = registration.token_injector(gone, namespace=canary.kubectl.namespace)
    canary.kubectl.run("replace", "-f", "-", stdin=moved)
    create = ("create", "-f", "-", "--dry-run=server")
    wait_for("it away", lambda: canary.kubectl.try_run(*create, stdin=pod(ASKING)).returncode)

    result = canary()

    assert result.returncode == 1
    assert result.stdout.startswith("failed: the webhook does not answer, and such Pods cannot be created: ")
    assert "Internal error occurred: failed calling webhook" in result.stdout


@pytest.fixture
def start_registered(
    kubectl: Kubectl, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> Callable[[dict[str, object]], Webhook]:
    def start(policy: dict[str, object]) -> Webhook:
        webhook = start_webhook(policy)
        register(registration.token_injector(webhook.endpoint, namespace=kubectl.namespace))
        return webhook

    return start


@pytest.mark.usefixtures("env_files")
def test_sealed_canary_has_its_token(
    canary: Canary, kubectl: Kubectl, start_registered: Callable[[dict[str, object]], Webhook]
) -> None:
    start_registered({"seal": "always", "sealImage": "example.invalid/dapr-token-injector:1"})
    wait_for("a sealed Pod", lambda: "initContainers" in kubectl.dry_run(pod(ASKING))["spec"])

    assert canary().stdout.endswith("comes back with its token\n")


def test_shadow_mode_passes_when_expected(
    canary: Canary, start_registered: Callable[[dict[str, object]], Webhook]
) -> None:
    webhook = start_registered({"shadow": True})
    wait_for("it asked", lambda: canary("policy.shadow=true").returncode == 0 and webhook.requests_served())

    result = canary("policy.shadow=true")

    assert "shadow mode: would inject daprd/DAPR_API_TOKEN" in result.stdout
    assert result.returncode == 0
    assert canary().returncode == 1  # without the value it must inject


def test_disallowed_secret_is_reported_with_the_webhook_message(
    canary: Canary, start_registered: Callable[[dict[str, object]], Webhook]
) -> None:
    start_registered({"allowedSecrets": ["team-*"]})
    wait_for("it denying", lambda: "denied the request" in canary().stdout)

    assert "dapr.io/api-token-secret" in canary().stdout
    assert canary("canary.secretName=team-x").returncode == 0


@pytest.mark.usefixtures("injecting")
def test_custom_key_that_the_pod_lacks_fails(canary: Canary) -> None:
    assert canary("policy.defaultKeys.api=api.key").returncode == 1


def test_unreachable_api_server_is_reported(canary: Canary) -> None:
    result = canary(KUBERNETES_SERVICE_HOST="::1", KUBERNETES_SERVICE_PORT="9")

    assert result.returncode == 2
    assert result.stdout.startswith("unknown: ")
    assert "cannot connect to ::1:9" in result.stdout


def test_account_can_only_create_pods_in_its_namespace(canary: Canary) -> None:
    canary()
    account = f"--as=system:serviceaccount:{canary.release.namespace}:{TEST}"

    for arguments in (("get", "pods"), ("get", "secrets"), ("delete", "pod", "x")):
        assert "orbidden" in canary.kubectl.try_run(*arguments, account).stderr
    refused = canary.release.try_run("create", "-f", "-", "--dry-run=server", account, stdin=pod({}))
    assert "orbidden" in refused.stderr


# --- the CronJob ---


@pytest.fixture
def fenced(canary: Canary) -> Iterator[Canary]:
    """The account of the CronJob, in force: its permissions, and the policy that limits them to dry runs."""
    rights = canary.rendered("canary/rbac.yaml", *ENABLED)
    everywhere = {kind: item for kind, item in rights.items() if kind.startswith("Cluster")}
    fence = canary.rendered("canary/fence.yaml", *ENABLED) | everywhere
    try:
        for item in fence.values():
            canary.kubectl.create(item)
        canary.grant(rights)
        wait_for("the fence in force", lambda: "only as dry runs" in created(canary))
        for made in canary.kubectl.list("pods"):  # before it was
            canary.kubectl.delete("pod", made["metadata"]["name"])
        yield canary
    finally:
        for kind, item in fence.items():
            canary.kubectl.delete(kind, item["metadata"]["name"])


def created(canary: Canary, namespace: str = "", query: str = "") -> str:
    """Create a Pod with the account's own token; return the API server's message, empty if it did."""
    namespace = namespace or canary.kubectl.namespace
    item = {**pod(ASKING), "metadata": {"generateName": "real-", "annotations": ASKING}}
    answer = httpx.post(
        f"{canary.own.url}/api/v1/namespaces/{namespace}/pods{query}",
        json=item,
        headers={"Authorization": f"Bearer {canary.token(CANARY)}"},
        verify=ssl.create_default_context(cadata=canary.own.authority.pem.decode()),
        trust_env=False,
    )
    return "" if answer.is_success else str(answer.json()["message"])


def run_job(canary: Canary, *values: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the CronJob as its account."""
    job = canary.rendered("canary/cronjob.yaml", *values)["CronJob"]
    return canary.run(CANARY, job["spec"]["jobTemplate"]["spec"]["template"]["spec"])


def test_cron_job_passes_and_creates_no_pod(fenced: Canary, injecting: Webhook) -> None:
    before = injecting.requests_served()

    done = run_job(fenced, "canary.enabled=true")

    assert (done.returncode, done.stdout[:8]) == (0, "passed: ")
    assert injecting.requests_served() == before + 1
    assert fenced.kubectl.list("pods") == ()


def test_cron_job_fails_once_the_policy_requested_does_not_deny(fenced: Canary, injecting: Webhook) -> None:
    kubectl = fenced.kubectl
    configuration = registration.token_injector(injecting.endpoint, namespace=kubectl.namespace)
    selected = configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"]
    served = [one for one in selected if one["key"] != registration.DEFAULT_LABEL]
    policy, binding = requested(label="unused")
    policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"] = served

    def failure() -> str:
        done = run_job(fenced, *ENABLED)
        assert done.returncode == 1, done.stdout
        return str(done.stdout.removeprefix("failed: ").removesuffix("\n"))

    try:
        for item in (policy, binding):
            kubectl.create(item)
        sound = run_job(fenced, *ENABLED)
        assert (sound.returncode, sound.stdout[:8]) == (0, "passed: "), sound.stdout
        assert sound.stdout.endswith(f"{REQUESTED}, bound with Deny, Audit\n")

        # The Pod gets its token in all cases: nothing but the objects shows the loss.
        kubectl.delete(BINDING, REQUESTED)
        assert failure() == f"ValidatingAdmissionPolicyBinding {REQUESTED} does not exist: the policy has no effect"
        kubectl.create(binding | {"spec": binding["spec"] | {"validationActions": ["Audit"]}})
        assert failure().startswith(f"ValidatingAdmissionPolicyBinding {REQUESTED} does not deny: ")
        kubectl.run("replace", "-f", "-", stdin=binding)
        kubectl.patch(POLICY, REQUESTED, [{"op": "replace", "path": "/spec/validations/0/expression", "value": "true"}])
        assert failure() == f"ValidatingAdmissionPolicy {REQUESTED} does not match this version of the chart"
    finally:
        kubectl.delete(BINDING, REQUESTED)
        kubectl.delete(POLICY, REQUESTED)


def test_cron_job_fails_once_an_entry_excludes_pods(fenced: Canary, injecting: Webhook) -> None:
    del injecting  # it answers
    added = {
        "name": "few",
        "expression": "object.metadata.?generateName.orValue('').startsWith('dapr-token-injector-canary')",
    }
    fenced.kubectl.patch(
        "mutatingwebhookconfiguration",
        registration.NAME,
        [{"op": "add", "path": "/webhooks/0/matchConditions/-", "value": added}],
    )

    done = run_job(fenced, "canary.enabled=true")

    assert done.returncode == 1
    assert done.stdout == (
        f"failed: {registration.INJECT_ENTRY}: the match condition few is added: it can exclude Pods that request a "
        "token\n"
    )


def test_account_of_the_cron_job_can_only_create_dry_runs(fenced: Canary) -> None:
    assert created(fenced, query="?dryRun=All") == ""
    assert "dapr-token-injector-canary may create Pods only as dry runs" in created(fenced)
    assert "forbidden: User" in created(fenced, fenced.release.namespace, "?dryRun=All")
    assert fenced.kubectl.list("pods") == ()

    account = f"--as=system:serviceaccount:{fenced.release.namespace}:{CANARY}"
    for arguments in (
        ("get", "pods"),
        ("get", "secrets"),
        ("delete", "pod", "x"),
        ("get", "mutatingwebhookconfigurations"),
        ("get", "validatingwebhookconfiguration", registration.NAME),
        ("get", "mutatingwebhookconfiguration", f"{registration.NAME}-2"),
        ("get", POLICY, CANARY),
        ("delete", "mutatingwebhookconfiguration", registration.NAME),
    ):
        assert "orbidden" in fenced.kubectl.try_run(*arguments, account).stderr
    for readable in (("mutatingwebhookconfiguration", registration.NAME), (POLICY, REQUESTED), (BINDING, REQUESTED)):
        assert "NotFound" in fenced.kubectl.try_run("get", *readable, account).stderr


def test_fence_limits_no_other_account(fenced: Canary) -> None:
    fenced.kubectl.create(pod(ASKING))

    assert len(fenced.kubectl.list("pods")) == 1


def test_fence_has_no_type_checking_warnings(fenced: Canary) -> None:
    def checked() -> Json | None:
        status: Json = fenced.kubectl.get("validatingadmissionpolicy", CANARY).get("status", {})
        return status if "typeChecking" in status else None

    assert wait_for("the policy type checked", checked)["typeChecking"] == {}


def test_account_without_its_role_is_unknown(canary: Canary) -> None:
    canary()
    canary.kubectl.delete("rolebinding", TEST)

    def result() -> subprocess.CompletedProcess[str]:
        spec = canary.rendered("tests/canary.yaml")["Pod"]["spec"]
        return canary.run(TEST, spec)

    done = wait_for("the permission gone", lambda: found if (found := result()).returncode == 2 else None)

    assert f"needs the permission to create pods in namespace {canary.kubectl.namespace}" in done.stdout
