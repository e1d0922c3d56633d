"""What the commands find out about sealed Pods on a real API server, with real controllers and a fake kubelet."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.cluster.kubelet import running
from tests.cluster.sealed import sealed_pod, sealed_workload
from tests.cluster.tokencommands import QUICK, Commands, workload
from tests.sealing import SEAL

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl


def reported(kubectl: Kubectl, name: str, **parts: list[Json]) -> None:
    """Set the states of containers of a Pod, as a kubelet reports them."""
    more = {"restartCount": 1, "image": "", "imageID": "", "ready": True}
    status = {part: [{**more, **one} for one in statuses] for part, statuses in parts.items()}
    patch = json.dumps({"status": status})
    kubectl.run("patch", "pod", name, "--subresource=status", "--type=strategic", f"--patch={patch}")


def restarted(name: str, seconds: int) -> Json:
    """The status of a container that started again so many seconds from now."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return {"name": name, "state": {"running": {"startedAt": at}}}


def test_token_that_a_sealed_pod_holds_is_not_revoked(commands: Commands) -> None:
    commands.kubectl.create(sealed_pod("sealed"))
    running(commands.kubectl, 1)
    held = f"still held by {commands.kubectl.namespace}/sealed"
    done = commands.run("secret", "revoke", commands.secret, *QUICK)

    assert done.code == 1
    assert f"NOT revoked: {held}" in done.out
    # After restarts in place, long after the change: the values are in the file.
    reported(commands.kubectl, "sealed", containerStatuses=[restarted(one, 3600) for one in ("daprd", "web")])
    done = commands.run("secret", "revoke", commands.secret, "--resume", "-o", "json")
    assert (done.code, done.json["revoked"]) == (1, False)
    assert done.json["outdated"] == [f"{commands.kubectl.namespace}/sealed"]
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert (row["pods"], row["outdated"], row["open"]) == (1, ["sealed"], [])
    # In a new sandbox, the seal container runs again.
    reported(commands.kubectl, "sealed", initContainerStatuses=[restarted(SEAL, 3650)])
    done = commands.run("secret", "revoke", commands.secret, "--resume")
    assert done.code == 1, "a container that started before the file was written holds another value"
    reported(commands.kubectl, "sealed", containerStatuses=[restarted(one, 3700) for one in ("daprd", "web")])
    done = commands.run("secret", "revoke", commands.secret, "--resume")
    assert (done.code, done.out.splitlines()[-1]) == (0, "revoked: no process holds the previous token")


def test_token_is_not_revoked_while_a_seal_cannot_be_judged(commands: Commands) -> None:
    broken = sealed_pod("broken")
    broken["spec"]["volumes"][0]["emptyDir"] = {}
    commands.kubectl.create(broken)
    running(commands.kubectl, 1)
    done = commands.run("secret", "revoke", commands.secret, *QUICK)

    assert done.code == 1
    assert f"NOT revoked: open: {commands.kubectl.namespace}/broken" in done.out
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert (row["pods"], row["open"]) == (1, ["broken"])


def test_rotate_restarts_sealed_and_unsealed_workloads(commands: Commands) -> None:
    commands.kubectl.create(sealed_workload("Deployment", "sealed"))
    commands.kubectl.create(workload("Deployment", "plain"))
    running(commands.kubectl, 4)
    # Sealed from now on, while its Pods are not: a paused Deployment has no new Pods until it is restarted.
    later = sealed_workload("Deployment", "plain")["spec"]["template"]["spec"]
    patch = json.dumps([{"op": "replace", "path": "/spec/template/spec", "value": later}])
    commands.kubectl.run("patch", "deployment", "plain", "-p", '{"spec":{"paused":true}}')
    commands.kubectl.run("patch", "deployment", "plain", "--type=json", f"--patch={patch}")
    planned = commands.run("secret", "rotate", commands.secret, "--restart", "--dry-run", "-o", "json")
    assert {one["name"]: one["state"] for one in planned.json["workloads"]} == {"sealed": "planned", "plain": "skipped"}
    commands.kubectl.run("patch", "deployment", "plain", "-p", '{"spec":{"paused":false}}')
    # Its own rollout may create Pods in the second of the change.
    rotate = ("secret", "rotate", commands.secret, "--restart", "--include-uncertain", "-o", "json", *QUICK)
    done = commands.run(*rotate)

    assert done.code == 0, done.out
    assert {one["name"]: one["state"] for one in done.json["workloads"]} == {"sealed": "ready", "plain": "ready"}
    (row,) = commands.run("secret", "list", "-n", commands.kubectl.namespace, "-o", "json").json["secrets"]
    assert (row["workloads"], row["outdated"]) == (["Deployment/plain", "Deployment/sealed"], [])
    done = commands.run("secret", "revoke", commands.secret, *QUICK)
    assert (done.code, done.out.splitlines()[-1]) == (0, "revoked: no process holds the previous token")


def test_rotate_is_blocked_if_new_pods_have_a_broken_seal(commands: Commands) -> None:
    commands.kubectl.create(sealed_workload("Deployment", "web"))
    running(commands.kubectl, 2)
    commands.kubectl.run("patch", "deployment", "web", "-p", '{"spec":{"paused":true}}')
    commands.kubectl.run(
        "patch",
        "deployment",
        "web",
        "--type=json",
        '-p=[{"op":"remove","path":"/spec/template/spec/initContainers/1"}]',
    )
    commands.kubectl.run("patch", "deployment", "web", "-p", '{"spec":{"paused":false}}')
    before = commands.value()
    done = commands.run("secret", "rotate", commands.secret, "--restart", "-o", "json", *QUICK)

    assert done.code == 1
    (one,) = done.json["workloads"]
    assert (one["state"], done.json["blocked"]) == ("not-injected", True)
    assert "new Pods would have no token in daprd, web" in one["message"]
    assert commands.value() == before
