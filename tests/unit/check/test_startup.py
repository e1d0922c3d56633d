"""The checks whether Pods start and Deployments are rolled out, against the store of the fake API server."""

from __future__ import annotations

from typing import Any

import pytest

from injector.check.model import Result
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.unit.check.checking import outcome
from tests.unit.check.sound_webhook import FAIL, LABELS, NAME, deployment, installed, messages, pod, registered

Json = dict[str, Any]


# --- pods-start ---


def waiting(reason: str | None, message: str = "", **more: Json) -> Json:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "webhook", "state": state, **more}]}


@pytest.mark.parametrize(
    ("status", "problem", "fix"),
    [
        *(
            (
                waiting(reason, 'Container image "x:1" is\nnot present'),
                f'Pod 1: container webhook does not start: {reason}: Container image "x:1" is not present',
                f"kubectl describe pod 1 --namespace {NAME}",
            )
            for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
        ),
        (
            waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "Pod 1: container webhook does not start: CrashLoopBackOff; it ended with exit code 137 (OOMKilled)",
            f"kubectl logs 1 --namespace {NAME} --container webhook --previous",
        ),
        (
            {"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 2}}}]},
            "Pod 1: container init ended with exit code 2",
            f"kubectl describe pod 1 --namespace {NAME}",
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
                ]
            },
            "Pod 1: cannot be scheduled: Unschedulable: 0/3 nodes",
            f"kubectl describe pod 1 --namespace {NAME}",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False"}]},
            "Pod 1: cannot be scheduled: not scheduled",
            f"kubectl describe pod 1 --namespace {NAME}",
        ),
    ],
)
def test_pod_that_cannot_start_fails_with_the_reason(status: Json, problem: str, fix: str) -> None:
    store = installed()
    store.put("pods", pod("1", status=status))

    found = outcome("pods-start", StoreApi(store))

    assert [(one.result, one.message, one.fix) for one in found.problems] == [(Result.FAILED, problem, fix)]


@pytest.mark.parametrize(
    "status",
    [
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        waiting(None),
        {"conditions": None, "containerStatuses": None},
        {"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0}}}]},
        {"containerStatuses": [{"name": "webhook", "state": None}]},
        {},
    ],
)
@pytest.mark.parametrize(("age", "skew", "has_waited"), [(119, 0, False), (120, 0, True), (120, -3600, False)])
def test_pod_that_waits_is_a_warning_after_two_minutes(
    status: Json, age: int, skew: float, *, has_waited: bool
) -> None:
    """Also if the clock here is an hour ahead: that of the API server counts."""
    store = installed()
    item = pod("1", status=status)
    item["metadata"]["creationTimestamp"] = "2023-11-14T22:13:20Z"  # NOW
    store.put("pods", item)
    api = StoreApi(store)
    api.skew_seconds = skew

    found = outcome("pods-start", api, now=1_700_000_000 + age)

    assert messages(found) == ([("warning", "Pod 1: not ready for 2 minutes")] if has_waited else [])


def test_pod_without_status_and_node_waits_for_a_scheduler() -> None:
    store = installed()
    item = pod("1", nodeName=None)
    del item["status"]
    store.put("pods", item)

    found = outcome("pods-start", StoreApi(store))

    assert messages(found) == [("warning", "Pod 1: not ready; no scheduler has assigned it to a node")]


def test_many_pods_with_one_reason_are_one_problem() -> None:
    store = installed()
    for number in range(1000):
        store.put("pods", pod(f"p{number:03}", status=waiting("ErrImagePull", f"attempt {number}")))

    found = outcome("pods-start", StoreApi(store))

    assert messages(found) == [
        (
            "failed",
            "Pods p000, p001, p002, and 997 more: container webhook does not start: ErrImagePull: attempt 0",
        )
    ]


def test_ended_and_ending_pods_and_those_of_jobs_are_left_out() -> None:
    store = installed()
    broken = waiting("ErrImagePull")
    store.put("pods", pod("3", status={**broken, "phase": "Failed"}))
    store.put("pods", pod("4", status=broken, restartPolicy="Never"))
    ending = pod("5", status=broken)
    ending["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z"
    store.put("pods", ending)

    found = outcome("pods-start", StoreApi(store))

    assert (found.problems, found.seen) == ((), f"2 Pods of Service {NAME}/{NAME}")


@pytest.mark.parametrize("selector", [LABELS, None])
def test_no_pod_fails_with_the_selector(selector: Json | None) -> None:
    store = installed()
    store.objects["services", NAME, NAME]["spec"]["selector"] = selector
    for name in ("1", "2"):
        store.remove("pods", NAME, name)

    (problem,) = outcome("pods-start", StoreApi(store)).problems

    labels = f"app.kubernetes.io/name={NAME}"
    labels = f"app.kubernetes.io/instance={NAME},{labels}" if selector else labels
    assert problem.message == f"Service {NAME}/{NAME} has no Pod with the labels {labels}: {FAIL}"
    assert problem.fix == f"kubectl get deployments --namespace {NAME} --selector {labels}"


def test_service_of_another_name_in_namespace_default() -> None:
    store = Store()
    store.put("mutatingwebhookconfigurations", {"metadata": {"name": NAME}})
    registered(store, {"name": "hook", "namespace": "default"}, {"name": "hook", "namespace": "default", "port": 8443})
    ports = [{"port": 443}, {"port": 8443}]
    spec = {"selector": {"app": "hook"}, "ports": ports}
    store.put("services", {"metadata": {"name": "hook", "namespace": "default"}, "spec": spec})
    store.put("pods", pod("other", namespace="default", status=waiting("ErrImagePull")))
    mine = pod("mine", namespace="default", status=waiting("ErrImageNeverPull"))
    mine["metadata"]["labels"] = {"app": "hook"}
    store.put("pods", mine)

    found = outcome("pods-start", StoreApi(store))

    assert (found.seen, messages(found)) == (
        "1 Pod of Service default/hook",
        [("failed", "Pod mine: container webhook does not start: ErrImageNeverPull")],
    )


# --- rolled-out ---


def progressing(reason: str, **more: int) -> Json:
    conditions = [{"type": "Progressing", "reason": reason}]
    return {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 1, "conditions": conditions, **more}


STUCK = "1 of 2 Pods run its current template"


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            deployment(status=progressing("ProgressDeadlineExceeded")),
            ("failed", f"Deployment {NAME} is stuck: {STUCK}, and Pods of a previous one remain"),
        ),
        (
            deployment(status=progressing("ReplicaSetUpdated")),
            ("warning", f"Deployment {NAME} is being rolled out: {STUCK}"),
        ),
        (
            deployment(status=progressing("ReplicaSetUpdated", updatedReplicas=2)),
            ("warning", f"Deployment {NAME} is being rolled out: 2 of 2 Pods run its current template"),
        ),
        (
            deployment(status={"observedGeneration": 0}),
            ("warning", f"Deployment {NAME} is being rolled out: 0 of 2 Pods"),
        ),
        (deployment(status={}, replicas=1), ("warning", f"Deployment {NAME} is being rolled out: 0 of 1 Pod run")),
        (
            deployment(status=progressing("DeploymentPaused"), paused=True),
            ("warning", f"Deployment {NAME} is paused: {STUCK}"),
        ),
        (deployment(replicas=0), ("failed", f"Deployment {NAME} is scaled to 0 replicas")),
        (
            deployment(
                status={
                    **deployment()["status"],
                    "conditions": [
                        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
                    ],
                }
            ),
            ("failed", f"Deployment {NAME} cannot create Pods: FailedCreate: quota"),
        ),
    ],
)
def test_deployment_that_is_not_rolled_out(item: Json, problem: tuple[str, str]) -> None:
    store = installed()
    store.put("deployments", item)

    ((result, message),) = messages(outcome("rolled-out", StoreApi(store)))

    assert result == problem[0]
    assert message.startswith(problem[1])


def test_several_deployments_behind_one_service_are_a_warning() -> None:
    store = installed()
    store.put("deployments", deployment("second"))
    store.put("deployments", deployment("other", template={"metadata": {"labels": {"app": "other"}}}))
    store.put("deployments", deployment("elsewhere", namespace="default"))
    store.put("deployments", deployment("odd", template=None))

    assert messages(outcome("rolled-out", StoreApi(store))) == [
        (
            "warning",
            f"Service {NAME}/{NAME} sends requests to the Pods of several Deployments: {NAME}, second",
        )
    ]


def test_no_deployment_is_skipped() -> None:
    store = installed()
    store.remove("deployments", NAME, NAME)

    assert outcome("rolled-out", StoreApi(store)).result is Result.SKIPPED
