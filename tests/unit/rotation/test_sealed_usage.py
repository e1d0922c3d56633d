"""What the containers of a sealed Pod hold: the value of the last start of the seal container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.core import names
from injector.core.ownership import SecretKey
from injector.core.rollout import Action, PlannedAction, State, Workload, progress_of
from injector.core.token_state import (
    ContainerUsage,
    MissingToken,
    PodUsage,
    Ref,
    SecretRevision,
    TokenState,
    pod_state,
    state_of,
)
from injector.rotation import decode, fields
from injector.rotation.admission import expected_of, lacking_of
from injector.rotation.usage import KeyUse, token_uses
from injector.times import rfc3339
from tests.builders import asking, container, secret_env, sidecar
from tests.sealing import API, CHECK, SEAL, file_env, sealed_spec

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
KEY: Final = SecretKey("shop", "s", "token")
KEYS: Final = decode.index([KEY])["shop"]
WEB: Final = Ref("Deployment", "shop", "web")
SPEC: Final = sealed_spec("s", sidecar(file_env()), container("web", env=[file_env()]))
SEALED_AT, STARTED, CHANGED = 1_000, 9_000, 5_000
REVISION: Final = SecretRevision(id="new", changed=CHANGED)
OPEN: Final[Json] = {"waiting": {"reason": "PodInitializing"}}


def running(at: int = STARTED) -> Json:
    return {"running": {"startedAt": rfc3339(at)}}


def ended(at: int = SEALED_AT, code: int = 0) -> Json:
    return {"terminated": {"exitCode": code, "startedAt": rfc3339(at), "finishedAt": rfc3339(at)}}


def crashing(at: int = SEALED_AT) -> Json:
    return {"waiting": {"reason": "CrashLoopBackOff"}, "lastState": ended(at, 1)}


def sealed(seal: Json | None, reader: Json | None, spec: Json = SPEC, **meta: object) -> Json:
    """A Pod whose seal container and readers have these states."""
    status = {
        "phase": "Running",
        "initContainerStatuses": [] if seal is None else [{"name": SEAL, "state": seal}],
        "containerStatuses": [] if reader is None else [{"name": one, "state": reader} for one in ("daprd", "web")],
    }
    named = {"namespace": "shop", "name": "web-1", **meta}
    return {"metadata": named, "spec": {"nodeName": "n", **spec}, "status": status}


def usage_of(pod: Json) -> PodUsage:
    found = decode.pod_usage(pod, KEYS, WEB, 0)
    assert found is not None
    return found


def changed(change: Callable[[Json], object]) -> Json:
    spec: Json = json.loads(json.dumps(SPEC))
    change(spec)
    return spec


def test_readers_have_the_key_of_the_seal_container_and_its_start() -> None:
    assert usage_of(sealed(ended(), running())).usages == tuple(
        ContainerUsage(container=name, key=KEY, started=SEALED_AT, variable=API, is_sealed=True)
        for name in ("daprd", "web")
    )


@pytest.mark.parametrize(
    ("seal", "reader", "state"),
    [
        (ended(), running(), TokenState.OUTDATED),  # also after a restart in place
        (ended(), running(SEALED_AT), TokenState.OUTDATED),
        (ended(), OPEN, TokenState.OUTDATED),  # it will start with the previous value
        (ended(), {"waiting": {"reason": "CrashLoopBackOff"}}, TokenState.OUTDATED),
        (ended(), ended(STARTED, 1), TokenState.OUTDATED),
        (ended(), None, TokenState.OUTDATED),
        (running(SEALED_AT), OPEN, TokenState.OUTDATED),  # it has read the value
        ({"terminated": {"exitCode": 0}}, running(), TokenState.OUTDATED),
        ({"running": {}}, None, TokenState.OUTDATED),
        (ended(8_000), running(), TokenState.CURRENT),  # a new sandbox
        (ended(8_000), OPEN, TokenState.CURRENT),
        (running(8_000), OPEN, TokenState.CURRENT),
        (ended(CHANGED + 1), running(), TokenState.UNCERTAIN),
        (None, None, TokenState.UNCERTAIN),  # nothing is reported
        (OPEN, OPEN, TokenState.UNCERTAIN),
        (crashing(), OPEN, TokenState.NOT_STARTED),  # it wrote nothing, and will read the current value
        (ended(code=1), OPEN, TokenState.NOT_STARTED),
        ({"waiting": {"reason": "CreateContainerConfigError"}}, OPEN, TokenState.NOT_STARTED),
        # Nothing shows what these read: they count as very old.
        (None, running(), TokenState.OUTDATED),
        (OPEN, running(), TokenState.OUTDATED),
        (crashing(), running(), TokenState.OUTDATED),
        (ended(code=1), {"waiting": {"reason": "CrashLoopBackOff"}}, TokenState.OUTDATED),
        (ended(STARTED + 1), running(), TokenState.OUTDATED),
    ],
)
def test_value_is_of_the_last_start_of_the_seal_container(
    seal: Json | None, reader: Json | None, state: TokenState
) -> None:
    pod = usage_of(sealed(seal, reader))
    assert {state_of(one, pod, REVISION) for one in pod.usages} == {state}


def test_pod_that_is_not_scheduled_holds_nothing() -> None:
    pod = sealed(None, None)
    del pod["spec"]["nodeName"]
    assert pod_state(usage_of(pod), {KEY: REVISION}) is TokenState.NOT_STARTED


def test_ended_reader_holds_nothing() -> None:
    init = container("migrate", env=[file_env()])
    pod = sealed(ended(), None, sealed_spec("s", init=(init,)))
    pod["status"]["initContainerStatuses"].append({"name": "migrate", "state": ended(STARTED)})
    assert usage_of(pod).usages == ()


def test_container_that_also_reads_the_secret_has_both_usages() -> None:
    both = sidecar(file_env(), secret_env("s", variable="X"))
    found = usage_of(sealed(ended(), running(), sealed_spec("s", both))).usages
    assert [(one.is_sealed, one.started) for one in found] == [(False, STARTED), (True, SEALED_AT)]


def test_optional_file_is_an_optional_usage() -> None:
    (found,) = usage_of(sealed(ended(), running(), sealed_spec("s", sidecar(file_env(optional=True))))).usages
    assert (found.is_optional, found.is_sealed) == (True, True)


def test_other_secrets_of_the_seal_container_are_its_own() -> None:
    def change(spec: Json) -> None:
        spec["initContainers"][0]["env"].append(secret_env("other", variable="PROXY"))

    assert [(one.container, one.secret) for one in decode.references({"spec": changed(change)})] == [
        (SEAL, "other"),
        ("daprd", "s"),
        ("web", "s"),
    ]


BROKEN: Final[dict[str, Callable[[Json], object]]] = {
    "volume on disk": lambda spec: spec["volumes"][0].update(emptyDir={}),
    "no check container": lambda spec: spec["initContainers"].pop(1),
    "other key": lambda spec: spec["containers"][0]["env"].append(file_env(key="OTHER")),
    "other path": lambda spec: spec["containers"][0]["env"].append(file_env(path="other")),
    "malformed medium": lambda spec: spec["volumes"][0].update(emptyDir={"medium": 1}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_sidecar_of_a_broken_seal_has_no_token(name: str) -> None:
    pod = usage_of(sealed(ended(), running(), changed(BROKEN[name])))
    assert MissingToken(key=KEY, container="daprd", variable=API, is_broken_seal=True) in pod.missing
    assert [one.container for one in pod.usages if one.container == "daprd"] == []


@pytest.mark.parametrize("name", BROKEN)
def test_broken_seal_is_distinguished_from_a_sound_one(name: str) -> None:
    sound = sealed(ended(), running())
    assert not decode.has_broken_seal(sound)
    assert not decode.has_broken_seal({})
    spec = sealed_spec("s", sidecar(file_env()))
    BROKEN[name](spec)
    assert decode.has_broken_seal({**sound, "spec": spec})


def test_reader_before_the_check_container_has_no_token() -> None:
    early = sidecar(file_env(), restartPolicy="Always")
    spec = sealed_spec("s")
    spec["initContainers"].insert(1, early)
    pod = usage_of(sealed(ended(), None, spec))
    assert pod.usages == ()
    assert pod.missing == (MissingToken(key=KEY, container="daprd", variable=API, is_broken_seal=True),)


def test_request_of_a_pod_whose_seal_container_is_gone_is_missing() -> None:
    def change(spec: Json) -> None:
        del spec["initContainers"][:2]

    pod = usage_of(sealed(None, running(), changed(change), annotations=asking("s")))
    assert pod.missing == (MissingToken(key=KEY, container="daprd", variable=API),)


def test_sealed_sidecar_has_the_token_that_it_requests() -> None:
    assert usage_of(sealed(ended(), running(), annotations=asking("s"))).missing == ()


def test_own_file_is_not_a_value_of_a_requested_token() -> None:
    own = {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [sidecar(file_env(volumeName="v"))]}
    assert [one.container for one in usage_of(sealed(None, running(), own, annotations=asking("s"))).missing] == [
        "daprd"
    ]
    assert usage_of(sealed(None, running(), own)).missing == ()


@pytest.mark.parametrize("name", [*BROKEN, ""])
def test_slim_pod_has_the_same_usages(name: str) -> None:
    spec = changed(BROKEN[name]) if name else SPEC
    pod = sealed(ended(), running(), spec)
    read = fields.read_pod(json.dumps(pod).encode()) if name != "malformed medium" else pod

    assert usage_of(decode.slim(read, {})) == usage_of(read) == usage_of(pod)


def test_fields_of_other_pods_are_not_read() -> None:
    mount = {"name": "v", "mountPath": "/x"}
    spec = {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [container(volumeMounts=[mount])]}
    read = fields.read_pod(json.dumps(sealed(None, None, spec)).encode())

    assert read["spec"]["volumes"] == [{"name": "v"}]
    assert read["spec"]["containers"][0]["volumeMounts"] == [{"name": "v"}]


def test_sealed_pod_uses_the_secret_as_a_token() -> None:
    assert token_uses(sealed(ended(), running()), "s") == {"token": KeyUse("api")}


# --- a restart: the expected containers, and those that lack a token ---


def answer(spec: Json) -> Json:
    return {"metadata": {"generateName": "web-", "annotations": asking("s")}, "spec": spec}


def test_sealed_containers_are_the_expected_ones() -> None:
    assert expected_of(answer(SPEC), WEB, [KEY]) == {KEY: {"daprd", "web"}}


def test_new_pods_may_be_sealed_or_not() -> None:
    plain = {"containers": [sidecar(secret_env("s")), container("web", env=[secret_env("s")])]}
    unsealed = usage_of(sealed(None, running(), plain))
    for new, old in (
        (SPEC, unsealed),
        (plain, usage_of(sealed(ended(), running()))),
        (SPEC, usage_of(sealed(ended(), running()))),
    ):
        assert lacking_of(answer(new), WEB, [old], expected_of(answer(new), WEB, [KEY])) == ()


def test_token_of_another_key_in_the_file_is_a_value() -> None:
    new = answer(sealed_spec("other", sidecar(file_env())))
    new["metadata"]["annotations"] = {}
    old = usage_of(sealed(ended(), running(), sealed_spec("s", sidecar(file_env()))))
    assert lacking_of(new, WEB, [old], expected_of(new, WEB, [KEY])) == ()
    new["spec"]["containers"][0]["env"] = [file_env(optional=True)]
    assert lacking_of(new, WEB, [old], expected_of(new, WEB, [KEY])) == ("daprd",)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_seal_of_a_new_pod_is_lacking(name: str) -> None:
    new = answer(changed(BROKEN[name]))
    assert "daprd" in lacking_of(new, WEB, [], expected_of(new, WEB, [KEY]))


@pytest.mark.parametrize(
    ("spec", "state"), [(SPEC, State.READY), (changed(BROKEN["no check container"]), State.NOT_INJECTED)]
)
def test_new_sealed_pod_is_ready_unless_its_seal_is_broken(spec: Json, state: State) -> None:
    mark = {f"{names.RESTARTED_FOR}s": "new"}
    new = usage_of(sealed(ended(8_000), running(), spec, annotations=mark))
    action = PlannedAction(ref=WEB, action=Action.RESTART, keys=(KEY,), marks=mark)
    workload = Workload(ref=WEB, restarted_for=mark)
    expected = expected_of(answer(SPEC), WEB, [KEY])

    assert progress_of(action, workload, [new], {KEY: REVISION}, expected).state is state
    assert CHECK not in expected[KEY]


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize(("optional", "state"), [(False, State.READY), (True, State.NOT_INJECTED)])
def test_init_container_that_ended_had_its_token(is_sealed: bool, optional: bool, state: State) -> None:  # noqa: FBT001 - cases
    """It holds nothing, so that it has no usage; a new Pod is ready in spite of that."""
    entry = file_env if is_sealed else secret_env
    spec = sealed_spec("s", sidecar(file_env()), init=(container("migrate", env=[entry()]),))
    new = json.loads(json.dumps(spec))
    new["initContainers"][2]["env"] = [entry(optional=optional)]
    mark = {f"{names.RESTARTED_FOR}s": "new"}
    pod = sealed(ended(8_000), running(), new, annotations=mark)
    pod["status"]["initContainerStatuses"].append({"name": "migrate", "state": ended(8_001)})
    action = PlannedAction(ref=WEB, action=Action.RESTART, keys=(KEY,), marks=mark)
    expected = expected_of(answer(spec), WEB, [KEY])

    assert expected[KEY] == {"daprd", "migrate"}
    found = progress_of(action, Workload(ref=WEB, restarted_for=mark), [usage_of(pod)], {KEY: REVISION}, expected)
    assert found.state is state
