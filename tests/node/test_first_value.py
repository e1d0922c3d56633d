"""Pods that wait for the first value of their Secret run the current token, also for a kubelet's own times."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from injector.core.token_state import SKEW
from tests.cluster.objects import ASKING, SECRET
from tests.cluster.tokencommands import Commands
from tests.controlplane.polling import wait_for
from tests.node.test_restart_by_kind import ready, running

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.node.target import Target

WAITING = "CreateContainerConfigError"


def reasons(kubectl: Kubectl) -> set[str]:
    """Why the containers of all Pods wait."""
    statuses = [one for pod in kubectl.list("pods") for one in pod["status"].get("containerStatuses", ())]
    return {one["state"].get("waiting", {}).get("reason", "") for one in statuses}


def listed(commands: Commands) -> Json:
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    return row  # type: ignore[no-any-return] # JSON


def seconds(time: str) -> float:
    return dt.datetime.fromisoformat(time).timestamp()


def starts(pod: Json, secret: Json) -> tuple[bool, bool]:
    """Whether the daprd certainly, and whether it certainly not, started after the Secret was created (decision 0010).

    The node's clock may be ahead by the time that the kubelet took to accept the Pod, which is long on a busy machine:
    at most the time since the Pod's creation, at least the time since it was scheduled.
    """
    status = pod["status"]
    (scheduled,) = (one["lastTransitionTime"] for one in status["conditions"] if one["type"] == "PodScheduled")
    (daprd,) = (one for one in status["containerStatuses"] if one["name"] == "daprd")
    after = seconds(daprd["state"]["running"]["startedAt"]) - seconds(secret["metadata"]["creationTimestamp"])
    accepted = seconds(status["startTime"])
    is_later = after > SKEW or after > accepted - seconds(pod["metadata"]["creationTimestamp"])
    return is_later, after <= min(SKEW, accepted - seconds(scheduled))


@pytest.mark.usefixtures("release")
def test_pods_started_by_the_first_value_are_current_until_it_changes(kubectl: Kubectl, target: Target) -> None:
    commands = Commands(kubectl, kubectl.kubeconfig)
    workload = running(target, "Deployment", "web")
    workload["spec"]["replicas"] = 3
    workload["spec"]["template"]["metadata"]["annotations"] = ASKING
    kubectl.create(workload)
    wait_for("Pods that wait for the Secret", lambda: reasons(kubectl) == {WAITING}, timeout_seconds=120)
    assert commands.run("secret", "create", commands.secret).code == 0
    pods = ready(kubectl, 3)
    before = {pod["metadata"]["uid"] for pod in pods}
    secret = kubectl.get("secret", SECRET)

    row = listed(commands)
    for pod in pods:
        is_later, is_doubtful = starts(pod, secret)
        assert is_doubtful <= (pod["metadata"]["name"] in row["uncertain"]) <= (not is_later)
    assert (row["pods"], row["outdated"], row["open"]) == (3, [], [])
    planned = commands.run("secret", "rotate", commands.secret, "--restart", "--resume", "--dry-run", "-o", "json")
    assert [one["state"] for one in planned.json["workloads"]] == ["uncertain" if row["uncertain"] else "up-to-date"]

    # Deleted and created again, with another value: the running containers have the first one.
    kubectl.run("delete", "secret", SECRET)
    assert commands.run("secret", "create", commands.secret).code == 0
    row = listed(commands)
    assert len(row["outdated"]) == 3
    assert commands.run("secret", "rotate", commands.secret, "--restart", "--resume").code == 0
    assert not {pod["metadata"]["uid"] for pod in ready(kubectl, 3)} & before
