"""The permissions that `check` names for a command are those that the command needs, on a real API server."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from injector.check import rights
from injector.core import names
from tests.cluster.kubelet import running
from tests.cluster.kubelet_ports import forwarding_node
from tests.cluster.objects import APP, ASKING, SECRET, SIDECAR, pod, token_variable
from tests.cluster.test_probe import on_node, run_in_name
from tests.cluster.tokencommands import Commands, Done, limited, workload
from tests.controlplane.polling import wait_for
from tests.unit.probe.servers import page, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from injector.check.rights import Need
    from tests.cluster.kubelet import Kubelet
    from tests.controlplane.api import Json
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

STATUS: Final = (*rights.STATUS, *rights.CURRENCY)
READING: Final = {("status", "-A", "-o", "json"): STATUS, ("secret", "list", "-A", "-o", "json"): rights.LIST}


@pytest.fixture
def commands(kubectl: Kubectl) -> Iterator[Commands]:
    """Something of each kind that a command reads for its answer, and the account `limited` without permissions."""
    made = Commands(kubectl, kubectl.kubeconfig)
    assert made.run("secret", "create", made.secret).code == 0
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        kubectl.create(workload(kind, kind.lower()))
    schedule = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": workload("Job", "job")["spec"]}}
    kubectl.create({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"}, "spec": schedule})
    kubectl.run("create", "job", "once", "--from=cronjob/cron")
    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [token_variable(SECRET)]}))
    policy = {"policy.yaml": "shadow: false\n"}
    kubectl.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "policy"}, "data": policy})
    kubectl.create(_webhook())
    # A DaemonSet makes a Pod for each node, whether it runs or not.
    kubectl.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": kubectl.namespace}})
    wait_for("the Pods", lambda: len(kubectl.list("pods")) >= 6)
    yield made
    kubectl.delete("node", kubectl.namespace)
    for kind in ("clusterrolebinding", "clusterrole"):
        kubectl.delete(kind, f"limited-{kubectl.namespace}")


def _webhook() -> Json:
    """A Deployment that looks like the webhook's to `status`; it has no Pods."""
    labels = {"app.kubernetes.io/name": names.MANAGER}
    volumes = [{"name": "policy", "configMap": {"name": "policy"}}]
    parts = {"containers": [{"name": "webhook", "image": "webhook"}], "volumes": volumes}
    template = {"metadata": {"labels": labels}, "spec": parts}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "webhook", "labels": labels},
        "spec": spec,
    }


class Person:
    """A ServiceAccount whose permissions can be replaced."""

    def __init__(self, commands: Commands, folder: Path) -> None:
        self._kubectl = commands.kubectl
        self._name = f"limited-{self._kubectl.namespace}"
        self._commands = limited(commands, folder)
        account = f"--serviceaccount={self._kubectl.namespace}:limited"
        self._kubectl.run("create", "clusterrolebinding", self._name, f"--clusterrole={self._name}", account)

    def run(self, needs: Sequence[Need], *arguments: str) -> Done:
        """Run a command with these permissions, once the API server knows of them."""
        rules = [{"apiGroups": [one.resource.group], "resources": [one.what], "verbs": [*one.verbs]} for one in needs]
        # The last rule shows that the API server has read all.
        stamp = f"/stamp-{len(self._commands.output)}"
        rules.append({"nonResourceURLs": [stamp], "verbs": ["get"]})
        metadata = {"name": self._name}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata}
        self._kubectl.apply({**role, "rules": rules})
        account = f"--as=system:serviceaccount:{self._kubectl.namespace}:limited"
        probe = ("auth", "can-i", "get", stamp, account)
        wait_for("the permissions", lambda: self._kubectl.try_run(*probe).returncode == 0)
        return self._commands.run(*arguments)


def _without(needs: Sequence[Need], index: int) -> list[Need]:
    return [one for number, one in enumerate(needs) if number != index]


def _answer(done: Done, namespace: str) -> object:
    """What a command reports about a namespace; an earlier test's may still be terminating."""
    answer = json.loads(done.out)
    if isinstance(answer, list):
        return done.code, done.err, answer
    found = {name: value for name, value in answer.items() if name != "summary"}
    for name, items in found.items():
        if isinstance(items, list):
            found[name] = [one for one in items if not isinstance(one, dict) or one.get("namespace") == namespace]
    return done.code, done.err, found


@pytest.mark.parametrize(("arguments", "needs"), READING.items(), ids=["status", "secret list"])
def test_named_permissions_suffice_and_none_is_spare(
    commands: Commands, tmp_path: Path, arguments: tuple[str, ...], needs: tuple[Need, ...]
) -> None:
    suffices_and_none_is_spare(commands, tmp_path, needs, *arguments)


def test_named_permissions_suffice_to_rotate_and_none_is_spare(
    commands: Commands, kubelet: Kubelet, tmp_path: Path
) -> None:
    """A dry run sends every write that the rotation would send."""
    del kubelet  # it runs the Pods
    running(commands.kubectl, 7)
    rotate = ("secret", "rotate", commands.secret, "--restart", "--dry-run", "-o", "json")

    suffices_and_none_is_spare(commands, tmp_path, rights.ROTATE, *rotate)

    planned = {one["kind"] for one in commands.run(*rotate).json["workloads"]}
    assert planned >= {"Deployment", "StatefulSet", "DaemonSet"}


def test_named_permissions_suffice_to_probe_and_none_is_spare(
    commands: Commands, own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    name = f"probed-{commands.kubectl.namespace}"
    with (
        serving(partial(answer_as_daprd, commands.value().encode())) as port,
        forwarding_node(own_control_plane, name, {name: port}, tmp_path),
    ):
        probed = pod(ASKING, APP, {**SIDECAR, "env": [token_variable(SECRET)]})
        probed["metadata"] |= {"name": name, "labels": {"probed": name}}
        commands.kubectl.create(on_node(probed, name))
        run_in_name(commands.kubectl, name)
        probe = ("probe", "-A", "-l", f"probed={name}", "-o", "json")

        suffices_and_none_is_spare(commands, tmp_path, rights.PROBE, *probe)

        assert '"served"' in commands.run(*probe).out
        commands.kubectl.run("delete", "pod", name, "--force", "--grace-period=0")


def answer_as_daprd(token: bytes, connection: socket.socket) -> None:
    """Answer one request over HTTP like a sidecar that requires the token."""
    is_served = token in connection.recv(65536)
    connection.sendall(
        page("200 OK", b'{"runtimeVersion": "1.18.3"}') if is_served else page("401 Unauthorized", b"invalid api token")
    )


def suffices_and_none_is_spare(commands: Commands, folder: Path, needs: Sequence[Need], *arguments: str) -> None:
    """Check that a command answers as to an administrator with these permissions, and not without one of them."""
    namespace = commands.kubectl.namespace
    whole = _answer(commands.run(*arguments), namespace)
    person = Person(commands, folder)

    def is_whole(given: Sequence[Need]) -> bool:
        done = person.run(given, *arguments)
        return bool(done.out) and _answer(done, namespace) == whole

    assert is_whole(needs)
    assert [one.what for number, one in enumerate(needs) if is_whole(_without(needs, number))] == []


def test_named_permissions_suffice_to_create_a_secret(commands: Commands, tmp_path: Path) -> None:
    person = Person(commands, tmp_path)
    name = f"{commands.kubectl.namespace}/new"

    done = person.run(rights.CREATE, "secret", "create", name)

    assert (done.code, done.out) == (0, f"{name}: created\n")
    assert person.run(_without(rights.CREATE, 0), "secret", "create", f"{name}-2").code != 0
    assert commands.kubectl.find("secret", "new-2") is None
