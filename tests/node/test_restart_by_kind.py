"""What `secret rotate --restart` does to each kind of workload on a kubelet, seen in the environment of its sidecar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from injector.core.token_state import LAG
from tests.cluster.objects import ASKING, pod
from tests.cluster.tokencommands import Commands, workload
from tests.controlplane.polling import wait_for
from tests.node.objects import app_container

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

PARTITION: Final = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
ON_DELETE: Final = {"type": "OnDelete"}
PODS: Final = 8
STATES: Final = {
    "DaemonSet/daemon": "ready",
    "StatefulSet/partition": "ready",
    "DaemonSet/daemon-on-delete": "skipped",
    "StatefulSet/stateful-on-delete": "skipped",
    "Deployment/paused": "skipped",
    "Job/job": "skipped",
    "Pod/bare": "skipped",
}


def asleep(target: Target) -> Json:
    """An idle sidecar with the token: other tests cover its API."""
    return {**app_container(target), "name": "daprd", "volumeMounts": []}


def running(target: Target, kind: str, name: str, **spec: object) -> Json:
    """A workload of such Pods: two of a StatefulSet with a partition, one of everything else."""
    made = workload(kind, name, replicas=2 if name == "partition" else 1, **spec)
    template = made["spec"]["template"]
    template["metadata"]["annotations"] = ASKING
    template["spec"] |= {"containers": [asleep(target)], "terminationGracePeriodSeconds": 1}
    return made


def one_of_each(target: Target) -> list[Json]:
    bare = pod(ASKING, asleep(target))
    bare["metadata"] |= {"name": "bare", "labels": {"app": "bare"}}
    return [
        running(target, "DaemonSet", "daemon"),
        running(target, "DaemonSet", "daemon-on-delete", updateStrategy=ON_DELETE),
        running(target, "StatefulSet", "partition", updateStrategy=PARTITION),
        running(target, "StatefulSet", "stateful-on-delete", updateStrategy=ON_DELETE),
        running(target, "Deployment", "paused"),
        running(target, "Job", "job"),
        bare,
    ]


def ready(kubectl: Kubectl, count: int) -> list[Json]:
    """All Pods except terminating ones, once that many exist and all are ready."""

    def probe() -> list[Json] | None:
        found = [one for one in kubectl.list("pods") if "deletionTimestamp" not in one["metadata"]]
        up = [one for one in found if {"Ready": "True"}.items() <= conditions(one).items()]
        return found if len(up) == len(found) == count else None

    return wait_for(f"{count} ready Pods", probe, timeout_seconds=120, interval_seconds=0.5)


def conditions(item: Json) -> dict[str, str]:
    return {one["type"]: one["status"] for one in item["status"].get("conditions", ())}


def token_of(kubectl: Kubectl, name: str) -> str:
    """What a running sidecar was started with."""
    script = "import os; print(os.environ['DAPR_API_TOKEN'])"
    return kubectl.run("exec", name, "--", "python", "-c", script).stdout.strip()


@pytest.mark.usefixtures("release")
def test_each_kind_is_restarted_or_skipped_with_working_advice(kubectl: Kubectl, target: Target) -> None:
    commands = Commands(kubectl, kubectl.kubeconfig)
    assert commands.run("secret", "create", commands.secret).code == 0
    for item in one_of_each(target):
        kubectl.create(item)
    before = {one["metadata"]["uid"] for one in ready(kubectl, PODS)}
    kubectl.run("patch", "deployment", "paused", "-p", '{"spec":{"paused":true}}')
    old = commands.value()

    done = commands.run("secret", "rotate", commands.secret, "--restart", "-o", "json")

    assert done.code == 1, done
    rows = {f"{row['kind']}/{row['name']}": row for row in done.json["workloads"]}
    assert {name: row["state"] for name, row in rows.items()} == STATES
    assert rows["StatefulSet/partition"]["outdated"] == ["partition-0"]
    assert {name for name, row in rows.items() if row["message"]} == set(STATES) - {"DaemonSet/daemon"}
    replaced = set()
    for one in ready(kubectl, PODS):
        is_new = one["metadata"]["uid"] not in before
        assert token_of(kubectl, one["metadata"]["name"]) == (commands.value() if is_new else old), one["metadata"]
        if is_new:
            replaced.add(one["metadata"]["name"].partition("-")[0])
    assert replaced == {"daemon", "partition"}

    # A Pod that is created within two seconds of the change may have the previous value from the kubelet's cache.
    changed_before = time.time()
    wait_for("the tolerance of caches", lambda: time.time() > changed_before + LAG + 1)
    # Follow the advice: delete these Pods, end the Job, resume, lower the partition; then continue.
    kubectl.run("delete", "pods", "--selector=app in (daemon-on-delete,stateful-on-delete,bare)")
    kubectl.run("delete", "job", "job")
    kubectl.run("patch", "deployment", "paused", "-p", '{"spec":{"paused":false}}')
    kubectl.run("patch", "statefulset", "partition", "-p", '{"spec":{"updateStrategy":{"rollingUpdate":null}}}')
    ready(kubectl, PODS - 2)
    resumed = commands.run("secret", "rotate", commands.secret, "--restart", "--resume", "-o", "json")

    assert resumed.code == 0, resumed
    names = [one["metadata"]["name"] for one in ready(kubectl, PODS - 2)]
    assert {token_of(kubectl, name) for name in names} == {commands.value()}
