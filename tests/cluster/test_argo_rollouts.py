"""`secret rotate` restarts an Argo Rollout on a real API server, with a CustomResourceDefinition of our own.

Argo's controller is not part of the tests: the test itself replaces the Pods and writes the status, as described in
https://argoproj.github.io/argo-rollouts/features/restart/
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.kubelet import Kubelet
from tests.cluster.tokencommands import Commands, workload
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

_ANY: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CRD: Final = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rollouts.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "scope": "Namespaced",
        "names": {"plural": "rollouts", "singular": "rollout", "kind": "Rollout"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _ANY, "status": _ANY}}},
            }
        ],
    },
}


@pytest.fixture
def commands(kubectl: Kubectl) -> Iterator[Commands]:
    kubectl.apply(CRD)
    try:
        kubectl.run("wait", "crd", "rollouts.argoproj.io", "--for=condition=Established", "--timeout=60s")
        with Kubelet(kubectl):
            made = Commands(kubectl, kubectl.kubeconfig)
            assert made.run("secret", "create", made.secret).code == 0
            yield made
    finally:
        # While the API server knows the kind, the garbage collector deletes Pods of Rollouts that do not exist.
        kubectl.run("delete", "crd", "rollouts.argoproj.io", "--timeout=60s")


def running(kubectl: Kubectl) -> list[Json]:
    found = [one for one in kubectl.list("pods") if "deletionTimestamp" not in one["metadata"]]
    return [one for one in found if one["status"].get("containerStatuses")]


def write_status(kubectl: Kubectl, **status: object) -> None:
    generation = kubectl.get("rollout", "web")["metadata"]["generation"]  # the API server counts changes of the spec
    patch = json.dumps({"status": {"availableReplicas": 2, "observedGeneration": str(generation), **status}})
    kubectl.run("patch", "rollout", "web", "--subresource=status", "--type=merge", "-p", patch)


def test_rotate_restarts_a_rollout_and_waits_for_its_pods(commands: Commands) -> None:
    kubectl = commands.kubectl
    template = workload("ReplicaSet", "web-1")
    spec = {"replicas": 2, "selector": template["spec"]["selector"], "template": template["spec"]["template"]}
    rollout = kubectl.create(
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}, "spec": spec}
    )
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "controller": True}
    template["metadata"]["ownerReferences"] = [{**owner, "uid": rollout["metadata"]["uid"]}]
    kubectl.create(template)
    wait_for("two running Pods", lambda: len(running(kubectl)) == 2)
    write_status(kubectl)

    process = commands.start("secret", "rotate", commands.secret, "--restart", "-o", "json", "--propagation-delay=0s")
    restart_at = wait_for("the restart", lambda: kubectl.get("rollout", "web")["spec"].get("restartAt"))
    wait_for("its time", lambda: datetime.now(UTC) > datetime.fromisoformat(restart_at))
    before = {one["metadata"]["name"] for one in running(kubectl)}
    kubectl.run("delete", "pods", "--wait=false", *before)
    wait_for("new Pods", lambda: len({one["metadata"]["name"] for one in running(kubectl)} - before) == 2)
    assert process.poll() is None, "Argo has not reported the end yet"
    write_status(kubectl, restartedAt=restart_at)
    done = commands.ended(process)

    assert done.code == 0, done
    assert [(one["kind"], one["state"]) for one in done.json["workloads"]] == [("Rollout", "ready")]
    assert kubectl.get("rollout", "web")["spec"]["template"] == spec["template"]
    again = commands.run("secret", "rotate", commands.secret, "--restart", "--resume", "-o", "json")
    assert (again.code, again.json["workloads"][0]["state"]) == (0, "up-to-date")
    assert kubectl.get("rollout", "web")["spec"]["restartAt"] == restart_at
