"""The checks of admission against a real API server: each fails for the reason that it exists."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster.objects import ASKING, DAPR, pod
from tests.cluster.policies import GUARD_LABEL, guard_installed
from tests.cluster.test_check import check
from tests.controlplane import registration
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

Capture = pytest.CaptureFixture[str]
GUARD: Final = "dapr-token-injector-guard"
DEFAULT: Final = "dapr-token-injector/inject-default"


class Checks:
    """The checks of admission in the test's namespace."""

    def __init__(self, kubectl: Kubectl, capsys: Capture) -> None:
        self.kubectl, self.capsys = kubectl, capsys

    def __call__(self, name: str, *arguments: str) -> tuple[str, str]:
        """Return the result of a check and its first message, or what it saw."""
        options = ("--only", name, "--canary-namespace", self.kubectl.namespace, *arguments)
        code, found = check(self.capsys, self.kubectl.kubeconfig, *options)
        result, problems = found[name]["result"], found[name]["problems"]
        assert code == {"failed": 1, "unknown": 2}.get(result, 0)
        return result, problems[0]["message"] if problems else found[name]["seen"]

    def wait(self, name: str, result: str, words: str, *arguments: str) -> str:
        """Wait until the API server has taken notice, and return the message."""

        def seen() -> str:
            found, message = self(name, *arguments)
            return message if found == result and words in message else ""

        return wait_for(f"{name} {result}: {words}", seen)


@pytest.fixture
def checks(kubectl: Kubectl, capsys: Capture) -> Checks:
    return Checks(kubectl, capsys)


# --- injects ---


def test_injects_until_the_registration_is_deleted(checks: Checks, injecting: Webhook) -> None:
    before = injecting.requests_served()

    assert checks("injects")[0] == "passed"
    assert injecting.requests_served() == before + 1
    checks.kubectl.delete("mutatingwebhookconfiguration", registration.NAME)

    checks.wait("injects", "failed", "there is no MutatingWebhookConfiguration of dapr-token-injector")
    assert checks.kubectl.list("pods") == ()


@pytest.mark.parametrize(
    ("policy", "words"),
    [("Fail", "failed calling webhook"), ("Ignore", "did not answer (failurePolicy Ignore)")],
)
def test_webhook_that_is_gone(checks: Checks, injecting: Webhook, policy: str, words: str) -> None:
    gone = registration.Endpoint("https://127.0.0.1:9", injecting.endpoint.ca_pem)
    moved = registration.token_injector(gone, namespace=checks.kubectl.namespace)
    for entry in moved["webhooks"]:
        entry["failurePolicy"] = policy
    checks.kubectl.run("replace", "-f", "-", stdin=moved)

    checks.wait("injects", "failed", words)


def test_selector_that_does_not_match(checks: Checks, webhook: Webhook, register: Callable[[Json], None]) -> None:
    register(registration.token_injector(webhook.endpoint, namespace="another"))

    assert "do not match these Pods" in checks.wait("injects", "failed", "the selectors in")


def test_shadow_mode_has_its_own_message(
    checks: Checks, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> None:
    webhook = start_webhook({"shadow": True})
    register(registration.token_injector(webhook.endpoint, namespace=checks.kubectl.namespace))

    checks.wait("injects", "failed", "is in shadow mode, so Pods get no token: shadow mode: would inject")
    assert checks("injects", "--canary-shadow")[0] == "passed"


def test_denied_secret_and_other_key(
    checks: Checks, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> None:
    webhook = start_webhook({"allowedSecrets": ["team-*"], "defaultKeys": {"api": "k"}})
    register(registration.token_injector(webhook.endpoint, namespace=checks.kubectl.namespace))

    checks.wait("injects", "failed", "name a Secret that its Policy allows with --canary-secret")
    assert checks("injects", "--canary-secret=team-x:k")[0] == "passed"
    result, message = checks("injects", "--canary-secret=team-x:token")
    assert result == "failed"
    assert "another DAPR_API_TOKEN than a reference to Secret team-x, key token" in message


@pytest.mark.usefixtures("injecting")
def test_quota_is_unknown(checks: Checks) -> None:
    spec = {"hard": {"pods": "0"}}
    checks.kubectl.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": spec})

    checks.wait("injects", "unknown", "exceeded quota: none")


@pytest.mark.usefixtures("injecting")
def test_policy_of_others_is_unknown(checks: Checks, register: Callable[[Json], None]) -> None:
    name = f"no-pods-{secrets.token_hex(4)}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    of_policy = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}
    only = {"matchLabels": {"kubernetes.io/metadata.name": checks.kubectl.namespace}}
    of_binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": only}}
    for kind, spec in (("ValidatingAdmissionPolicy", of_policy), ("ValidatingAdmissionPolicyBinding", of_binding)):
        register(
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        )

    checks.wait("injects", "unknown", f"ValidatingAdmissionPolicy '{name}'")


# --- injects-default ---


def test_default_entry_injects_until_it_is_removed(
    checks: Checks, start_webhook: StartWebhook, register: Callable[[Json], None]
) -> None:
    webhook = start_webhook({"defaultSecret": "of-the-policy"})
    register(registration.token_injector(webhook.endpoint, namespace=checks.kubectl.namespace))
    checks.kubectl.run("label", "namespace", checks.kubectl.namespace, f"{DEFAULT}=enabled")
    checks.wait("injects-default", "passed", f"in namespace {checks.kubectl.namespace} comes back with its token")
    found: dict[str, Any] = checks.kubectl.get("mutatingwebhookconfiguration", registration.NAME)
    found["webhooks"] = [one for one in found["webhooks"] if one["name"] != registration.DEFAULT_ENTRY]

    checks.kubectl.run("replace", "-f", "-", stdin=found)

    checks.wait("injects-default", "failed", "came back without its token")


def test_default_without_labelled_namespace_is_skipped(checks: Checks) -> None:
    assert checks("injects-default")[0] == "skipped"


# --- guard-answers ---


@pytest.fixture
def with_guard(checks: Checks) -> Iterator[Checks]:
    """The guard for the test's namespace, which has the label `deny`."""
    with guard_installed(checks.kubectl) as label:
        checks.kubectl.run("label", "namespace", checks.kubectl.namespace, f"{label}=", f"{GUARD_LABEL}=deny")
        checks.wait("guard-answers", "passed", "is denied")
        yield checks


def test_guard_is_skipped_where_it_is_not_installed(checks: Checks) -> None:
    assert checks("guard-answers")[0] == "skipped"


@pytest.mark.parametrize(
    ("label", "words"),
    [("warn", "let through with a warning"), ("audit", "is let through"), ("off", "is let through"), (None, "is let")],
)
def test_guard_answers_as_the_label_says(with_guard: Checks, label: str | None, words: str) -> None:
    change = f"{GUARD_LABEL}-" if label is None else f"{GUARD_LABEL}={label}"
    with_guard.kubectl.run("label", "--overwrite", "namespace", with_guard.kubectl.namespace, change)

    with_guard.wait("guard-answers", "passed", words)


def test_deleted_policy_of_the_guard_fails(with_guard: Checks) -> None:
    with_guard.kubectl.delete("validatingadmissionpolicy", GUARD)

    with_guard.wait("guard-answers", "failed", f"ValidatingAdmissionPolicy {GUARD} does not exist")


def test_changed_binding_of_the_guard_is_a_warning(with_guard: Checks) -> None:
    patch = '{"spec": {"validationActions": ["Audit"]}}'
    with_guard.kubectl.run(
        "patch", "validatingadmissionpolicybinding", f"{GUARD}-deny", "--type=merge", f"--patch={patch}"
    )

    with_guard.wait("guard-answers", "warning", "the bindings that match it do not do that (Audit)")


def test_deleted_binding_of_the_guard_fails(with_guard: Checks) -> None:
    with_guard.kubectl.delete("validatingadmissionpolicybinding", f"{GUARD}-deny")

    with_guard.wait("guard-answers", "failed", "do not do that (none matches)")


def test_guard_that_denies_what_the_webhook_missed_fails_injects(with_guard: Checks) -> None:
    result, message = with_guard("injects")

    assert result == "failed"
    assert "did not inject the token, and the guard denied the Pod" in message
    assert with_guard.kubectl.try_run("create", "-f", "-", stdin=pod({**DAPR, **ASKING})).returncode != 0
