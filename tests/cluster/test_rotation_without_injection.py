"""Rotations while the webhook does not inject: nothing is written, and no Pod without a token counts as done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from injector.core.token_state import annotation_for
from tests.cluster.conftest import wait_until_injecting
from tests.cluster.kubelet import Kubelet, wait_until_starts_are_past
from tests.cluster.objects import ASKING, DAPR, SECRET, deployment, tokens
from tests.cluster.tokencommands import Commands, Done, limited
from tests.controlplane import registration
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.conftest import StartWebhook
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.webhook import Webhook

CONFIGURATION = "mutatingwebhookconfiguration"
ROTATE = ("secret", "rotate", "--restart", "-o", "json", "--propagation-delay", "0s")
PERSON = ("get,update,list secrets", "list,create pods", "get,list replicasets.apps", "get,list,patch deployments.apps")


class Injected:
    """Two Deployments in one namespace whose sidecars have tokens from the webhook, and the webhook.

    Their templates request the Secret, or (`by_default`) it is the default one of the Policy.
    """

    def __init__(self, kubectl: Kubectl, start: StartWebhook, *, by_default: bool) -> None:
        self.kubectl = kubectl
        self.start = start
        self.annotations = DAPR if by_default else ASKING
        if by_default:
            kubectl.run("label", "namespace", kubectl.namespace, f"{registration.DEFAULT_LABEL}=enabled")
        self.webhook: Webhook = start({"defaultSecret": SECRET} if by_default else None)
        self.commands = Commands(kubectl, kubectl.kubeconfig)
        self.registration: Json | None = None

    def register(self, webhook: Webhook | None = None, *, failure_policy: str = "Fail") -> None:
        """Replace the registered webhook."""
        self.unregister()
        item = registration.token_injector((webhook or self.webhook).endpoint, namespace=self.kubectl.namespace)
        for entry in item["webhooks"]:
            entry["failurePolicy"] = failure_policy
        self.kubectl.create(item)
        self.registration = item

    def unregister(self) -> None:
        """Delete the registration."""
        if self.registration is not None:
            self.kubectl.delete(CONFIGURATION, self.registration["metadata"]["name"])
            self.registration = None

    def prepare(self) -> None:
        """Create the Secret and the Deployments, and wait until all their Pods run."""
        self.register()
        wait_until_injecting(self.kubectl)
        assert self.commands.run("secret", "create", self.commands.secret).code == 0
        for name in ("a", "b"):
            self.kubectl.create(deployment(self.annotations, name=name))
        wait_for("four running Pods", lambda: self.injected() == 4)
        wait_until_starts_are_past(self.kubectl)

    def injected(self) -> int:
        """How many running Pods have the token."""
        return sum(bool(tokens(pod)) for pod in self.pods() if pod["status"].get("containerStatuses"))

    def pods(self) -> list[Json]:
        """All Pods that are not ending."""
        return [pod for pod in self.kubectl.list("pods") if "deletionTimestamp" not in pod["metadata"]]

    def rotate(self, *flags: str, commands: Commands | None = None) -> Done:
        """Run `secret rotate --restart`."""
        return (commands or self.commands).run(*ROTATE, self.commands.secret, *flags)


@pytest.fixture
def injected(kubectl: Kubectl, start_webhook: StartWebhook, request: pytest.FixtureRequest) -> Iterator[Injected]:
    with Kubelet(kubectl):
        made = Injected(kubectl, start_webhook, by_default=getattr(request, "param", False))
        try:
            made.prepare()
            yield made
        finally:
            made.unregister()


def delete_registration(injected: Injected) -> None:
    injected.unregister()


def stop_webhook_under_ignore(injected: Injected) -> None:
    injected.register(failure_policy="Ignore")
    injected.webhook.kill()


def switch_to_shadow_mode(injected: Injected) -> None:
    injected.register(injected.start({"shadow": True}))


def stop_webhook_under_fail(injected: Injected) -> None:
    injected.webhook.kill()


@pytest.mark.parametrize(
    ("fault", "state", "cause"),
    [
        (delete_registration, "not-injected", "there is no MutatingWebhookConfiguration of dapr-token-injector"),
        (stop_webhook_under_ignore, "not-injected", "the webhook did not answer (failurePolicy Ignore)"),
        (switch_to_shadow_mode, "not-injected", "the webhook's Policy is in shadow mode"),
        (stop_webhook_under_fail, "unknown", "failed calling webhook"),
    ],
)
def test_rotate_that_would_leave_pods_open_writes_nothing(
    injected: Injected, fault: Callable[[Injected], None], state: str, cause: str
) -> None:
    before = injected.commands.value()
    fault(injected)

    def blocked() -> Done | None:
        done = injected.rotate("--dry-run")
        return done if done.json["blocked"] else None

    # The API server takes a moment to notice a change of the registration.
    planned = wait_for("a dry run that finds it", blocked)
    done = injected.rotate()
    revoked = injected.commands.run("secret", "revoke", injected.commands.secret, "-o", "json")

    for ended in (planned, done, revoked):
        assert ended.code == 1
        assert [row["state"] for row in ended.json["workloads"]] == [state, state]
        assert all(cause in row["message"] for row in ended.json["workloads"])
    assert revoked.json["revoked"] is False
    assert injected.commands.value() == before
    assert injected.injected() == 4


def test_rotate_without_cluster_permissions_reports_open_pods(injected: Injected, tmp_path: Path) -> None:
    person = limited(injected.commands, tmp_path, *PERSON)
    before = injected.commands.value()
    injected.unregister()

    def blocked() -> Done | None:
        done = injected.rotate("--dry-run", commands=person)
        return done if done.code == 1 else None

    done = wait_for("a blocked rotation", blocked)

    assert all(row["state"] == "not-injected" for row in done.json["workloads"])
    assert "you may not list mutatingwebhookconfigurations" in done.json["workloads"][0]["message"]
    assert injected.rotate(commands=person).code == 1
    assert injected.commands.value() == before
    injected.register()
    wait_until_injecting(injected.kubectl)
    assert injected.rotate(commands=person).code == 0


@pytest.mark.parametrize("injected", [False, True], ids=["requested", "default"], indirect=True)
def test_new_pod_without_token_stops_rotate_until_resumed(injected: Injected, tmp_path: Path) -> None:
    secret = injected.commands.secret
    fail_after_the_write(injected, tmp_path)
    listed = injected.commands.run(
        "secret", "list", "-n", injected.kubectl.namespace, "-o", "json", "--fail-on", "open"
    )
    (row,) = listed.json["secrets"]
    assert listed.code == 1
    assert row["open"]
    assert {name.split("-")[0] for name in row["open"]} == {"a"}

    revoked = injected.commands.run("secret", "revoke", secret, "--resume", "--skip-admission-check", "-o", "json")
    assert revoked.code == 1
    assert revoked.json["revoked"] is False
    assert revoked.json["open"]
    blocked = injected.rotate("--resume")
    assert (blocked.code, blocked.json["blocked"]) == (1, True)

    injected.register()
    wait_until_injecting(injected.kubectl)
    resumed = injected.rotate("--resume")
    assert resumed.code == 0, resumed
    assert {row["state"] for row in resumed.json["workloads"]} == {"ready"}
    assert injected.injected() == 4
    assert {tokens(pod)[0]["valueFrom"]["secretKeyRef"]["name"] for pod in injected.pods()} == {SECRET}
    final = injected.commands.run("secret", "revoke", secret, "--resume", "-o", "json")
    assert (final.code, final.json["revoked"]) == (0, True)


@pytest.mark.parametrize("injected", [True], ids=["default"], indirect=True)
def test_rollback_of_pods_without_their_default_secret_is_found(injected: Injected, tmp_path: Path) -> None:
    """`kubectl rollout undo` gives a Deployment the annotations of the ReplicaSet that it goes back to."""
    fail_after_the_write(injected, tmp_path)

    def are_replaced(*, is_marked: bool) -> bool:
        own = [pod["metadata"] for pod in injected.pods() if pod["metadata"]["name"].startswith("a-")]
        marks = [annotation_for(SECRET) in (meta.get("annotations") or {}) for meta in own]
        return marks == [is_marked] * 2

    wait_for("two Pods of the restart", lambda: are_replaced(is_marked=True))
    injected.kubectl.run("rollout", "undo", "deployment/a")
    wait_for("two Pods of the earlier template", lambda: are_replaced(is_marked=False))

    done = injected.rotate("--resume")

    assert (done.code, done.json["blocked"]) == (1, True)
    states = {row["name"]: row["state"] for row in done.json["workloads"]}
    assert states == {"a": "not-injected", "b": "not-injected"}


def fail_after_the_write(injected: Injected, tmp_path: Path) -> None:
    """Take the webhook away after the Secret was written, and run into the first Pod without a token."""
    secret = injected.commands.secret
    writes = 3 if injected.annotations is DAPR else 1  # the record of each Deployment, and the Secret
    killed = injected.commands.run_and_crash(tmp_path / "log", writes, *ROTATE, secret)
    assert killed.code == 137
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("PUT ")
    injected.unregister()
    wait_for("no injection", lambda: not tokens(injected.kubectl.dry_run(pod_of(injected))))
    done = injected.rotate("--resume", "--skip-admission-check")
    assert done.code == 1
    states = {row["name"]: row["state"] for row in done.json["workloads"]}
    assert states == {"a": "not-injected", "b": "not-started"}


def pod_of(injected: Injected) -> Json:
    """A Pod as one of the Deployments makes it."""
    template = injected.kubectl.get("deployment", "a")["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "p"},
        "spec": template["spec"],
    }
