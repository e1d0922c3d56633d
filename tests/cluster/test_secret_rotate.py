"""`secret rotate` and `secret revoke` on a real API server with real controllers and a fake kubelet."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.forwarder import Forwarder
from tests.cluster.kubelet import running, wait_until_starts_are_past
from tests.cluster.objects import APP, SECRET, SIDECAR, pod, token_variable
from tests.cluster.tokencommands import QUICK, Commands, Done, limited, marker, workload
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.kubelet import Kubelet
    from tests.controlplane.kubectl import Kubectl

RESTARTED = f"restarted-for.dapr-token-injector/{SECRET}"


def restarted_for(kubectl: Kubectl) -> set[str | None]:
    """For which token the running Pods were made."""
    pods = [one for one in kubectl.list("pods") if "deletionTimestamp" not in one["metadata"]]
    return {(one["metadata"].get("annotations") or {}).get(RESTARTED) for one in pods}


def available(kubectl: Kubectl) -> dict[str, int]:
    """How many Pods of each workload are ready for as long as it asks."""
    found = kubectl.list("deployments,statefulsets")
    return {one["metadata"]["name"]: one["status"].get("availableReplicas", 0) for one in found}


def is_marked(kubectl: Kubectl, deployment: str) -> bool:
    """Whether the restart of a Deployment has started."""
    template = kubectl.get("deployment", deployment)["spec"]["template"]
    return RESTARTED in template["metadata"].get("annotations", {})


def states(done: Done) -> dict[str, str]:
    return {f"{one['kind']}/{one['name']}": one["state"] for one in done.json["workloads"]}


def test_rotate_restarts_every_workload_with_the_new_token(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "web", replicas=3, minReadySeconds=1))
    commands.kubectl.create(workload("StatefulSet", "db", minReadySeconds=1))
    running(commands.kubectl, 5)
    before = commands.value()
    done = commands.run("secret", "rotate", commands.secret, "--restart", "-o", "json", *QUICK)

    assert done.code == 0, done
    assert states(done) == {"Deployment/web": "ready", "StatefulSet/db": "ready"}
    assert commands.value() != before
    assert available(commands.kubectl) == {"web": 3, "db": 2}, "the last Pod's minReadySeconds are waited for"
    assert restarted_for(commands.kubectl) == {commands.token_id()}
    assert "Deployment" in done.err
    deployment = commands.kubectl.run("get", "deployment", "web", "-o", "json", "--show-managed-fields").stdout
    assert '"manager": "dapr-token-injector"' in deployment


def test_rotate_with_explicit_token_keeps_other_keys(commands: Commands) -> None:
    commands.kubectl.run(
        "patch", "secret", SECRET, "-p", '{"data":{"other":"eA=="}}', "--field-manager=dapr-token-injector"
    )
    token = marker()
    assert commands.run("secret", "rotate", commands.secret, "--token-stdin", stdin=token).code == 0
    assert (commands.value(), commands.value(key="other")) == (token, "x")
    assert token not in "".join(commands.output)


def test_writer_of_another_key_neither_owns_nor_outdates(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "web", replicas=1))
    running(commands.kubectl, 1)
    assert commands.run("secret", "rotate", commands.secret, "--restart", *QUICK).code == 0
    commands.kubectl.run("patch", "secret", SECRET, "-p", '{"data":{"other":"eA=="}}', "--field-manager=another")
    rows = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert [(row["key"], row["owner"], row["pods"], row["outdated"]) for row in rows] == [
        ("other", "another", 0, []),
        ("token", None, 1, []),
    ]
    done = commands.run("secret", "rotate", commands.secret, "--restart", *QUICK)
    assert done.code == 0, done
    assert commands.value(key="other") == "x"
    assert restarted_for(commands.kubectl) == {commands.token_id()}


def test_rotate_without_restart_lists_outdated_workloads(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "web"))
    running(commands.kubectl, 2)
    done = commands.run("secret", "rotate", commands.secret)

    assert done.code == 1
    again = f"dapr-token-injector secret rotate {commands.secret} --restart --resume"
    assert f"2 Pods that run an outdated token; restart with: {again}" in done.out
    assert restarted_for(commands.kubectl) == {None}
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert len(row["outdated"]) == 2
    resumed = commands.run("secret", "rotate", commands.secret, "--restart", "--resume")
    assert resumed.code == 0
    assert restarted_for(commands.kubectl) == {commands.token_id()}
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert (row["outdated"], row["pods"], row["workloads"]) == ([], 2, ["Deployment/web"])


def hold_everything(kubectl: Kubectl) -> None:
    """One workload of each sort that is never restarted, all running."""
    kubectl.create(workload("Deployment", "paused"))
    kubectl.create(workload("StatefulSet", "on-delete", updateStrategy={"type": "OnDelete"}))
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    kubectl.create(workload("StatefulSet", "partition", updateStrategy=partition))
    kubectl.create(workload("Job", "job"))
    kubectl.create(workload("ReplicaSet", "replica-set", replicas=1))
    bare = pod({}, APP, {**SIDECAR, "env": [token_variable()]})
    bare["metadata"]["name"] = "bare"
    kubectl.create(bare)
    owned = pod({}, APP, {**SIDECAR, "env": [token_variable()]})
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "canary", "uid": "1", "controller": True}
    owned["metadata"] |= {"name": "owned", "ownerReferences": [owner]}
    kubectl.create(owned)
    running(kubectl, 10)
    kubectl.run("patch", "deployment", "paused", "-p", '{"spec":{"paused":true}}')


SKIPPED = {
    "Deployment/paused",
    "StatefulSet/on-delete",
    "StatefulSet/partition",
    "Job/job",
    "ReplicaSet/replica-set",
    "Pod/bare",
    "Rollout/canary",
}


def test_rotate_skips_and_reports_workloads_unsafe_to_restart(commands: Commands) -> None:
    hold_everything(commands.kubectl)
    kinds = "deployments,statefulsets,jobs,replicasets,pods"
    before = {one["metadata"]["uid"]: one["metadata"].get("generation") for one in commands.kubectl.list(kinds)}
    planned = commands.run("secret", "rotate", commands.secret, "--restart", "--dry-run", "-o", "json")
    done = commands.run("secret", "rotate", commands.secret, "--restart", "-o", "json", *QUICK)

    assert (planned.code, done.code) == (0, 1)
    assert states(planned) == states(done) == dict.fromkeys(SKIPPED, "skipped")
    assert all(one["message"] and one["outdated"] for one in done.json["workloads"])
    assert {one["metadata"]["uid"]: one["metadata"].get("generation") for one in commands.kubectl.list(kinds)} == before


def test_rotate_restarts_pods_above_the_partition_and_reports_others(commands: Commands) -> None:
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    commands.kubectl.create(workload("StatefulSet", "db", replicas=3, updateStrategy=partition))
    running(commands.kubectl, 3)
    done = commands.run("secret", "rotate", commands.secret, "--restart", "-o", "json", *QUICK)

    assert done.code == 1
    (row,) = done.json["workloads"]
    assert (row["state"], row["outdated"]) == ("ready", ["db-0"])
    assert row["message"].startswith("partition: ")


def test_plan_writes_nothing(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "web"))
    running(commands.kubectl, 2)
    before = commands.kubectl.get("secret", SECRET)
    done = commands.run("secret", "rotate", commands.secret, "--restart", "--dry-run")

    assert done.code == 0
    assert "web  planned" in done.out
    assert commands.kubectl.get("secret", SECRET) == before
    assert restarted_for(commands.kubectl) == {None}


def test_workload_that_does_not_become_ready_stops_the_rollout(commands: Commands) -> None:
    for name in ("a", "b", "c"):
        commands.kubectl.create(workload("Deployment", name))
    running(commands.kubectl, 6)
    labels = '{"spec":{"paused":true,"template":{"metadata":{"labels":{"broken":"yes"}}}}}'
    commands.kubectl.run("patch", "deployment", "a", "-p", labels)
    commands.kubectl.run("patch", "deployment", "a", "-p", '{"spec":{"paused":false}}')
    done = commands.run("secret", "rotate", commands.secret, "--restart", "--timeout", "4s", "-o", "json", *QUICK)

    assert done.code == 1
    assert states(done) == {"Deployment/a": "failed", "Deployment/b": "not-started", "Deployment/c": "not-started"}
    assert "not ready within 4 s" in done.json["workloads"][0]["message"]


def test_quota_that_blocks_new_pods_is_reported(commands: Commands) -> None:
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    commands.kubectl.create(workload("Deployment", "web", replicas=1, strategy=strategy))
    running(commands.kubectl, 1)
    commands.kubectl.run("create", "quota", "small", "--hard=pods=1")
    wait_for("the quota", lambda: commands.kubectl.get("quota", "small").get("status", {}).get("used"))
    rotate = ("secret", "rotate", commands.secret, "--restart", "--timeout", "30s", "-o", "json", *QUICK)
    before = commands.value()
    blocked = commands.run(*rotate)
    assert blocked.code == 1
    (row,) = blocked.json["workloads"]
    assert (row["state"], blocked.json["blocked"]) == ("unknown", True)
    assert "exceeded quota: small" in row["message"]
    assert commands.value() == before

    done = commands.run(*rotate, "--skip-admission-check")

    assert done.code == 1
    (row,) = done.json["workloads"]
    assert row["state"] == "failed"
    assert row["message"].startswith("not ready within 30 s: exceeded quota: small, requested: pods=1")


def rotate_and_patch(commands: Commands, kubelet: Kubelet, patch: str) -> Done:
    """Rotate while new Pods do not become ready, and change the Deployment once it was restarted."""
    commands.kubectl.create(workload("Deployment", "web", replicas=1))
    running(commands.kubectl, 1)
    kubelet.never_ready = "app"
    process = commands.start("secret", "rotate", commands.secret, "--restart", "-o", "json", *QUICK)

    wait_for("the restart", lambda: is_marked(commands.kubectl, "web"))
    commands.kubectl.run("patch", "deployment", "web", "--type=merge", "-p", patch)
    return commands.ended(process)


def test_removed_restart_annotation_is_reported(commands: Commands, kubelet: Kubelet) -> None:
    done = rotate_and_patch(commands, kubelet, '{"spec":{"template":{"metadata":{"annotations":null}}}}')

    assert done.code == 1
    (row,) = done.json["workloads"]
    assert (row["state"], row["message"]) == ("failed", "another manager removed our annotation from its template")
    assert len(row["outdated"]) == 1


def test_workload_paused_during_the_rollout_is_reported(commands: Commands, kubelet: Kubelet) -> None:
    done = rotate_and_patch(commands, kubelet, '{"spec":{"paused":true}}')

    assert done.code == 1
    assert done.json["workloads"][0]["message"].startswith("changed during the rollout: paused: ")


def test_rotate_without_waiting_starts_all_restarts(commands: Commands, kubelet: Kubelet) -> None:
    for name in ("a", "b", "c"):
        commands.kubectl.create(workload("Deployment", name))
    running(commands.kubectl, 6)
    with kubelet.paused():  # new Pods do not become ready, so no old one ends before the check
        done = commands.run("secret", "rotate", commands.secret, "--restart", "--wait=false", "-o", "json", *QUICK)

    assert set(states(done).values()) == {"started"}
    assert done.code == 1, "exit code 0 means that no Pod holds an outdated token; nothing has waited for that"
    assert len(done.json["outdated"]) == 6
    wait_for("all restarted", lambda: restarted_for(commands.kubectl) == {commands.token_id()})
    again = commands.run("secret", "rotate", commands.secret, "--restart", "--resume", "--wait=false", *QUICK)
    assert again.code == 0, again


@pytest.mark.timeout(900, func_only=True)  # two dozen rotations, one after the other
def test_command_killed_at_any_write_completes_when_run_again(commands: Commands, tmp_path: Path) -> None:
    for name in ("a", "b"):
        commands.kubectl.create(workload("Deployment", name, replicas=1))
    running(commands.kubectl, 2)
    rotate = ("secret", "rotate", commands.secret, "--restart", *QUICK)
    log = tmp_path / "log"
    assert commands.run_and_crash(log, 99, *rotate).code == 0
    writes = log.read_text().splitlines()
    assert [line.split()[0] for line in writes] == ["PUT", "PATCH", "PATCH"]
    for limit in range(len(writes)):
        for again in (rotate, (*rotate, "--resume")):
            before = commands.value()
            assert commands.run_and_crash(tmp_path / "other", limit, *rotate).code == 137
            crashed = commands.value()
            assert (crashed != before) is (limit > 0)
            done = commands.run(*again)
            assert done.code == 0, done
            assert restarted_for(commands.kubectl) == {commands.token_id()}
            assert (commands.value() == crashed) is ("--resume" in again)


def test_rotate_survives_a_short_api_server_outage(commands: Commands, kubelet: Kubelet, tmp_path: Path) -> None:
    kubectl = commands.kubectl
    kubectl.create(workload("Deployment", "web", replicas=1))
    running(kubectl, 1)
    kubelet.never_ready = "app"
    server = kubectl.run("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}").stdout
    with Forwarder(server) as forwarder:
        config = json.loads(kubectl.run("config", "view", "--raw", "-o", "json").stdout)
        config["clusters"][0]["cluster"]["server"] = forwarder.url
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        process = Commands(kubectl, path).start("secret", "rotate", commands.secret, "--restart", *QUICK)

        # Not the mark: the template has it before the command has the answer, and a cut between them ends the command.
        assert process.stderr is not None
        assert any(": restarting" in line for line in process.stderr)
        forwarder.cut()
        wait_for("attempts while it is away", lambda: forwarder.refused >= 2)
        forwarder.restore()
        kubelet.never_ready = ""
        for one in kubectl.list("pods"):
            if RESTARTED in (one["metadata"].get("annotations") or {}):
                kubectl.run("delete", "pod", one["metadata"]["name"])
        done = commands.ended(process)
    assert done.code == 0, done
    assert restarted_for(kubectl) == {commands.token_id()}


def test_rotate_continues_when_a_workload_is_deleted(commands: Commands) -> None:
    for name in ("a", "b"):
        commands.kubectl.create(workload("Deployment", name))
    running(commands.kubectl, 4)
    process = commands.start(
        "secret", "rotate", commands.secret, "--restart", "--max-concurrent-per-namespace", "1", *QUICK
    )
    wait_for("the first restart", lambda: is_marked(commands.kubectl, "a"))
    commands.kubectl.delete("deployment", "b")
    done = commands.ended(process)

    assert done.code == 0, done
    # The garbage collector takes its time with the Pods of the deleted one.
    wait_for("only new Pods", lambda: restarted_for(commands.kubectl) == {commands.token_id()})


def test_rotate_interrupted_by_ctrl_c_prints_how_to_resume(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "a"))
    running(commands.kubectl, 2)
    commands.kubectl.run(
        "patch", "deployment", "a", "-p", '{"spec":{"paused":true,"template":{"metadata":{"labels":{"broken":"yes"}}}}}'
    )
    commands.kubectl.run("patch", "deployment", "a", "-p", '{"spec":{"paused":false}}')
    process = commands.start("secret", "rotate", commands.secret, "--restart", *QUICK)
    assert process.stderr is not None
    assert any(": restarting" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    done = commands.ended(process)

    assert done.code == 2
    assert "interrupted; restarting: Deployment " in done.err
    assert f"; continue with: dapr-token-injector secret rotate --restart {commands.secret} " in done.err


def test_concurrent_rotates_end_with_one_token_everywhere(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "web"))
    running(commands.kubectl, 2)
    processes = [commands.start("secret", "rotate", commands.secret, "--restart", *QUICK) for _ in range(3)]
    ended = [commands.ended(process) for process in processes]

    for done in ended:
        if done.code == 2:
            assert "at the same time; run it again" in done.err or "was rotated again by another process" in done.err
        # The Pods of one rotation may start in the second in which the next one changes the Secret.
        assert done.code != 1 or "uncertain" in done.out + done.err, ended
    if 0 not in {done.code for done in ended}:
        resumed = commands.run(
            "secret", "rotate", commands.secret, "--restart", "--resume", "--include-uncertain", *QUICK
        )
        assert resumed.code == 0, (ended, resumed)
    assert restarted_for(commands.kubectl) == {commands.token_id()}


def test_api_and_app_token_of_a_workload_need_one_restart(commands: Commands) -> None:
    assert commands.run("secret", "create", f"{commands.kubectl.namespace}/app-token", "--app-token").code == 0
    web = workload("Deployment", "web")
    web["spec"]["template"]["spec"]["containers"][1]["env"].append(
        {"name": "APP_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "app-token", "key": "token"}}}
    )
    commands.kubectl.create(web)
    running(commands.kubectl, 2)
    names = (commands.secret, f"{commands.kubectl.namespace}/app-token")
    assert commands.run("secret", "rotate", *names, "--restart", *QUICK).code == 0
    assert len(commands.kubectl.list("replicasets")) == 2
    assert commands.kubectl.get("deployment", "web")["spec"]["template"]["metadata"]["annotations"] == {
        RESTARTED: commands.token_id(),
        "restarted-for.dapr-token-injector/app-token": commands.token_id("app-token"),
    }


def test_token_is_revoked_after_the_last_outdated_pod_ended(commands: Commands) -> None:
    web = workload("Deployment", "web", replicas=1)
    web["spec"]["template"]["metadata"]["finalizers"] = ["example.invalid/still-running"]
    commands.kubectl.create(web)
    (old,) = running(commands.kubectl, 1)
    name = old["metadata"]["name"]
    process = commands.start("secret", "revoke", commands.secret, "-o", "json", *QUICK)

    def is_ending() -> bool:
        return "deletionTimestamp" in commands.kubectl.get("pod", name)["metadata"]

    wait_for("the old Pod to be terminating", is_ending)
    ready = "{.status.availableReplicas}{.status.updatedReplicas}"
    wait_for(
        "the new Pod", lambda: commands.kubectl.run("get", "deploy", "web", "-o", f"jsonpath={ready}").stdout == "11"
    )
    assert process.poll() is None
    commands.kubectl.run("patch", "pod", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    done = commands.ended(process)
    assert done.code == 0, done
    assert done.json["revoked"] is True
    for one in commands.kubectl.list("pods"):
        commands.kubectl.run(
            "patch", "pod", one["metadata"]["name"], "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )


def test_token_is_not_revoked_while_a_workload_is_skipped(commands: Commands) -> None:
    bare = pod({}, APP, {**SIDECAR, "env": [token_variable()]})
    commands.kubectl.create(bare)
    running(commands.kubectl, 1)
    done = commands.run("secret", "revoke", commands.secret, *QUICK)

    assert done.code == 1
    assert f"NOT revoked: still held by {commands.kubectl.namespace}/shop" in done.out


def test_change_by_another_manager_outdates_marked_pods(commands: Commands) -> None:
    commands.kubectl.create(workload("Deployment", "web", replicas=1))
    running(commands.kubectl, 1)
    assert commands.run("secret", "rotate", commands.secret, "--restart", *QUICK).code == 0
    wait_until_starts_are_past(commands.kubectl)
    changed = int(time.time())
    commands.kubectl.run("patch", "secret", SECRET, "-p", '{"stringData":{"token":"changed-by-another-manager"}}')
    refused = commands.run("secret", "rotate", commands.secret)
    assert refused.code == 2
    assert "is managed by kubectl-patch (this field manager wrote the key token)" in refused.err
    assert commands.run("secret", "rotate", commands.secret, "--restart", "--resume").code == 0
    (mark,) = restarted_for(commands.kubectl)
    assert mark is not None
    assert changed <= int(mark.removeprefix("changed-")) <= time.time()
    assert commands.value() == "changed-by-another-manager"


# --- rejections: one line, and nothing is written ---


def refused(commands: Commands, *arguments: str) -> str:
    """The error of a rejected command: one line."""
    before = commands.kubectl.run("get", "secrets,deployments", "-o", "json").stdout
    done = commands.run(*arguments)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert commands.kubectl.run("get", "secrets,deployments", "-o", "json").stdout == before
    return done.err


def test_rotate_rejects_secrets_that_cannot_be_rotated(commands: Commands) -> None:
    namespace = commands.kubectl.namespace
    immutable = {"metadata": {"name": "fixed"}, "immutable": True, "stringData": {"token": marker()}}
    commands.kubectl.create({"apiVersion": "v1", "kind": "Secret", **immutable})
    eso = {"name": "eso", "labels": {"reconcile.external-secrets.io/managed": "true"}}
    commands.kubectl.create({"apiVersion": "v1", "kind": "Secret", "metadata": eso, "stringData": {"token": marker()}})

    assert "is immutable; create one with another name" in refused(commands, "secret", "rotate", f"{namespace}/fixed")
    assert "is managed by External Secrets Operator (it has the label" in refused(
        commands, "secret", "rotate", f"{namespace}/eso"
    )
    assert "does not exist" in refused(commands, "secret", "rotate", f"{namespace}/nope")
    assert "has no key x but 1 other key" in refused(commands, "secret", "rotate", commands.secret, "--key", "x")


def test_adopt_shows_the_change_and_no_value(commands: Commands) -> None:
    token = marker()
    commands.kubectl.run("create", "secret", "generic", "foreign", f"--from-literal=token={token}")
    name = f"{commands.kubectl.namespace}/foreign"
    assert commands.run("secret", "rotate", name).code == 2
    done = commands.run("secret", "rotate", name, "--force")
    assert done.code == 0
    assert "+ labels: app.kubernetes.io/managed-by" in done.err
    assert commands.run("secret", "rotate", name).code == 0
    assert token not in "".join(commands.output)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ((), "cannot get secrets/dapr-api-token"),
        (("get secrets",), "cannot update secrets/dapr-api-token"),
        (("get,update secrets",), "cannot list pods"),
        (("get,update secrets", "list pods"), "cannot get replicasets"),
        (("get,update secrets", "list pods", "get replicasets.apps,deployments.apps"), "cannot patch deployments/web"),
    ],
    ids=["nothing", "read", "write", "pods", "owners"],
)
def test_missing_permission_is_named_and_nothing_is_written(
    commands: Commands, tmp_path: Path, rules: tuple[str, ...], why: str
) -> None:
    commands.kubectl.create(workload("Deployment", "web"))
    running(commands.kubectl, 2)
    error = refused(limited(commands, tmp_path, *rules), "secret", "rotate", commands.secret, "--restart")
    assert why in error
    assert "request that permission, or use another --context" in error


def test_documented_permissions_suffice(commands: Commands, tmp_path: Path) -> None:
    commands.kubectl.create(workload("Deployment", "web"))
    running(commands.kubectl, 2)
    rules = ("get,update secrets", "list,create pods", "get replicasets.apps", "get,patch deployments.apps")
    done = limited(commands, tmp_path, *rules).run("secret", "rotate", commands.secret, "--restart", *QUICK)
    assert done.code == 0, done


def test_rotate_without_permission_to_create_pods_is_blocked(commands: Commands, tmp_path: Path) -> None:
    commands.kubectl.create(workload("Deployment", "web"))
    running(commands.kubectl, 2)
    before = commands.value()
    rules = ("get,update secrets", "list pods", "get replicasets.apps", "get,patch deployments.apps")
    person = limited(commands, tmp_path, *rules)
    rotate = ("secret", "rotate", commands.secret, "--restart", "-o", "json", *QUICK)
    for flags in ((), ("--dry-run",)):
        done = person.run(*rotate, *flags)
        assert done.code == 1
        (row,) = done.json["workloads"]
        assert row["state"] == "unknown"
        assert 'cannot create resource "pods"' in row["message"]
        assert commands.value() == before

    assert person.run(*rotate, "--skip-admission-check").code == 0


def test_missing_kubeconfig_is_one_line(commands: Commands, tmp_path: Path) -> None:
    lost = Commands(commands.kubectl, tmp_path / "nope")
    for arguments in (("list",), ("create", commands.secret), ("rotate", commands.secret)):
        assert "name one with --kubeconfig or the variable KUBECONFIG" in refused(lost, "secret", *arguments)
