from __future__ import annotations

from typing import Any

import pytest

from injector.core.ownership import DataWriter, SecretRef
from injector.core.rollout import Hold, Ref, Use
from injector.tokens.reading import (
    controller,
    holder,
    references,
    restarted_by,
    seconds,
    token_secret,
    workload,
    written,
)
from tests.builders import container, literal_env, secret_env, sidecar

S = SecretRef("shop", "s")
WEB = Ref("Deployment", "shop", "web")
Json = dict[str, Any]


def running_pod(*containers: Json, init: tuple[Json, ...] = (), states: Json | None = None, **meta: object) -> Json:
    every = [*init, *containers]
    told = {one["name"]: {"running": {"startedAt": "1970-01-01T00:01:00Z"}} for one in every} | (states or {})
    return {
        "metadata": {"namespace": "shop", "name": "web-1", **meta},
        "spec": {"containers": list(containers), "initContainers": list(init)},
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{"name": one["name"], "state": told[one["name"]]} for one in init],
            "containerStatuses": [{"name": one["name"], "state": told[one["name"]]} for one in containers],
        },
    }


@pytest.mark.parametrize(("text", "time"), [("1970-01-01T00:01:00Z", 60), (None, None), ("", None), ("soon", None)])
def test_times_are_read_or_unknown(text: str | None, time: int | None) -> None:
    assert seconds(text) == time


def test_times_are_written_as_they_are_read() -> None:
    assert seconds(written(1_800_000_000)) == 1_800_000_000


def test_effective_references_are_the_last_of_a_name_in_either_list() -> None:
    pod = {
        "spec": {
            "initContainers": [container("init", env=[secret_env("a")])],
            "containers": [
                sidecar(secret_env("old"), secret_env("s")),
                container("web", env=[secret_env("s"), literal_env("x")]),
                container("all", envFrom=[{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]),
            ],
        }
    }
    assert list(references(pod)) == [
        ("init", "DAPR_API_TOKEN", "a", "token"),
        ("daprd", "DAPR_API_TOKEN", "s", "token"),
        ("all", "", "s", ""),
    ]


def test_holder_has_the_containers_that_read_this_key_of_this_secret() -> None:
    pod = running_pod(
        sidecar(secret_env("s")),
        container("other-key", env=[secret_env("s", "other")]),
        container("other-secret", env=[secret_env("t")]),
        container("all", envFrom=[{"secretRef": {"name": "s"}}]),
        container("by-another-name", env=[secret_env("s", variable="TOKEN")]),
    )
    found = holder(pod, {S: "token"}, WEB, 0)

    assert found is not None
    assert found.uses == (Use(secret=S, containers=("all", "by-another-name", "daprd"), started=60),)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_ended_pod_holds_nothing(phase: str) -> None:
    pod = running_pod(sidecar(secret_env("s")))
    pod["status"]["phase"] = phase

    assert holder(pod, {S: "token"}, WEB, 0) is None


def test_init_container_that_has_ended_holds_nothing_and_a_native_sidecar_does() -> None:
    init = (container("init", env=[secret_env("s")]), sidecar(secret_env("s"), restartPolicy="Always"))
    found = holder(running_pod(init=init, states={"init": {"terminated": {}}}), {S: "token"}, WEB, 0)

    assert found is not None
    assert found.uses[0].containers == ("daprd",)


@pytest.mark.parametrize("state", [{"waiting": {}}, {"terminated": {}}, {}])
def test_container_that_does_not_run_holds_nothing_yet(state: Json) -> None:
    found = holder(running_pod(sidecar(secret_env("s")), states={"daprd": state}), {S: "token"}, WEB, 0)

    assert found is not None
    assert found.uses[0].started is None


@pytest.mark.parametrize(
    ("state", "is_starting"),
    [
        ({}, True),
        ({"waiting": {"reason": "ContainerCreating"}}, True),
        ({"waiting": {"reason": "PodInitializing"}}, True),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, False),
        ({"terminated": {}}, False),
        ({"running": {"startedAt": "1970-01-01T00:01:00Z"}}, False),
    ],
)
def test_container_of_which_its_node_has_not_told_may_have_started(state: Json, *, is_starting: bool) -> None:
    pod = running_pod(sidecar(secret_env("s")), states={"daprd": state})
    unplaced = holder(pod, {S: "token"}, WEB, 0)
    pod["spec"]["nodeName"] = "node"
    placed = holder(pod, {S: "token"}, WEB, 0)

    assert unplaced is not None
    assert placed is not None
    assert (unplaced.uses[0].is_starting, placed.uses[0].is_starting) == (False, is_starting)


@pytest.mark.parametrize(
    "volume",
    [
        {"secret": {"secretName": "s"}},
        {"secret": {"secretName": "s", "items": [{"key": "token", "path": "t"}]}},
        {"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}},
    ],
)
def test_container_that_mounts_the_secret_holds_it(volume: Json) -> None:
    pod = running_pod(
        container("web", volumeMounts=[{"name": "v", "mountPath": "/t"}, {"name": "v", "mountPath": "/u"}]),
        container("other", volumeMounts=[{"name": "empty", "mountPath": "/t"}]),
    )
    pod["spec"]["volumes"] = [{"name": "v", **volume}, {"name": "empty", "emptyDir": {}}]
    found = holder(pod, {S: "token"}, WEB, 0)

    assert found is not None
    assert found.uses == (Use(secret=S, containers=("web",), started=60),)
    assert holder(pod, {SecretRef("shop", "c"): "token"}, WEB, 0) is None


def test_mounted_file_of_another_key_is_no_use() -> None:
    pod = running_pod(container("web", volumeMounts=[{"name": "v", "mountPath": "/t"}]))
    pod["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "other", "path": "t"}]}}]
    assert holder(pod, {S: "token"}, WEB, 0) is None


@pytest.mark.parametrize(
    ("state", "holds"), [({"running": {"startedAt": "1970-01-01T00:02:00Z"}}, True), ({"terminated": {}}, False)]
)
def test_container_added_to_a_running_pod_holds_what_it_was_given_until_it_ends(state: Json, *, holds: bool) -> None:
    pod = running_pod(container("web"))
    pod["spec"]["ephemeralContainers"] = [container("debugger", env=[secret_env("s")])]
    pod["status"]["ephemeralContainerStatuses"] = [{"name": "debugger", "state": state}]
    found = holder(pod, {S: "token"}, WEB, 0)

    assert (found is not None) is holds
    if found is not None:
        assert found.uses == (Use(secret=S, containers=("debugger",), started=120),)


def test_running_container_without_a_time_counts_as_old() -> None:
    found = holder(running_pod(sidecar(secret_env("s")), states={"daprd": {"running": {}}}), {S: "token"}, WEB, 0)

    assert found is not None
    assert found.uses[0].started == 0


def test_pod_without_a_status_has_not_started() -> None:
    pod = {"metadata": {"namespace": "shop", "name": "p"}, "spec": {"containers": [sidecar(secret_env("s"))]}}
    found = holder(pod, {S: "token"}, WEB, 0)

    assert found is not None
    assert found.uses[0].started is None


def test_position_in_a_stateful_set_counts_from_its_first_number() -> None:
    pod = running_pod(sidecar(secret_env("s")), deletionTimestamp="x")
    pod["metadata"]["name"] = "db-7"
    found = holder(pod, {S: "token"}, Ref("StatefulSet", "shop", "db"), 5)

    assert found is not None
    assert (found.position, found.is_ending) == (2, True)


def test_controlling_owner_is_found_among_others() -> None:
    owners = [
        {"kind": "A", "name": "a"},
        {"apiVersion": "apps/v1", "kind": "B", "name": "b", "uid": "u", "controller": True},
    ]
    assert controller({"ownerReferences": owners}) == ("apps/v1", "B", "b", "u")
    assert controller({"ownerReferences": owners[:1]}) is None
    assert controller({}) is None


def found(kind: str, spec: Json | None = None, status: Json | None = None, generation: int = 1) -> Json:
    meta = {"namespace": "shop", "name": "web", "generation": generation}
    return {"kind": kind, "metadata": meta, "spec": spec or {}, "status": {"observedGeneration": 1, **(status or {})}}


@pytest.mark.parametrize(
    ("kind", "spec", "hold"),
    [
        ("Deployment", {}, None),
        ("Deployment", {"paused": True}, Hold.PAUSED),
        ("StatefulSet", {"updateStrategy": {"type": "RollingUpdate"}}, None),
        ("StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, Hold.ON_DELETE),
        ("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, Hold.ON_DELETE),
        ("DaemonSet", {}, None),
        ("Job", {}, Hold.JOB),
        ("CronJob", {}, Hold.JOB),
        ("ReplicaSet", {}, Hold.NO_ROLLOUT),
        ("Rollout", {}, Hold.OTHER_CONTROLLER),
    ],
)
def test_what_may_be_restarted_and_what_is_held(kind: str, spec: Json, hold: Hold | None) -> None:
    assert workload(found(kind, spec)).hold is hold


FULL = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}
DAEMONS = {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}


@pytest.mark.parametrize(
    ("kind", "spec", "status", "generation", "settled"),
    [
        ("Deployment", {"replicas": 3}, FULL, 1, True),
        ("Deployment", {"replicas": 3}, FULL, 2, False),
        ("Deployment", {"replicas": 3}, {**FULL, "updatedReplicas": 2}, 1, False),
        ("Deployment", {"replicas": 3}, {**FULL, "replicas": 4}, 1, False),
        ("Deployment", {"replicas": 3}, {**FULL, "availableReplicas": None}, 1, False),
        ("Deployment", {}, {**FULL, "replicas": 1, "updatedReplicas": 1}, 1, True),
        ("Deployment", {"replicas": 0}, {}, 1, True),
        ("StatefulSet", {"replicas": 3}, FULL, 1, True),
        ("StatefulSet", {"replicas": 3}, {**FULL, "updatedReplicas": 2}, 1, False),
        ("StatefulSet", {"replicas": 3}, {**FULL, "availableReplicas": 2}, 1, False),
        (
            "StatefulSet",
            {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}}},
            {**FULL, "updatedReplicas": 2},
            1,
            True,
        ),
        ("DaemonSet", {}, DAEMONS, 1, True),
        ("DaemonSet", {}, {**DAEMONS, "updatedNumberScheduled": 2}, 1, False),
        ("DaemonSet", {}, {**DAEMONS, "numberAvailable": 2}, 1, False),
    ],
)
def test_rollout_is_settled_when_it_was_seen_updated_and_ready(
    kind: str, spec: Json, status: Json, generation: int, *, settled: bool
) -> None:
    assert workload(found(kind, spec, status, generation)).is_settled is settled


def test_rollout_that_does_not_go_on_is_told() -> None:
    stuck = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
    assert "progressDeadlineSeconds" in workload(found("Deployment", {}, stuck)).failure
    assert workload(found("Deployment", {}, stuck, generation=2)).failure == ""
    assert workload(found("Deployment", {"strategy": {"type": "Recreate"}})).recreates


def test_why_pods_are_not_made_is_told_as_the_deployment_says_it() -> None:
    said = 'pods "web-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3'
    failing = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": said}]}
    assert workload(found("Deployment", {}, failing)).trouble == said.partition("forbidden: ")[2]
    failing["conditions"][0]["status"] = "False"
    assert workload(found("Deployment", {}, failing)).trouble == ""


def test_reloader_is_asked_by_its_named_annotation() -> None:
    named = {"secret.reloader.stakater.com/reload": "t, s"}
    assert restarted_by({"metadata": {"annotations": named}}, {"s"}) == "Reloader"
    template = {"spec": {"template": {"metadata": {"annotations": named}}}, "metadata": {}}
    assert restarted_by(template, {"s"}) == "Reloader"
    assert restarted_by({"metadata": {"annotations": {"reloader.stakater.com/auto": "true"}}}, {"s"}) == ""
    assert restarted_by({"metadata": {"annotations": named}}, {"x"}) == ""


def test_secret_is_read_without_its_values() -> None:
    secret = {
        "metadata": {
            "namespace": "shop",
            "name": "s",
            "ownerReferences": [{"kind": "SealedSecret", "name": "s"}],
            "managedFields": [
                {"manager": "a", "time": "1970-01-01T00:01:00Z", "fieldsV1": {"f:data": {".": {}, "f:token": {}}}},
                {"manager": "b", "time": "1970-01-01T00:02:00Z", "fieldsV1": {"f:metadata": {}}},
                {"manager": "c", "time": "1970-01-01T00:03:00Z", "fieldsV1": {"f:data": {".": {}}}},
            ],
        },
        "data": {"token": "bWFya2Vy"},
        "immutable": True,
    }
    read = token_secret(secret)

    assert read.writers == (DataWriter("a", 60, frozenset({"token"})),)
    assert (read.keys, read.owners, read.immutable) == (frozenset({"token"}), ("SealedSecret/s",), True)
    assert "bWFya2Vy" not in repr(read)
