from __future__ import annotations

from typing import Any

import pytest

from injector.core import names
from injector.core.ownership import SecretKey
from injector.core.rollout import SkipReason
from injector.core.token_state import (
    SKEW,
    ContainerUsage,
    MissingToken,
    PodUsage,
    Ref,
    SecretRevision,
    TokenState,
    pod_state,
)
from injector.rotation import decode
from injector.rotation.decode import (
    Reference,
    has_certain_value,
    missing_requests,
    missing_tokens,
    references,
    sidecar_frame,
)
from injector.rotation.decode_workloads import workload
from injector.times import rfc3339
from tests.builders import asking, container, literal_env, secret_env, sidecar

KEY = SecretKey("shop", "s", "token")
OTHER_KEY = SecretKey("shop", "s", "other")
KEYS = decode.index([KEY])["shop"]
WEB = Ref("Deployment", "shop", "web")
API, APP = names.API_TOKEN_ENV, names.APP_TOKEN_ENV
CREATED = 10_000
Json = dict[str, Any]


def running_pod(*containers: Json, init: tuple[Json, ...] = (), states: Json | None = None, **meta: object) -> Json:
    every = [*init, *containers]
    state = {one["name"]: {"running": {"startedAt": "1970-01-01T00:01:00Z"}} for one in every} | (states or {})
    return {
        "metadata": {"namespace": "shop", "name": "web-1", **meta},
        "spec": {"containers": list(containers), "initContainers": list(init)},
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{"name": one["name"], "state": state[one["name"]]} for one in init],
            "containerStatuses": [{"name": one["name"], "state": state[one["name"]]} for one in containers],
        },
    }


def usage_of(pod: Json, *keys: SecretKey, workload: Ref = WEB, first_position: int = 0) -> PodUsage:
    found = decode.pod_usage(pod, decode.index(keys or [KEY])["shop"], workload, first_position)
    assert found is not None
    return found


def usage(*containers: str, started: int | None = 60, **more: object) -> tuple[ContainerUsage, ...]:
    fields: dict[str, object] = {"key": KEY, "started": started, "variable": "", **more}
    return tuple(ContainerUsage(container=name, **fields) for name in containers)  # type: ignore[arg-type] # by name


def test_index_is_by_namespace_secret_and_key() -> None:
    elsewhere = SecretKey("other", "s", "token")
    assert decode.index([OTHER_KEY, elsewhere, KEY]) == {
        "shop": {"s": {"token": KEY, "other": OTHER_KEY}},
        "other": {"s": {"token": elsewhere}},
    }


# --- references ---


def test_effective_reference_is_the_last_of_its_name() -> None:
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
        Reference("init", API, "a", "token"),
        Reference("daprd", API, "s", "token"),
        Reference("all", "", "s", "", is_optional=True),
    ]


@pytest.mark.parametrize(
    ("entry", "optional"),
    [
        (secret_env("s"), False),
        (secret_env("s", optional=False), False),
        (secret_env("s", optional=None), False),
        (secret_env("s", optional=True), True),
    ],
)
def test_reference_is_optional_as_its_entry_says(entry: Json, *, optional: bool) -> None:
    (found,) = references({"spec": {"containers": [sidecar(entry)]}})
    assert found.is_optional is optional
    assert usage_of(running_pod(sidecar(entry))).usages == usage("daprd", variable=API, is_optional=optional)


@pytest.mark.parametrize(
    ("volume", "optional"),
    [
        ({"secret": {"secretName": "s"}}, True),  # all keys: a missing one has no file and does not block the start
        ({"secret": {"secretName": "s", "items": [{"key": "token", "path": "t"}]}}, False),
        ({"secret": {"secretName": "s", "optional": True, "items": [{"key": "token", "path": "t"}]}}, True),
        ({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}}, True),
        ({"projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "token", "path": "t"}]}}]}}, False),
    ],
)
def test_container_that_mounts_the_secret_reads_it(volume: Json, *, optional: bool) -> None:
    pod = running_pod(
        container("web", volumeMounts=[{"name": "v", "mountPath": "/t"}, {"name": "v", "mountPath": "/u"}]),
        container("other", volumeMounts=[{"name": "empty", "mountPath": "/t"}]),
    )
    pod["spec"]["volumes"] = [{"name": "v", **volume}, {"name": "empty", "emptyDir": {}}]
    assert usage_of(pod).usages == usage("web", is_optional=optional)
    assert usage_of(pod, SecretKey("shop", "c", "token")).usages == ()


def test_mounted_file_of_another_key_is_not_a_usage() -> None:
    pod = running_pod(container("web", volumeMounts=[{"name": "v", "mountPath": "/t"}]))
    pod["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "other", "path": "t"}]}}]
    assert usage_of(pod).usages == ()
    assert [one.key for one in usage_of(pod, OTHER_KEY).usages] == [OTHER_KEY]


def test_required_reference_overrides_an_optional_one() -> None:
    optional, required = secret_env("s", optional=True), secret_env("s", variable=APP)
    for env in ([optional, required], [required, optional]):
        assert usage_of(running_pod(sidecar(*env))).usages == usage("daprd", variable=APP)


# --- Pods ---


def test_usages_are_containers_that_read_the_key() -> None:
    pod = running_pod(
        sidecar(secret_env("s")),
        container("other-key", env=[secret_env("s", "other")]),
        container("other-secret", env=[secret_env("t")]),
        container("all", envFrom=[{"secretRef": {"name": "s"}}]),
        container("by-another-name", env=[secret_env("s", variable="TOKEN")]),
    )
    assert usage_of(pod).usages == (
        *usage("all", is_optional=True),
        *usage("by-another-name", variable="TOKEN"),
        *usage("daprd", variable=API),
    )


def test_whole_secret_is_a_usage_of_each_key() -> None:
    pod = running_pod(container("all", envFrom=[{"secretRef": {"name": "s"}}]))
    assert [one.key for one in usage_of(pod, KEY, OTHER_KEY).usages] == [OTHER_KEY, KEY]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_ended_pod_has_no_usage(phase: str) -> None:
    pod = running_pod(sidecar(secret_env("s")))
    pod["status"]["phase"] = phase
    assert decode.has_ended(pod)
    assert decode.pod_usage(pod, KEYS, WEB, 0) is None


def test_pod_that_uses_nothing_is_decoded_too() -> None:
    marked = running_pod(container(), annotations={"a": "b"})
    found = usage_of(marked)
    assert (found.usages, found.missing, found.restarted_for) == ((), (), {"a": "b"})
    assert found.uid == ""
    marked["metadata"]["uid"] = "u"
    assert usage_of(marked).uid == "u"


def test_ended_init_container_has_no_usage_and_native_sidecar_has() -> None:
    init = (container("init", env=[secret_env("s")]), sidecar(secret_env("s"), restartPolicy="Always"))
    found = usage_of(running_pod(init=init, states={"init": {"terminated": {}}}))
    assert found.usages == usage("daprd", variable=API)


@pytest.mark.parametrize("state", [{"waiting": {}}, {"terminated": {}}, {}])
def test_container_that_is_not_running_has_not_started(state: Json) -> None:
    (found,) = usage_of(running_pod(sidecar(secret_env("s")), states={"daprd": state})).usages
    assert found.started is None


@pytest.mark.parametrize(
    ("state", "is_starting"),
    [
        ({}, True),
        ({"waiting": {"reason": "ContainerCreating"}}, True),
        ({"waiting": {"reason": "PodInitializing"}}, True),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, False),
        ({"waiting": {"reason": "CreateContainerConfigError"}}, False),
        ({"terminated": {}}, False),
        ({"running": {"startedAt": "1970-01-01T00:01:00Z"}}, False),
    ],
)
def test_container_without_a_report_may_have_started_on_its_node(state: Json, *, is_starting: bool) -> None:
    pod = running_pod(sidecar(secret_env("s")), states={"daprd": state})
    assert not usage_of(pod).usages[0].is_starting
    pod["spec"]["nodeName"] = "node"
    assert usage_of(pod).usages[0].is_starting is is_starting


@pytest.mark.parametrize(
    ("state", "reads"), [({"running": {"startedAt": "1970-01-01T00:02:00Z"}}, True), ({"terminated": {}}, False)]
)
def test_ephemeral_container_reads_its_value_until_it_ends(state: Json, *, reads: bool) -> None:
    pod = running_pod(container("web"))
    pod["spec"]["ephemeralContainers"] = [container("debugger", env=[secret_env("s")])]
    pod["status"]["ephemeralContainerStatuses"] = [{"name": "debugger", "state": state}]
    assert usage_of(pod).usages == (usage("debugger", started=120, variable=API) if reads else ())


def test_running_container_without_a_start_time_counts_as_oldest() -> None:
    assert usage_of(running_pod(sidecar(secret_env("s")), states={"daprd": {"running": {}}})).usages[0].started == 0


def test_pod_without_a_status_has_not_started() -> None:
    pod = {"metadata": {"namespace": "shop", "name": "p"}, "spec": {"containers": [sidecar(secret_env("s"))]}}
    found = usage_of(pod)
    assert found.usages[0].started is None
    assert (found.created, found.clock_lead) == (None, None)


def test_position_in_a_stateful_set_counts_from_its_first_number() -> None:
    pod = running_pod(sidecar(secret_env("s")), deletionTimestamp="x")
    pod["metadata"]["name"] = "db-7"
    found = usage_of(pod, workload=Ref("StatefulSet", "shop", "db"), first_position=5)
    assert (found.position, found.is_ending) == (2, True)
    pod["metadata"]["name"] = "db"
    assert usage_of(pod, workload=Ref("StatefulSet", "shop", "db")).position == 0


# --- the lead of a node's clock ---


def placed_pod(*, accepted: int | None, scheduled: int | None = None, started: int | None = None) -> Json:
    """A Pod that was created at CREATED; all other times are by the clock of its node but `scheduled`."""
    states = {} if started is None else {"daprd": {"running": {"startedAt": rfc3339(started)}}}
    pod = running_pod(sidecar(secret_env("s")), states=states, creationTimestamp=rfc3339(CREATED))
    pod["spec"]["nodeName"] = "node"
    if accepted is not None:
        pod["status"]["startTime"] = rfc3339(accepted)
    if scheduled is not None:
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(scheduled)}
        pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}, condition]
    return pod


@pytest.mark.parametrize(
    ("accepted", "scheduled", "lead"),
    [
        (CREATED, CREATED, 0),
        (CREATED + 1, CREATED, 1),
        (CREATED - 60, CREATED, 0),
        (CREATED + 60, CREATED + 1, 60),
        (CREATED + SKEW, CREATED + SKEW, SKEW),
        (CREATED + SKEW + 1, None, None),
        (CREATED + 500, CREATED + 495, 5),
        (CREATED + 500, CREATED + 560, 0),
        (None, CREATED, None),
    ],
    ids=[
        "same-clock",
        "a-second-later",
        "clock-behind",
        "clock-ahead",
        "within-the-tolerance",
        "beyond-without-a-condition",
        "pending-for-long",
        "pending-for-long-clock-behind",
        "not-accepted-yet",
    ],
)
def test_clock_lead_is_bounded_by_acceptance_on_the_node(
    accepted: int | None, scheduled: int | None, lead: int | None
) -> None:
    assert usage_of(placed_pod(accepted=accepted, scheduled=scheduled)).clock_lead == lead


@pytest.mark.parametrize(
    "condition",
    [
        {"type": "PodScheduled", "status": "False", "lastTransitionTime": rfc3339(CREATED + 495)},
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(CREATED + 495)},
    ],
)
def test_clock_lead_is_unknown_without_the_time_of_scheduling(condition: Json) -> None:
    pod = placed_pod(accepted=CREATED + 500)
    pod["status"]["conditions"] = [condition]
    assert usage_of(pod).clock_lead is None


def test_clock_lead_is_unknown_without_a_creation_time() -> None:
    pod = placed_pod(accepted=CREATED, scheduled=CREATED)
    del pod["metadata"]["creationTimestamp"]
    assert usage_of(pod).clock_lead is None


WRITTEN = CREATED + 300


@pytest.mark.parametrize(
    ("clock", "real_start", "state"),
    [
        (0, WRITTEN + 1, TokenState.CURRENT),
        (60, WRITTEN + 2, TokenState.CURRENT),
        (0, WRITTEN - 1, TokenState.OUTDATED),
        (60, WRITTEN - 61, TokenState.OUTDATED),
        (60, WRITTEN - 30, TokenState.UNCERTAIN),
        (60, WRITTEN - 1, TokenState.UNCERTAIN),
    ],
    ids=[
        "waited",
        "waited-clock-ahead",
        "read-a-deleted-secret",
        "read-a-deleted-secret-clock-ahead",
        "read-a-deleted-secret-seems-later",
        "read-a-deleted-secret-just-before",
    ],
)
def test_state_of_containers_started_around_the_first_value(clock: int, real_start: int, state: TokenState) -> None:
    # Created before the Secret; its kubelet accepted it, and could not start the sidecar until the Secret existed.
    pod = placed_pod(accepted=CREATED + clock, scheduled=CREATED, started=real_start + clock)
    first = SecretRevision(id="x", changed=WRITTEN, created=WRITTEN)
    assert pod_state(usage_of(pod), {KEY: first}) is state


def test_long_pending_pod_waited_for_the_first_value() -> None:
    pod = placed_pod(accepted=CREATED + 250, scheduled=CREATED + 249, started=WRITTEN + 2)
    first = SecretRevision(id="x", changed=WRITTEN, created=WRITTEN)
    assert pod_state(usage_of(pod), {KEY: first}) is TokenState.CURRENT


# --- requested tokens that are missing ---


def requesting(*containers: Json, init: tuple[Json, ...] = (), annotations: Json | None = None) -> Json:
    return running_pod(*containers, init=init, annotations=asking() if annotations is None else annotations)


def missing(key: SecretKey = KEY, variable: str = API) -> MissingToken:
    return MissingToken(key=key, container="daprd", variable=variable)


@pytest.mark.parametrize(
    "env",
    [
        [],
        [literal_env("")],
        [{"name": API}],
        [{"name": API, "value": None, "valueFrom": None}],
        [literal_env("x", variable="OTHER")],
        [secret_env("s"), literal_env("")],
        [secret_env("s", variable=APP)],
    ],
    ids=["none", "empty", "neither", "nulls", "another", "empty-last", "app-token"],
)
def test_sidecar_without_the_requested_token_misses_it(env: list[Json]) -> None:
    found = usage_of(requesting(container(), sidecar(*env)))
    assert found.missing == (missing(),)
    assert KEY in found.keys


@pytest.mark.parametrize(
    "env",
    [
        [secret_env("s")],
        [secret_env("s", optional=True)],
        [secret_env("t")],
        [literal_env("x")],
        [literal_env(""), secret_env("s")],
        [{"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
        [{"name": API, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    ],
)
def test_sidecar_with_a_value_misses_nothing(env: list[Json]) -> None:
    assert usage_of(requesting(sidecar(*env))).missing == ()


@pytest.mark.parametrize("word", ["true", "True", " TRUE ", "y", "Yes", "t", "on", "1", True])
def test_token_is_requested_by_every_true_word(word: object) -> None:
    pod = requesting(sidecar(), annotations=asking() | {names.ENABLED: word})
    assert list(missing_tokens(pod, KEYS)) == [missing()]


@pytest.mark.parametrize("word", ["false", "no", "", None, "enabled", "2", False])
def test_token_is_not_requested_without_true_enabled(word: object) -> None:
    pod = requesting(sidecar(), annotations=asking() | {names.ENABLED: word})
    assert list(missing_tokens(pod, KEYS)) == []


@pytest.mark.parametrize(
    "annotations", [{}, asking(None), asking("t"), asking(""), asking(" "), asking(app_token_secret="t")]
)
def test_pod_that_requests_another_secret_misses_nothing(annotations: Json) -> None:
    pod = requesting(sidecar(secret_env("x")), annotations=annotations)
    assert list(missing_tokens(pod, KEYS)) == []


def test_name_of_the_secret_is_trimmed() -> None:
    assert list(missing_tokens(requesting(sidecar(), annotations=asking(" s ")), KEYS)) == [missing()]


def test_pod_without_a_sidecar_misses_nothing() -> None:
    assert list(missing_tokens(requesting(container()), KEYS)) == []


def test_native_sidecar_without_a_token_misses_it() -> None:
    native = sidecar(restartPolicy="Always")
    assert list(missing_tokens(requesting(container(), init=(native,)), KEYS)) == [missing()]


def test_one_of_two_sidecars_without_a_token_misses_it() -> None:
    pods = [
        requesting(sidecar(secret_env("s")), init=(sidecar(),)),
        requesting(sidecar(), init=(sidecar(secret_env("s")),)),
        requesting(sidecar(), init=(sidecar(),)),
    ]
    for pod in pods:
        assert list(missing_tokens(pod, KEYS)) == [missing()]
    both = requesting(sidecar(secret_env("s")), init=(sidecar(secret_env("s")),))
    assert list(missing_tokens(both, KEYS)) == []


@pytest.mark.parametrize(
    ("annotations", "container", "variable", "is_default"),
    [
        ({}, "daprd", names.API_TOKEN_ENV, True),
        ({names.ENABLED: "false"}, "daprd", names.API_TOKEN_ENV, False),
        ({names.API_TOKEN_SECRET: "  "}, "daprd", names.API_TOKEN_ENV, True),
        ({names.APP_TOKEN_SECRET: "s"}, "daprd", names.API_TOKEN_ENV, True),
        ({names.API_TOKEN_SECRET: "s"}, "daprd", names.API_TOKEN_ENV, False),
        ({names.API_TOKEN_SECRET: "other"}, "daprd", names.API_TOKEN_ENV, False),
        ({}, "web", names.API_TOKEN_ENV, False),
        ({}, "daprd", names.APP_TOKEN_ENV, False),
        ({}, "daprd", "OTHER", False),
    ],
)
def test_unrequested_api_token_of_a_sidecar_is_the_default(
    annotations: Json, container: str, variable: str, *, is_default: bool
) -> None:
    entry = {"name": variable, "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
    pod = {
        "metadata": {"namespace": "shop", "name": "p", "annotations": {names.ENABLED: "true", **annotations}},
        "spec": {"containers": [{"name": container, "env": [entry]}]},
    }
    assert usage_of(pod).defaults == ({KEY} if is_default else set())


def test_requested_app_token_that_is_absent_is_missing() -> None:
    annotations = asking(None, app_token_secret="s")
    assert list(missing_tokens(requesting(sidecar(), annotations=annotations), KEYS)) == [missing(variable=APP)]
    pod = requesting(sidecar(secret_env("s")), annotations=asking(app_token_secret="s"))
    assert list(missing_tokens(pod, KEYS)) == [missing(variable=APP)]
    assert usage_of(pod).usages == usage("daprd", variable=API)


@pytest.mark.parametrize(
    ("annotation", "keys", "found"),
    [
        ("", [KEY], [KEY]),
        ("", [KEY, OTHER_KEY], [KEY]),
        ("", [OTHER_KEY], [OTHER_KEY]),  # the Policy's default key is not in the Pod
        ("token", [KEY, OTHER_KEY], [KEY]),
        ("other", [KEY, OTHER_KEY], [OTHER_KEY]),
        (" other ", [KEY, OTHER_KEY], [OTHER_KEY]),
        ("other", [KEY], []),
        ("token", [OTHER_KEY], []),
    ],
)
def test_missing_key_is_that_of_the_annotation_or_the_default(
    annotation: str, keys: list[SecretKey], found: list[SecretKey]
) -> None:
    annotations = asking() | ({names.API_TOKEN_KEY: annotation} if annotation else {})
    pod = requesting(sidecar(), annotations=annotations)
    assert [one.key for one in missing_tokens(pod, decode.index(keys)["shop"])] == found
    assert list(missing_requests(pod)) == [(API, "s", annotation.strip())]


def test_env_from_the_secret_is_a_usage_and_not_the_token() -> None:
    # Its variable is named after the key, not DAPR_API_TOKEN.
    found = usage_of(requesting(sidecar(envFrom=[{"secretRef": {"name": "s"}}])))
    assert found.usages == usage("daprd", is_optional=True)
    assert found.missing == (missing(),)


@pytest.mark.parametrize(
    ("env", "certain"),
    [
        ([], False),
        ([literal_env("x")], True),
        ([literal_env("")], False),
        ([secret_env("t")], True),
        ([secret_env("t", optional=False)], True),
        ([secret_env("t", optional=True)], False),
        ([secret_env("t"), secret_env("t", optional=True)], False),
        ([{"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}], True),
        ([{"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}}], False),
    ],
)
def test_value_is_certain_when_the_kubelet_must_resolve_it(env: list[Json], *, certain: bool) -> None:
    assert has_certain_value(sidecar(*env), API, {}) is certain


# --- the frame of a sidecar ---

KEPT = {"resources": {"limits": {"cpu": "1"}}, "securityContext": {"runAsNonRoot": True}}


def test_frame_of_a_sidecar_has_the_fields_read_by_quotas() -> None:
    found = sidecar(secret_env("s"), args=["--x"], ports=[{"containerPort": 3500}], envFrom=[], **KEPT)
    frame = {"name": "daprd", "image": "daprd:1", **KEPT}
    assert sidecar_frame(running_pod(container(), found)) == ("containers", frame)
    native = sidecar(secret_env("s"), restartPolicy="Always")
    frame = {"name": "daprd", "image": "daprd:1", "restartPolicy": "Always"}
    assert sidecar_frame(running_pod(container(), init=(container("init"), native))) == ("initContainers", frame)


@pytest.mark.parametrize("pod", [{}, {"spec": {"containers": None}}, running_pod(container())])
def test_pod_without_a_sidecar_has_no_frame(pod: Json) -> None:
    assert sidecar_frame(pod) is None


# --- workloads ---


def workload_object(kind: str, spec: Json | None = None, status: Json | None = None, generation: int = 1) -> Json:
    meta = {"namespace": "shop", "name": "web", "generation": generation}
    return {"kind": kind, "metadata": meta, "spec": spec or {}, "status": {"observedGeneration": 1, **(status or {})}}


@pytest.mark.parametrize(
    ("kind", "spec", "reason"),
    [
        ("Deployment", {}, None),
        ("Deployment", {"paused": True}, SkipReason.PAUSED),
        ("StatefulSet", {"updateStrategy": {"type": "RollingUpdate"}}, None),
        ("StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, SkipReason.ON_DELETE),
        ("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, SkipReason.ON_DELETE),
        ("DaemonSet", {}, None),
        ("Job", {}, SkipReason.JOB),
        ("CronJob", {}, SkipReason.JOB),
        ("ReplicaSet", {}, SkipReason.NO_ROLLOUT),
        ("Rollout", {}, None),
        ("Rollout", {"paused": True}, None),
        ("Application", {}, SkipReason.OTHER_CONTROLLER),
    ],
)
def test_skip_reason_follows_from_kind_and_spec(kind: str, spec: Json, reason: SkipReason | None) -> None:
    assert workload(workload_object(kind, spec)).skip_reason is reason


FULL = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}
SCHEDULED = "2026-01-02T00:00:00Z"
DAEMONS = {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}


@pytest.mark.parametrize(
    ("kind", "spec", "status", "generation", "complete"),
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
        ("Rollout", {"replicas": 3}, FULL, 1, True),
        ("Rollout", {"replicas": 3}, {"availableReplicas": 2}, 1, False),
        ("Rollout", {"replicas": 3}, {**FULL, "observedGeneration": "1"}, 2, False),
        ("Rollout", {"replicas": 3}, {**FULL, "observedGeneration": "2"}, 2, True),
        ("Rollout", {"replicas": 3}, {**FULL, "observedGeneration": "6bd9f7c4d8"}, 2, True),
        ("Rollout", {"replicas": 3}, {**FULL, "observedGeneration": "9" * 5000}, 2, True),
        ("Rollout", {"replicas": 3, "restartAt": SCHEDULED}, FULL, 1, False),
        ("Rollout", {"replicas": 3, "restartAt": SCHEDULED}, {**FULL, "restartedAt": "2026-01-01T00:00:00Z"}, 1, False),
        ("Rollout", {"replicas": 3, "restartAt": SCHEDULED}, {**FULL, "restartedAt": SCHEDULED}, 1, True),
        ("Rollout", {"replicas": 3, "restartAt": 5}, FULL, 1, True),
    ],
)
def test_rollout_is_complete_when_seen_updated_and_available(
    kind: str, spec: Json, status: Json, generation: int, *, complete: bool
) -> None:
    assert workload(workload_object(kind, spec, status, generation)).rollout_complete is complete


def test_time_of_the_last_restart_is_read_from_argo_rollouts_only() -> None:
    assert workload(workload_object("Rollout", {"restartAt": SCHEDULED})).restart_at == 1767312000
    assert workload(workload_object("Rollout", {})).restarts_by_time
    other = workload(workload_object("Deployment", {"restartAt": SCHEDULED}))
    assert (other.restart_at, other.restarts_by_time) == (None, False)


def test_rollout_past_its_deadline_has_failed() -> None:
    stuck = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
    assert "progressDeadlineSeconds" in workload(workload_object("Deployment", {}, stuck)).failure
    assert workload(workload_object("Deployment", {}, stuck, generation=2)).failure == ""
    assert workload(workload_object("Deployment", {"strategy": {"type": "Recreate"}})).recreates


def test_trouble_is_the_replica_failure_message() -> None:
    reported = 'pods "web-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3'
    failing = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": reported}]}
    assert workload(workload_object("Deployment", {}, failing)).trouble == reported.partition("forbidden: ")[2]
    failing["conditions"][0]["status"] = "False"
    assert workload(workload_object("Deployment", {}, failing)).trouble == ""
