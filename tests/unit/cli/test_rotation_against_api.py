"""`secret rotate`, `revoke` and `list` against an API server on loopback: checks, writes, restarts and reports."""

from __future__ import annotations

import copy
import json
import shlex
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from injector.core import names
from injector.core.token_state import annotation_for
from injector.times import rfc3339
from tests.controlplane.polling import wait_for
from tests.fake_cluster.argo import ArgoController, put_rollout
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.controllers import Controllers
from tests.unit.cli.objects import BEFORE, WRITTEN, admitted, deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
Json = dict[str, Any]
RESTART: Final = ("rotate", "shop/s", "--restart", "--propagation-delay", "0s")
EACH: Final = ("rotate", "s", "--restart", "--propagation-delay", "0s")
REVOKE: Final = ("revoke", "shop/s", "--propagation-delay", "0s")
REQUEST: Final = {names.ENABLED: "true", names.API_TOKEN_SECRET: "s"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as running:
        running.put("namespaces", namespace("shop"))
        running.put("secrets", secret("s"))
        running.admitted = admitted
        yield running


def put_workload(server: ApiServer, name: str, found: Json | None = None) -> None:
    server.put("pods", found or pod(name))
    server.put("replicasets", replica_set(name))
    server.put("deployments", deployment(name))


def requesting_pod(name: str) -> Json:
    """A Pod that requests the token, and has it."""
    found = copy.deepcopy(pod(name))
    found["metadata"]["annotations"] = dict(REQUEST)
    return found


def open_pod(name: str, number: int = 1, *, owner: bool = True) -> Json:
    """A Pod that requests the token, and whose sidecar came without one."""
    found = copy.deepcopy(pod(name, number, owner=owner))
    found["metadata"]["annotations"] = dict(REQUEST)
    found["spec"]["containers"][0]["env"] = []
    return found


def requesting(name: str) -> Json:
    """A Deployment whose template requests the token."""
    found = deployment(name)
    found["spec"]["template"] = {"metadata": {"annotations": dict(REQUEST)}, "spec": {"containers": []}}
    return found


def run(server: ApiServer, *arguments: str) -> int:
    return main(["secret", *arguments, "--kubeconfig", str(server.kubeconfig)])


def decoded(server: ApiServer, capsys: Capture, *arguments: str, code: int) -> Json:
    assert run(server, *arguments, "-o", "json") == code
    found: Json = json.loads(capsys.readouterr().out)
    return found


def states(found: Json) -> dict[str, str]:
    return {one["name"]: one["state"] for one in found["workloads"]}


def written_calls(server: ApiServer) -> list[str]:
    """The calls that changed something."""
    return [call for call in server.calls if not call.startswith("GET") and "dryRun=All" not in call]


def token_id(server: ApiServer) -> str:
    found: str = server.objects["secrets", "shop", "s"]["metadata"]["annotations"][names.TOKEN_ID]
    return found


# --- the check before anything is written ---


def test_rotation_restarts_after_its_check_has_passed(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    controllers = Controllers(server)
    found = decoded(server, capsys, *RESTART, code=0)
    assert found["blocked"] is False
    assert states(found) == {"web": "ready"}
    assert controllers.restarted == ["web"]
    assert token_id(server) == found["secrets"][0]["id"] != "bcdfghjklm"
    template = server.objects["deployments", "shop", "web"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {annotation_for("s"): token_id(server)}
    assert ("pods", "shop", "web-00000") not in server.objects
    assert {kind for kind, _, _ in server.objects} == {"namespaces", "secrets", "pods", "replicasets", "deployments"}


@pytest.mark.parametrize("command", [RESTART, REVOKE, (*RESTART, "--dry-run"), (*RESTART, "--wait=false")])
def test_rotation_is_blocked_when_a_new_pod_would_have_no_token(
    server: ApiServer, capsys: Capture, command: tuple[str, ...]
) -> None:
    put_workload(server, "web")
    server.admitted = lambda found: found
    before = copy.deepcopy(server.objects)
    assert run(server, *command) == 1
    printed = capsys.readouterr()
    assert printed.out == (
        "Deployment shop/web  not-injected  new Pods would have no token in daprd: there is no "
        "MutatingWebhookConfiguration of dapr-token-injector; outdated: web-1-1\n"
        "nothing was changed: a check failed, see above\n"
    )
    assert server.objects == before
    assert written_calls(server) == []


def test_blocked_rotation_is_reported_as_json(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "api", copy.deepcopy(pod("api")))
    put_workload(server, "web")
    server.admitted = lambda found: found if found["metadata"]["generateName"] == "web-" else admitted(found)
    found = decoded(server, capsys, *REVOKE, code=1)
    assert (found["blocked"], found["revoked"]) == (True, False)
    assert states(found) == {"api": "planned", "web": "not-injected"}
    assert found["secrets"] == [{"namespace": "shop", "name": "s", "id": "bcdfghjklm"}]
    assert written_calls(server) == []


def test_resume_is_blocked_by_the_same_check(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.admitted = lambda found: found
    found = decoded(server, capsys, "rotate", "shop/s", "--restart", "--resume", code=1)
    assert (found["blocked"], states(found)) == (True, {"web": "not-injected"})
    assert written_calls(server) == []


@pytest.mark.parametrize(
    ("flags", "more", "message"),
    [
        (["a/none"], {}, "Secret a/none does not exist; create it with: dapr-token-injector secret create a/none"),
        (["shop/s", "--key", "x"], {}, "Secret shop/s has no key x but 1 other key; name one with --key"),
        (["shop/s"], {"immutable": True}, "Secret shop/s is immutable; create one with another name and use that"),
        (
            ["shop/s", "--restart", "--resume"],
            {"metadata": {"namespace": "shop", "name": "s"}},
            "Secret shop/s does not show when its data changed (no managed fields); omit --resume",
        ),
        (
            ["shop/s"],
            {"metadata": secret("s", **{"reconcile.external-secrets.io/managed": "true"})["metadata"]},
            (
                "Secret shop/s is managed by External Secrets Operator (it has the label "
                "reconcile.external-secrets.io/managed): rotate it there, then restart with --resume; --force writes "
                "it anyway"
            ),
        ),
    ],
)
def test_refused_rotation_names_the_option_that_helps(
    server: ApiServer, capsys: Capture, flags: list[str], more: Json, message: str
) -> None:
    server.put("namespaces", namespace("a"))
    server.objects["secrets", "shop", "s"].update(more)
    assert run(server, "rotate", *flags) == 2
    assert capsys.readouterr().err == f"Error: {message}\n"
    assert written_calls(server) == []


def test_shadow_mode_is_named_as_the_cause(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.admitted = lambda found: found
    server.warnings = ["unknown field", "shadow mode: would inject DAPR_API_TOKEN"]
    assert run(server, *RESTART) == 1
    assert "no token in daprd: the webhook's Policy is in shadow mode;" in capsys.readouterr().out
    assert server.counted()["LIST mutatingwebhookconfigurations"] == 0, "its own warning names the cause"


def webhook_configuration(policy: str) -> Json:
    return {
        "metadata": {"name": "dapr-token-injector"},
        "webhooks": [{"name": "inject.dapr-token-injector.svc", "failurePolicy": policy}],
    }


@pytest.mark.parametrize(
    ("configurations", "cause"),
    [
        ([], "there is no MutatingWebhookConfiguration of dapr-token-injector"),
        (
            [{"metadata": {"name": "dapr-sidecar-injector"}, "webhooks": [{"name": "x", "failurePolicy": "Ignore"}]}],
            "there is no MutatingWebhookConfiguration of dapr-token-injector",
        ),
        (
            [{"metadata": {"name": "x"}, "webhooks": [{"name": "inject.dapr-token-injector.svc.example.com"}]}],
            "there is no MutatingWebhookConfiguration of dapr-token-injector",
        ),
        ([webhook_configuration("Ignore")], "the webhook did not answer (failurePolicy Ignore), or the selectors in"),
        (
            [webhook_configuration("Fail")],
            "the selectors in MutatingWebhookConfiguration dapr-token-injector do not match these Pods, or the",
        ),
    ],
)
def test_webhook_registration_shows_the_cause(
    server: ApiServer, capsys: Capture, configurations: list[Json], cause: str
) -> None:
    put_workload(server, "web")
    server.admitted = lambda found: found
    for configuration in configurations:
        server.put("mutatingwebhookconfigurations", configuration)
    assert run(server, *RESTART) == 1
    assert f"no token in daprd: {cause}" in capsys.readouterr().out


def test_registration_of_the_webhook_is_read_once_for_all_workloads(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "api")
    put_workload(server, "web")
    server.admitted = lambda found: found
    assert run(server, *RESTART) == 1
    assert capsys.readouterr().out.count("there is no MutatingWebhookConfiguration") == 2
    assert server.counted()["LIST mutatingwebhookconfigurations"] == 1


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (403, "the webhook did not inject it, and you may not list mutatingwebhookconfigurations to see why"),
        (500, "the webhook did not inject it (cannot list mutatingwebhookconfigurations"),
    ],
)
def test_unreadable_registration_hides_only_the_cause(
    server: ApiServer, capsys: Capture, status: int, cause: str
) -> None:
    put_workload(server, "web")
    server.admitted = lambda found: found
    message = 'mutatingwebhookconfigurations is forbidden: User "jane" cannot list resource'
    server.refusals = [Refusal("GET .*/mutatingwebhookconfigurations", status, message, "Forbidden")]
    assert run(server, *RESTART) == 1
    assert cause in capsys.readouterr().out


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (Refusal("POST .*/pods", 403, 'pods is forbidden: User "jane" cannot create resource "pods"'), "not allowed"),
        (Refusal("POST .*/pods", 403, "pods is forbidden: exceeded quota: small"), "exceeded quota: small"),
        (Refusal("POST .*/pods", 422, "spec.containers: Required value", "Invalid"), "Required value"),
        (
            Refusal("POST .*/pods", 500, 'failed calling webhook "x": refused', "InternalError"),
            "failed calling webhook",
        ),
    ],
    ids=["right", "quota", "invalid", "webhook"],
)
def test_failed_dry_run_is_unknown_and_blocks_the_rotation(
    server: ApiServer, capsys: Capture, refusal: Refusal, why: str
) -> None:
    put_workload(server, "web")
    server.refusals = [refusal]
    before = copy.deepcopy(server.objects)
    assert run(server, *RESTART) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Deployment shop/web  unknown  a dry run of its new Pod failed: cannot create (dry run)")
    assert why in first
    assert last == "nothing was changed: a check failed, see above"
    assert server.objects == before
    assert written_calls(server) == []


def test_skipped_check_sends_no_dry_run_of_a_pod(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    Controllers(server)
    server.refusals = [Refusal("POST .*/pods", 403, "no")]
    found = decoded(server, capsys, *RESTART, "--skip-admission-check", code=0)
    assert states(found) == {"web": "ready"}
    assert server.counted()["POST pods"] == 0


def test_workload_that_is_skipped_needs_no_check(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.objects["deployments", "shop", "web"]["spec"]["paused"] = True
    server.admitted = lambda found: found
    found = decoded(server, capsys, *RESTART, code=1)
    assert (found["blocked"], states(found)) == (False, {"web": "skipped"})
    assert found["workloads"][0]["message"].startswith("paused: the Deployment is paused")
    assert token_id(server) != "bcdfghjklm"


def test_rotation_without_a_restart_needs_no_check(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.admitted = lambda found: found
    found = decoded(server, capsys, "rotate", "shop/s", code=1)
    assert (found["blocked"], states(found)) == (False, {"web": "not-restarted"})
    assert found["outdated"] == ["shop/web-1-1"]
    assert server.counted()["POST pods"] == 0


def test_dry_run_pod_has_template_and_sidecar(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.put("deployments", requesting("web"))
    server.objects["deployments", "shop", "web"]["spec"]["template"]["spec"]["containers"] = [{"name": "web"}]
    sent: list[Json] = []

    def keep(found: Json) -> Json:
        sent.append(found)
        return admitted(found)

    server.admitted = keep
    assert run(server, *RESTART, "--dry-run") == 0
    (found,) = sent
    assert found["metadata"]["annotations"] == REQUEST
    assert [one["name"] for one in found["spec"]["containers"]] == ["web", "daprd"]
    assert not found["spec"]["containers"][1].get("env")
    assert "planned" in capsys.readouterr().out


# --- during the restart ---


@pytest.mark.parametrize("flags", [(), ("--skip-admission-check",)])
def test_new_pod_without_the_token_stops_the_rotation(
    server: ApiServer, capsys: Capture, flags: tuple[str, ...]
) -> None:
    for name in ("web0", "web1", "web2"):
        put_workload(server, name)
    controllers = Controllers(server, make=open_pod)  # the webhook went away after the check
    found = decoded(server, capsys, *RESTART, *flags, code=1)
    assert states(found) == {"web0": "not-injected", "web1": "not-started", "web2": "not-started"}
    assert found["workloads"][0]["message"] == ("new Pod web0-2-1 has no token in daprd: the webhook did not inject it")
    assert found["workloads"][0]["open"] == ["web0-2-1"]
    assert controllers.restarted == ["web0"]


def test_new_pod_without_annotation_and_token_stops_the_rotation(server: ApiServer, capsys: Capture) -> None:
    # The Policy's default Secret gave the token; the Pods request none themselves.
    def unlabelled(name: str) -> Json:
        found = open_pod(name)
        del found["metadata"]["annotations"]
        return found

    put_workload(server, "web")
    Controllers(server, make=unlabelled)
    found = decoded(server, capsys, *RESTART, code=1)
    assert states(found) == {"web": "not-injected"}


def test_resume_restarts_workload_still_without_token(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.put("deployments", requesting("web"))
    controllers = Controllers(server, make=open_pod)
    assert run(server, *RESTART) == 1
    capsys.readouterr()
    again = Controllers(server)
    found = decoded(server, capsys, *RESTART, "--resume", code=0)
    assert states(found) == {"web": "ready"}
    assert (controllers.restarted, again.restarted) == (["web"], ["web"])
    template = server.objects["deployments", "shop", "web"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {**REQUEST, annotation_for("s"): f"{token_id(server)} (2)"}


def test_workload_that_appeared_after_the_check_is_checked_too(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    Controllers(server)
    called = server.called

    def appear(call: str) -> None:
        called(call)
        if call.startswith("PUT") and "dryRun" not in call:
            put_workload(server, "late")
            server.admitted = lambda found: found

    server.called = appear
    found = decoded(server, capsys, *RESTART, code=1)
    assert found["blocked"] is False
    assert states(found) == {"late": "not-injected", "web": "ready"}


# --- the Policy's default Secret, which no Pod names ---

DAPR: Final[Json] = {names.ENABLED: "true"}
RELOADED: Final[Json] = {"secret.reloader.stakater.com/reload": "s"}
READING_APP: Final[Json] = {
    "name": "app",
    "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}],
}


def default_pod(name: str, *, is_injected: bool = True, apps: tuple[Json, ...] = ()) -> Json:
    found = copy.deepcopy(pod(name))
    found["metadata"] |= {"annotations": dict(DAPR), "creationTimestamp": rfc3339(int(time.time()))}
    if is_injected:
        found["metadata"]["creationTimestamp"] = BEFORE
    else:
        found["spec"]["containers"][0]["env"] = []
    found["spec"]["containers"] += copy.deepcopy(apps)
    return found


def put_default_workload(server: ApiServer, name: str = "web", apps: tuple[Json, ...] = ()) -> None:
    put_workload(server, name, default_pod(name, apps=apps))
    spec = {"containers": [copy.deepcopy(one) for one in apps]}
    template = {"metadata": {"annotations": dict(DAPR)}, "spec": spec}
    server.objects["deployments", "shop", name]["spec"]["template"] = template


@pytest.mark.parametrize("apps", [(), (READING_APP,)], ids=["sidecar", "app-reads-it-too"])
def test_pods_without_their_default_secret_are_found_by_later_runs(
    server: ApiServer, capsys: Capture, apps: tuple[Json, ...]
) -> None:
    put_default_workload(server, apps=apps)
    Controllers(server, make=lambda name: default_pod(name, is_injected=False, apps=apps))
    assert states(decoded(server, capsys, *RESTART, code=1)) == {"web": "not-injected"}
    server.admitted = lambda found: found
    listed = decoded(server, capsys, "list", "-n", "shop", "--fail-on", "open", code=1)
    assert [one["open"] for one in listed["secrets"]] == [["web-2-1"]]
    for command in (RESTART, REVOKE):
        blocked = decoded(server, capsys, *command, "--resume", code=1)
        assert (blocked["blocked"], states(blocked)) == (True, {"web": "not-injected"})
        assert "new Pods would have no token in daprd" in blocked["workloads"][0]["message"]
        assert f"remove its annotation {names.OBSERVED_DEFAULT}" in blocked["workloads"][0]["message"]
    server.admitted = admitted
    repaired = Controllers(server, make=lambda name: default_pod(name, apps=apps))
    assert states(decoded(server, capsys, *RESTART, "--resume", code=0)) == {"web": "ready"}
    assert repaired.restarted == ["web"]
    assert states(decoded(server, capsys, *RESTART, "--resume", code=0)) == {"web": "up-to-date"}
    revoked = decoded(server, capsys, *REVOKE, "--resume", code=0)
    assert (revoked["revoked"], revoked["open"]) == (True, [])


def test_restart_records_the_default_secret_of_a_workload(server: ApiServer, capsys: Capture) -> None:
    put_default_workload(server)
    put_workload(server, "requests")
    server.objects["pods", "shop", "requests-1-1"]["metadata"]["annotations"] = dict(REQUEST)
    Controllers(server)
    assert set(states(decoded(server, capsys, *RESTART, code=0)).values()) == {"ready"}
    recorded = {
        name: (server.objects["deployments", "shop", name]["metadata"].get("annotations") or {})
        for name in ("web", "requests")
    }
    assert recorded == {"web": {names.OBSERVED_DEFAULT: "s/token"}, "requests": {}}


def restart_after_the_write(server: ApiServer, reloader: Controllers) -> None:
    """As Reloader, which watches the Secret."""
    called = server.called

    def restart(call: str) -> None:
        called(call)
        if call.startswith("PUT") and "dryRun" not in call:
            reloader.restart("web")

    server.called = restart


@pytest.mark.parametrize(("looks", "may_patch"), [(1, True), (2, True), (3, True), (3, False)])
def test_reloaded_workload_with_a_reading_app_is_found_by_its_record(
    server: ApiServer, capsys: Capture, looks: int, *, may_patch: bool
) -> None:
    apps = (READING_APP,)
    put_default_workload(server, apps=apps)
    meta = server.objects["deployments", "shop", "web"]["metadata"]
    meta["annotations"] = dict(RELOADED)
    if not may_patch:
        server.refusals = [Refusal("PATCH .*/deployments", 403, "no")]
    reloader = Controllers(server, looks, make=lambda name: default_pod(name, is_injected=False, apps=apps))
    restart_after_the_write(server, reloader)
    assert states(decoded(server, capsys, *RESTART, code=1)) == {"web": "not-injected"}
    assert reloader.restarted == (["web"] if looks == 1 else []), "only a failed restart of Reloader is repeated"
    assert (names.OBSERVED_DEFAULT in server.objects["deployments", "shop", "web"]["metadata"]["annotations"]) is (
        may_patch
    )
    if may_patch:
        repaired = Controllers(server, make=lambda name: default_pod(name, apps=apps))
        found = decoded(server, capsys, *RESTART, "--resume", code=0)
        assert (states(found), repaired.restarted) == ({"web": "ready"}, ["web"])


def test_reloaded_pods_without_their_default_secret_are_found_later(server: ApiServer, capsys: Capture) -> None:
    put_default_workload(server)
    meta = server.objects["deployments", "shop", "web"]["metadata"]
    meta["annotations"] = dict(RELOADED)
    new = default_pod("web", is_injected=False)
    new["metadata"] |= {"name": "web-2-1"}
    del server.objects["pods", "shop", "web-1-1"]
    server.put("pods", new)  # Reloader has restarted it, while the webhook injected nothing
    server.admitted = lambda found: found
    blocked = decoded(server, capsys, *RESTART, "--resume", code=1)
    assert (blocked["blocked"], states(blocked)) == (True, {"web": "not-injected"})
    server.admitted = admitted
    repaired = Controllers(server, make=lambda name: default_pod(name, is_injected=True))
    found = decoded(server, capsys, *RESTART, "--resume", code=0)
    assert (states(found), repaired.restarted) == ({"web": "ready"}, ["web"])


@pytest.mark.parametrize("command", [RESTART, REVOKE])
def test_pods_of_a_fast_restart_by_reloader_are_uncertain(
    server: ApiServer, capsys: Capture, command: tuple[str, ...]
) -> None:
    """They were created within the tolerances, and Reloader restarts the workload only once."""
    put_default_workload(server)
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = dict(RELOADED)

    def early(name: str) -> Json:
        found = default_pod(name)
        changed = server.objects["secrets", "shop", "s"]["metadata"]["managedFields"][0]["time"]
        found["metadata"]["creationTimestamp"] = changed
        found["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = changed
        return found

    reloader = Controllers(server, make=early)
    restart_after_the_write(server, reloader)
    first = decoded(server, capsys, "rotate", "shop/s", "--restart", "--propagation-delay", "0s", code=1)
    assert states(first) == {"web": "uncertain"}
    Controllers(server, make=default_pod)
    options = ("--include-uncertain",) if command is RESTART else ()
    assert states(decoded(server, capsys, *command, "--resume", *options, code=0)) == {"web": "ready"}


def test_record_names_an_unlabelled_secret_that_no_pod_reads(server: ApiServer, capsys: Capture) -> None:
    put_default_workload(server)
    server.objects["secrets", "shop", "s"]["metadata"]["labels"] = {}
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = {names.OBSERVED_DEFAULT: "s/token"}
    server.put("deployments", {**deployment("idle"), "metadata": {"namespace": "shop", "name": "idle"}})
    server.objects["deployments", "shop", "idle"]["metadata"]["annotations"] = {names.OBSERVED_DEFAULT: "gone/token"}
    server.objects["pods", "shop", "web-1-1"]["spec"]["containers"][0]["env"] = []
    found = decoded(server, capsys, "list", "-n", "shop", "--fail-on", "open", code=1)
    assert [(one["name"], one["open"]) for one in found["secrets"]] == [("s", ["web-1-1"])]


# --- what a restart must not take away, and what it cannot reach ---

APP_TOKEN: Final[Json] = {
    "name": names.APP_TOKEN_ENV,
    "valueFrom": {"secretKeyRef": {"name": "t", "key": "token"}},
}


@pytest.mark.parametrize("requests", [True, False])
@pytest.mark.parametrize("checked", [True, False])
def test_restart_for_one_token_does_not_take_away_the_other(
    server: ApiServer, capsys: Capture, *, requests: bool, checked: bool
) -> None:
    def both(name: str, *, is_injected: bool = True) -> Json:
        found = default_pod(name, is_injected=is_injected)
        found["metadata"]["annotations"] |= {names.APP_TOKEN_SECRET: "t"} | (REQUEST if requests else {})
        found["spec"]["containers"][0]["env"] = [APP_TOKEN, *(found["spec"]["containers"][0]["env"])]
        return found

    def without_ours(found: Json) -> Json:
        containers = [
            {**one, "env": [APP_TOKEN]} if one["name"] == "daprd" else one for one in found["spec"]["containers"]
        ]
        return {**found, "spec": {**found["spec"], "containers": containers}}

    server.put("secrets", secret("t"))
    put_default_workload(server)
    server.put("pods", both("web"))
    template = server.objects["deployments", "shop", "web"]["spec"]["template"]
    template["metadata"]["annotations"] = both("web")["metadata"]["annotations"]
    server.admitted = without_ours
    Controllers(server, make=lambda name: both(name, is_injected=False))
    flags = () if checked else ("--skip-admission-check",)
    command = ("rotate", "shop/t", "--restart", "--propagation-delay", "0s", *flags)
    found = decoded(server, capsys, *command, code=1)
    assert (found["blocked"], states(found)) == (checked, {"web": "not-injected"})


@pytest.mark.parametrize("flags", [(), ("--wait=false",), ("--skip-admission-check",)])
@pytest.mark.parametrize("command", [RESTART, REVOKE])
def test_optional_reference_of_a_new_sidecar_is_open_for_later_runs(
    server: ApiServer, capsys: Capture, command: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    def optional(found: Json) -> Json:
        (entry,) = found["spec"]["containers"][0]["env"]
        reference = {**entry["valueFrom"]["secretKeyRef"], "optional": True}
        entry["valueFrom"] = {"secretKeyRef": reference}
        return found

    put_workload(server, "web", requesting_pod("web"))
    Controllers(server, make=lambda name: optional(requesting_pod(name)))
    first = flags if command is RESTART else tuple(one for one in flags if one != "--wait=false")
    decoded(server, capsys, *command, *first, code=1)
    server.admitted = lambda found: optional(admitted(found))
    found = decoded(server, capsys, *command, "--resume", code=1)
    assert (found["blocked"], states(found)) == (True, {"web": "not-injected"})


@pytest.mark.parametrize("command", [RESTART, REVOKE])
def test_pods_that_outlive_their_deployment_are_outdated(
    server: ApiServer, capsys: Capture, command: tuple[str, ...]
) -> None:
    """As after `kubectl delete --cascade=orphan` during the restart."""
    put_workload(server, "web")
    Controllers(server, looks=3)

    def delete_restarted(changed: Json) -> None:
        if annotation_for("s") in str(changed["spec"]["template"]):
            del server.objects["deployments", "shop", "web"]

    server.patched = delete_restarted
    assert run(server, *command, "--timeout=1s") == 1
    out = capsys.readouterr().out
    assert "Deployment shop/web  ready  it was deleted\n" in out
    assert "not complete (outdated Pods: shop/web-1-1); continue with: " in out
    assert ("NOT revoked: still held by shop/web-1-1" in out) is (command is REVOKE)


def test_planned_workload_without_a_pod_at_one_look_is_seen_at_the_end(server: ApiServer, capsys: Capture) -> None:
    put_default_workload(server, "a")
    put_default_workload(server, "b")
    Controllers(server, looks=3, make=default_pod)
    called = server.called
    looks = 0

    def replace_the_other(call: str) -> None:
        nonlocal looks
        called(call)
        template = server.objects["deployments", "shop", "a"]["spec"]["template"]
        if not call.startswith("GET /api/v1/namespaces/shop/pods") or annotation_for("s") not in str(template):
            return
        looks += 1
        if looks == 1:
            server.objects["pods", "shop", "b-1-1"]["metadata"]["deletionTimestamp"] = WRITTEN
        if looks == 2:  # the end of the run is the next look at it
            new = default_pod("b", is_injected=False)
            new["metadata"]["name"] = "b-1-2"
            server.put("pods", new)
            del server.objects["pods", "shop", "b-1-1"]

    server.called = replace_the_other
    found = decoded(server, capsys, *RESTART, code=1)
    assert (states(found), found["open"]) == ({"a": "ready", "b": "up-to-date"}, ["shop/b-1-2"])


# --- Argo Rollouts ---


def argo_pods(count: int) -> list[Json]:
    return [pod("web", number + 1) for number in range(count)]


def test_rotate_restarts_an_argo_rollout_by_time(server: ApiServer, capsys: Capture) -> None:
    put_rollout(server, "web", argo_pods(2))
    argo = ArgoController(server, pod)
    assert run(server, *RESTART, "--dry-run") == 0
    assert capsys.readouterr().out == "Rollout shop/web  planned  outdated: web-1-1, web-1-2\n"
    assert "restartAt" not in server.objects["rollouts", "shop", "web"]["spec"]
    found = decoded(server, capsys, *RESTART, code=0)
    assert states(found) == {"web": "ready"}
    assert argo.replaced == ["web-1-1", "web-1-2"]
    spec = server.objects["rollouts", "shop", "web"]["spec"]
    assert spec["template"] == {}, "no new template, so no canary steps"
    changed = server.objects["secrets", "shop", "s"]["metadata"]["managedFields"][0]["time"]
    assert spec["restartAt"] == changed.replace("00Z", "03Z")
    assert states(decoded(server, capsys, *RESTART, "--resume", code=0)) == {"web": "up-to-date"}
    assert len(argo.replaced) == 2


@pytest.mark.parametrize("requests", [True, False])
def test_new_pod_of_a_rollout_without_the_token_stops_the_rotation(
    server: ApiServer, capsys: Capture, *, requests: bool
) -> None:
    def bare(name: str) -> Json:
        found = open_pod(name)
        if not requests:
            found["metadata"]["annotations"] = {names.ENABLED: "true"}
        return found

    pods = argo_pods(3)
    for one in pods:
        one["metadata"]["annotations"] = {names.ENABLED: "true"}
    put_rollout(server, "web", pods)
    argo = ArgoController(server, bare)
    found = decoded(server, capsys, *RESTART, code=1)
    assert states(found) == {"web": "not-injected"}
    assert found["workloads"][0]["message"].endswith("has no token in daprd: the webhook did not inject it")
    assert len(argo.replaced) < 3
    ArgoController(server, pod)
    began = int(time.time())  # the API server's times have a resolution of a second
    wait_for("another second", lambda: int(time.time()) > began)
    assert states(decoded(server, capsys, *RESTART, "--resume", code=0)) == {"web": "ready"}


def test_cancelled_restart_of_a_rollout_is_reported_and_resumed(server: ApiServer, capsys: Capture) -> None:
    put_rollout(server, "web", argo_pods(2))
    ArgoController(server, pod).is_cancelling = True
    found = decoded(server, capsys, *RESTART, "--timeout=1s", code=1)
    assert states(found) == {"web": "failed"}
    assert "its template changed, which cancels the restart" in found["workloads"][0]["message"]
    ArgoController(server, pod)
    assert states(decoded(server, capsys, *RESTART, "--resume", code=0)) == {"web": "ready"}


def test_rollout_with_the_template_of_a_deployment_is_checked(server: ApiServer, capsys: Capture) -> None:
    put_rollout(server, "web", argo_pods(1))
    server.put("deployments", requesting("source"))
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "source"}
    server.objects["rollouts", "shop", "web"]["spec"] = {"replicas": 1, "workloadRef": reference}
    sent: list[Json] = []

    def keep(found: Json) -> Json:
        sent.append(found)
        return admitted(found)

    server.admitted = keep
    assert run(server, *RESTART, "--dry-run") == 0
    assert [one["metadata"]["annotations"] for one in sent] == [REQUEST]
    assert "its only Pod is replaced: no Pod runs during the restart" in capsys.readouterr().out


@pytest.mark.parametrize("status", [403, 404])
def test_list_works_without_argo_rollouts(server: ApiServer, capsys: Capture, status: int) -> None:
    put_workload(server, "web")
    server.refusals = [Refusal("GET .*/rollouts", status, "no", "Forbidden" if status == 403 else "NotFound")]
    assert decoded(server, capsys, "list", code=0)["secrets"][0]["workloads"] == ["Deployment/web"]
    put_rollout(server, "other", [pod("other")])
    (found,) = decoded(server, capsys, "list", code=0)["secrets"]
    assert "Rollout/other" in found["workloads"]


# --- how to continue ---


def test_failed_rotation_names_workload_and_command(server: ApiServer, capsys: Capture) -> None:
    for name in ("web0", "web1"):
        put_workload(server, name)
    odd = server.kubeconfig.with_name("a b'c")
    odd.write_text(server.kubeconfig.read_text())
    flags = ("--timeout", "1s", "--format", "opaque", "--keep-going", "--max-concurrent=7", "--expires-in", "3d")
    assert main(["secret", *RESTART, *flags, "--kubeconfig", str(odd)]) == 1
    again = (
        "dapr-token-injector secret rotate --restart shop/s --max-concurrent=7 --keep-going --timeout=1s "
        f"--propagation-delay=0s {shlex.quote(f'--kubeconfig={odd}')} --resume"
    )
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"not complete (failed: Deployment shop/web0; not-started: Deployment shop/web1); continue with: {again}"
    )
    Controllers(server).restart("web0")  # now its controller works
    assert main(shlex.split(again)[1:]) == 0


def test_json_has_the_command_that_continues(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    assert decoded(server, capsys, *RESTART, "--dry-run", code=0)["continueWith"] is None
    found = decoded(server, capsys, *RESTART, "--wait=false", "--force", code=1)
    assert found["continueWith"] == (
        f"dapr-token-injector secret rotate --restart shop/s --propagation-delay=0s --output=json "
        f"--kubeconfig={server.kubeconfig} --resume"
    )
    Controllers(server).restart("web")
    assert decoded(server, capsys, *shlex.split(found["continueWith"])[2:], code=0)["continueWith"] is None


def test_lost_connection_names_workload_and_command(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web", requesting_pod("web"))
    server.patched = lambda _: server.refusals.append(Refusal("GET .*/pods", 403, "no", "Forbidden"))
    assert run(server, *EACH, "-A") == 2
    assert capsys.readouterr().err.endswith(
        "; restarting: Deployment shop/web; continue with: dapr-token-injector secret rotate --restart s "
        f"--all-namespaces --propagation-delay=0s --kubeconfig={server.kubeconfig} --resume\n"
    )


def test_rotation_by_another_process_names_the_command(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")

    def rotate_again(_: Json) -> None:
        server.objects["secrets", "shop", "s"]["metadata"]["annotations"][names.TOKEN_ID] = "later"

    server.patched = rotate_again
    assert run(server, *RESTART) == 2
    assert capsys.readouterr().err.endswith(
        "Error: Secret shop/s was rotated again by another process; restarting: Deployment shop/web; continue with: "
        f"dapr-token-injector secret rotate --restart shop/s --propagation-delay=0s --kubeconfig={server.kubeconfig} "
        "--resume\n"
    )


def test_reloader_that_does_not_restart_is_named(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.objects["deployments", "shop", "web"]["metadata"]["annotations"] = dict(RELOADED)
    found = decoded(server, capsys, *RESTART, "--timeout=1s", code=1)
    assert states(found) == {"web": "failed"}
    message = "Reloader should restart it and has not within 1 s; see the log of Reloader"
    assert found["workloads"][0]["message"] == message
    server.objects["deployments", "shop", "web"]["status"]["updatedReplicas"] = 0
    found = decoded(server, capsys, *RESTART, "--resume", "--timeout=1s", code=1)
    assert found["workloads"][0]["message"] == "not ready within 1 s: Reloader restarts it"


# --- many namespaces ---


def put_namespace(server: ApiServer, name: str, *, foreign: bool = False, workloads: int = 1) -> None:
    """A namespace with the label dapr=on, the Secret and workloads that read it."""
    server.put("namespaces", {"metadata": {"name": name, "labels": {"dapr": "on"}}})
    found = server.put("secrets", secret("s", within=name))
    if foreign:
        found["metadata"]["annotations"]["reconcile.external-secrets.io/data-hash"] = "x"
    for number in range(workloads):
        server.put("pods", pod(f"{name}{number}", within=name))
        server.put("replicasets", replica_set(f"{name}{number}", name))
        server.put("deployments", deployment(f"{name}{number}", name))


@pytest.mark.parametrize(("flags", "chosen"), [(("--namespace-selector", "dapr=on"), "ab"), (("-A",), "abs")])
def test_rotation_in_selected_namespaces(
    server: ApiServer, capsys: Capture, flags: tuple[str, ...], chosen: str
) -> None:
    for name in "ab":
        put_namespace(server, name)
    server.put("namespaces", {"metadata": {"name": "empty", "labels": {"dapr": "on"}}})
    Controllers(server)
    assert run(server, *EACH, *flags, "-o", "json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [one["namespace"][0] for one in found["secrets"]] == list(chosen)
    assert len({one["id"] for one in found["secrets"]}) == len(chosen), "a token for each"
    assert states(found) == {"a0": "ready", "b0": "ready"}
    assert "left out, does not exist: empty/s\n" in printed.err
    assert run(server, "rotate", "none", *flags) == 2
    assert "no Secret to rotate: no namespace has none" in capsys.readouterr().err


def test_secret_of_another_tool_is_left_out_on_request(server: ApiServer, capsys: Capture) -> None:
    put_namespace(server, "a", foreign=True)
    put_namespace(server, "b")
    Controllers(server)
    assert run(server, *EACH, "--namespace-selector", "dapr=on") == 2
    assert "Secret a/s is managed by External Secrets Operator" in capsys.readouterr().err
    assert written_calls(server) == []
    before = copy.deepcopy(server.objects["secrets", "a", "s"])
    flags = ("--namespace-selector", "dapr=on", "--skip-foreign")
    assert run(server, "revoke", "s", "--propagation-delay", "0s", *flags) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith("\nrevoked: no process holds the previous token; 1 Secret left out\n")
    assert "Secret a/s is managed by External Secrets Operator" in printed.err
    assert " and was left out\n" in printed.err
    assert server.objects["secrets", "a", "s"] == before
    found = decoded(server, capsys, *EACH, *flags, "--resume", code=0)
    assert (found["skipped"], [one["namespace"] for one in found["secrets"]]) == (["a/s"], ["b"])
    assert run(server, "rotate", "a/s", "--skip-foreign") == 2
    assert "no Secret to rotate: all are managed by another tool" in capsys.readouterr().err


def test_failed_workload_stops_only_its_namespace_with_keep_going(server: ApiServer, capsys: Capture) -> None:
    for name in ("a", "b"):
        put_namespace(server, name, workloads=2)
    Controllers(server, make=lambda name: open_pod(name) if name == "a0" else pod(name))
    found = decoded(server, capsys, *EACH, "--namespace-selector", "dapr=on", "--keep-going", code=1)
    assert states(found) == {"a0": "not-injected", "a1": "not-started", "b0": "ready", "b1": "ready"}


def test_invalid_namespace_selector_is_named(server: ApiServer, capsys: Capture) -> None:
    server.refusals = [Refusal("GET /api/v1/namespaces[?]", 400, "unable to parse requirement", "BadRequest")]
    for command in (("create", "s"), ("rotate", "s"), ("revoke", "s")):
        assert run(server, *command, "--namespace-selector", "a==") == 2
        error = capsys.readouterr().err
        assert error.startswith("Error: --namespace-selector: cannot list namespaces")
        assert "unable to parse requirement" in error


# --- Pods that are uncertain or open ---


def uncertain_pod(name: str) -> Json:
    """A Pod that started seconds after the Secret's data changed."""
    found = copy.deepcopy(pod(name))
    found["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = WRITTEN.replace("00Z", "05Z")
    return found


def test_uncertain_pod_is_reported_and_not_restarted(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web", uncertain_pod("web"))
    assert run(server, *RESTART, "--resume") == 1
    assert capsys.readouterr().out == (
        "Deployment shop/web  uncertain  started within the tolerances of clocks and caches; "
        "restart with --include-uncertain; uncertain: web-1-1\n"
        "not complete (uncertain: Deployment shop/web); continue with: dapr-token-injector secret rotate --restart "
        f"shop/s --resume --propagation-delay=0s --kubeconfig={server.kubeconfig} --include-uncertain\n"
    )
    assert written_calls(server) == []


def test_uncertain_pod_is_restarted_on_request(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web", uncertain_pod("web"))
    controllers = Controllers(server)
    found = decoded(server, capsys, *RESTART, "--resume", "--include-uncertain", code=0)
    assert states(found) == {"web": "ready"}
    assert controllers.restarted == ["web"]


def test_revoke_restarts_uncertain_pods(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web", uncertain_pod("web"))
    Controllers(server)
    assert run(server, *REVOKE, "--resume") == 0
    assert capsys.readouterr().out.endswith("revoked: no process holds the previous token\n")


def test_report_names_command_for_remaining_pods(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    put_workload(server, "open", open_pod("open"))
    server.put("pods", open_pod("open", 2))
    assert run(server, "rotate", "shop/s") == 1
    again = f"dapr-token-injector secret rotate shop/s --kubeconfig={server.kubeconfig} --restart --resume"
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"1 Pod that runs an outdated token; restart with: {again}",
        f"2 Pods that can serve without a token; restart with: {again}",
    ]


def test_report_names_the_flag_for_uncertain_pods(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web", uncertain_pod("web"))
    server.patched = lambda _: None
    assert run(server, *RESTART, "--resume", "--wait=false") == 1
    again = (
        "dapr-token-injector secret rotate --restart shop/s --resume --propagation-delay=0s "
        f"--kubeconfig={server.kubeconfig}"
    )
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"1 Pod that may run an outdated token; wait for them with: {again} --include-uncertain"
    ]


def test_open_pod_is_restarted_and_gets_the_token(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web", open_pod("web"))
    controllers = Controllers(server)
    found = decoded(server, capsys, *RESTART, code=0)
    assert states(found) == {"web": "ready"}
    assert controllers.restarted == ["web"]


def test_revoke_is_incomplete_while_a_pod_is_open(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    server.put("pods", open_pod("alone", owner=False))
    Controllers(server)
    assert run(server, *REVOKE) == 1
    out = capsys.readouterr().out
    assert "NOT revoked: open: shop/alone-1-1" in out
    assert "\nrevoked" not in out
    found = decoded(server, capsys, *REVOKE, "--resume", code=1)
    assert (found["revoked"], found["open"]) == (False, ["shop/alone-1-1"])
    assert states(found) == {"web": "up-to-date", "alone-1-1": "skipped"}


@pytest.mark.parametrize("make", [open_pod, pod])
def test_revoke_waits_for_a_pod_that_is_ending(server: ApiServer, capsys: Capture, make: Callable[[str], Json]) -> None:
    ending = copy.deepcopy(make("web"))
    ending["metadata"]["deletionTimestamp"] = WRITTEN
    put_workload(server, "web", ending)
    looks: list[str] = []

    def end(call: str) -> None:
        if call.startswith("GET /api/v1/namespaces/shop/pods"):
            looks.append(call)
        if len(looks) == 5:
            server.objects.pop(("pods", "shop", "web-1-1"), None)

    server.called = end
    found = decoded(server, capsys, *REVOKE, code=0)
    assert (found["revoked"], found["open"], found["outdated"]) == (True, [], [])
    assert len(looks) == 5


def test_revoke_is_incomplete_while_a_new_pod_is_open(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    Controllers(server, make=open_pod)
    found = decoded(server, capsys, *REVOKE, code=1)
    assert states(found) == {"web": "not-injected"}
    assert (found["revoked"], found["open"]) == (False, ["shop/web-2-1"])


def test_revoke_is_incomplete_while_a_pod_holds_the_token(server: ApiServer, capsys: Capture) -> None:
    server.put("pods", pod("alone", owner=False))
    assert run(server, *REVOKE) == 1
    printed = capsys.readouterr()
    assert "NOT revoked: still held by shop/alone-1-1" in printed.out
    assert "not revoked yet, held by: shop/alone-1-1" in printed.err


def test_revoke_dry_run_is_not_reported_as_revoked(server: ApiServer, capsys: Capture) -> None:
    assert run(server, *REVOKE, "--dry-run") == 0
    assert capsys.readouterr().out == "no running Pod uses these Secrets\n"
    assert decoded(server, capsys, *REVOKE, "--dry-run", code=0)["revoked"] is False


# --- list ---


def test_list_counts_outdated_uncertain_and_open_pods(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    put_workload(server, "unsure", uncertain_pod("unsure"))
    put_workload(server, "open", open_pod("open"))
    for found in (pod("web", 2), open_pod("open", 2)):
        server.put("pods", found)
    assert run(server, "list") == 0
    head, row, *details = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "SECRET AGE EXPIRES PODS OUTDATED UNCERTAIN OPEN"
    assert row.split()[-5:] == ["-", "5", "2", "1", "2"]
    used = "Deployment/open, Deployment/unsure, Deployment/web"
    assert " ".join(" ".join(details).split()) == f"token (api), id bcdfghjklm, ours; used by {used}"
    (found,) = decoded(server, capsys, "list", code=0)["secrets"]
    assert found["outdated"] == ["web-1-1", "web-1-2"]
    assert found["uncertain"] == ["unsure-1-1"]
    assert found["open"] == ["open-1-1", "open-1-2"]


def test_list_fits_80_columns(server: ApiServer, capsys: Capture) -> None:
    long = "a-namespace-with-a-long-name/a-secret-with-a-name-that-is-long-as-well"
    within, _, name = long.partition("/")
    server.put("secrets", secret(name, within=within))
    external = server.put("secrets", secret("t"))
    external["metadata"]["annotations"] |= {"reconcile.external-secrets.io/x": "", names.TOKEN_EXPIRES: WRITTEN}
    for number in range(9):
        put_workload(server, f"a-workload-with-a-long-name-{number}")
    server.put("pods", pod("lost", owner=False, secret="not-there"))
    server.objects["secrets", "shop", "s"]["data"] = {"other": "eA=="}
    assert run(server, "list") == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert long in printed, "a name is never cut"
    text = " ".join(" ".join(printed).split())
    for number in range(9):
        assert f"Deployment/a-workload-with-a-long-name-{number}" in text
    assert "token (api), MISSING; used by Pod/lost-1-1" in text
    assert "token (api), id bcdfghjklm, NO SUCH KEY; used by Deployment/" in text
    assert "EXPIRED 0 0 0 0 token (api), id bcdfghjklm, managed by External Secrets Operator; not used" in text


def test_list_names_owners_without_permission_to_list_them(server: ApiServer, capsys: Capture) -> None:
    put_workload(server, "web")
    message = 'deployments.apps is forbidden: User "jane" cannot list resource "deployments" in API group "apps"'
    server.refusals = [Refusal("GET .*/deployments[?]", 403, message, "Forbidden")]
    assert decoded(server, capsys, "list", code=0)["secrets"][0]["workloads"] == ["Deployment/web"]
    assert server.counted()["GET deployments"] == 1


def test_list_has_requested_secrets_that_do_not_exist(server: ApiServer, capsys: Capture) -> None:
    del server.objects["secrets", "shop", "s"]
    put_workload(server, "web", open_pod("web"))
    (found,) = decoded(server, capsys, "list", code=0)["secrets"]
    assert (found["exists"], found["key"], found["open"]) == (False, "token", ["web-1-1"])


def test_sidecar_with_an_optional_reference_is_open(server: ApiServer, capsys: Capture) -> None:
    optional = pod("web")
    optional["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["optional"] = True
    put_workload(server, "web", optional)
    assert decoded(server, capsys, "list", code=0)["secrets"][0]["open"] == ["web-1-1"]
    server.objects["secrets", "shop", "s"]["data"] = {"other": "eA=="}
    rows = decoded(server, capsys, "list", code=0)["secrets"]
    assert {row["key"]: row["open"] for row in rows} == {"other": [], "token": ["web-1-1"]}
    del server.objects["secrets", "shop", "s"]
    assert decoded(server, capsys, "list", code=0)["secrets"][0]["open"] == ["web-1-1"]


@pytest.mark.parametrize(
    ("words", "found", "code"),
    [
        ("", pod("web"), 0),
        ("outdated", pod("web"), 1),
        ("open", pod("web"), 0),
        ("outdated", open_pod("web"), 0),
        ("open", open_pod("web"), 1),
        ("outdated,open", open_pod("web"), 1),
        (" open , outdated ,", pod("web"), 1),
        ("outdated", uncertain_pod("web"), 0),
        ("expiring", pod("web"), 0),
    ],
)
def test_list_fails_on_named_states(server: ApiServer, capsys: Capture, words: str, found: Json, code: int) -> None:
    put_workload(server, "web", copy.deepcopy(found))
    assert run(server, "list", "--fail-on", words) == code
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("expires_in", "flags", "code"),
    [
        (None, (), 0),
        (-60, (), 1),
        (60, (), 1),
        (6 * 86_400, (), 1),
        (8 * 86_400, (), 0),
        (8 * 86_400, ("--expiring-within", "9d"), 1),
        (60, ("--expiring-within", "0s"), 0),
        (-60, ("--expiring-within", "0s"), 1),
    ],
)
def test_list_fails_on_tokens_that_expire_soon(
    server: ApiServer, expires_in: int | None, flags: tuple[str, ...], code: int
) -> None:
    if expires_in is not None:
        annotations = server.objects["secrets", "shop", "s"]["metadata"]["annotations"]
        annotations[names.TOKEN_EXPIRES] = rfc3339(int(time.time()) + expires_in)
    assert run(server, "list", "--fail-on", "expiring", *flags) == code
    assert run(server, "list", "--fail-on", "outdated,open", *flags) == 0


def test_list_reports_unknown_without_managed_fields(server: ApiServer, capsys: Capture) -> None:
    server.objects["secrets", "shop", "s"]["metadata"]["managedFields"] = []
    assert run(server, "list", "--fail-on", "outdated") == 0, "no Pod uses it"
    put_workload(server, "web")
    capsys.readouterr()
    assert run(server, "list", "--fail-on", "outdated") == 2
    printed = capsys.readouterr()
    assert printed.err == "unknown: shop/s: no managed fields, so nothing shows when the data changed\n"
    assert "shop/s" in printed.out
    assert run(server, "list", "--fail-on", "open") == 0


def test_list_finds_an_open_pod_although_the_change_is_unknown(server: ApiServer) -> None:
    server.objects["secrets", "shop", "s"]["metadata"]["managedFields"] = []
    put_workload(server, "web", open_pod("web"))
    assert run(server, "list", "--fail-on", "outdated,open") == 1


def test_empty_list_is_reported(server: ApiServer, capsys: Capture) -> None:
    del server.objects["secrets", "shop", "s"]
    assert run(server, "list", "--fail-on", "outdated,open,expiring") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("No token Secrets found: ")


def test_pod_that_waited_for_first_value_is_up_to_date(server: ApiServer, capsys: Capture) -> None:
    meta = server.objects["secrets", "shop", "s"]["metadata"]
    meta["creationTimestamp"] = WRITTEN
    waited = uncertain_pod("web")
    waited["status"]["startTime"] = BEFORE
    put_workload(server, "web", waited)
    (found,) = decoded(server, capsys, "list", code=0)["secrets"]
    assert (found["pods"], found["outdated"], found["uncertain"]) == (1, [], [])
