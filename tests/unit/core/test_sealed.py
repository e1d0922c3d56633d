"""Which Pods are sealed: each line of the table in docs/decisions/0035-sealed-pods.md."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from injector.core.env import FileRef
from injector.core.errors import MalformedObjectError
from injector.core.model import TokenRef
from injector.core.observed import has_seal, sealable_spec
from injector.core.sealed import NOT_SEALED, SealableSpec, file_ref, first_reader, seal_of, sealed_tokens
from tests.property.work import TIMES, is_in_proportion, measured

if TYPE_CHECKING:
    from collections.abc import Callable

API: Final = "DAPR_API_TOKEN"
APP: Final = "APP_API_TOKEN"
VOLUME: Final = "dapr-token-injector-seal"


def _file(variable: str) -> dict[str, Any]:
    source = {"volumeName": "dapr-token-injector-seal", "path": "tokens.env", "key": variable}
    return {"name": variable, "valueFrom": {"fileKeyRef": source}}


SEALED: Final[dict[str, Any]] = {
    "volumes": [{"name": "dapr-token-injector-seal", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}}],
    "initContainers": [
        {
            "name": "dapr-token-injector-seal",
            "command": ["dapr-token-injector", "seal"],
            "args": [API],
            "env": [{"name": API, "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "api"}}}],
            "volumeMounts": [{"name": "dapr-token-injector-seal", "mountPath": "/dapr-token-injector/seal"}],
        },
        {
            "name": "dapr-token-injector-seal-check",
            "command": ["dapr-token-injector", "seal", "--check"],
            "args": [API],
            "env": [_file(API)],
        },
        {"name": "daprd", "restartPolicy": "Always", "env": [_file(API)]},
    ],
    "containers": [{"name": "app", "env": [_file(API)]}],
}


def _spec(spec: object) -> SealableSpec:
    return msgspec.json.decode(msgspec.json.encode(spec), type=SealableSpec)


def _reference(variable: str = API, **more: object) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "api", **more}}}


def _mount(**more: object) -> dict[str, Any]:
    return {"name": VOLUME, "mountPath": "/dapr-token-injector/seal", **more}


def _changed(change: Callable[[dict[str, Any]], object]) -> SealableSpec:
    """The sealed Pod after a change."""
    spec = copy.deepcopy(SEALED)
    change(spec)
    return _spec(spec)


def _set(container: int, **fields: object) -> Callable[[dict[str, Any]], object]:
    """Set fields of an init container: 0 is the seal container, 1 the check container."""
    return lambda spec: spec["initContainers"][container].update(fields)


def test_sealed_pod_is_recognized() -> None:
    assert sealed_tokens(_spec(SEALED)) == {API: TokenRef("tokens", "api")}
    assert first_reader(_spec(SEALED)) == 2


def test_pod_without_seal_is_not_sealed() -> None:
    assert sealed_tokens(_spec({})) == {}
    assert first_reader(_spec({})) == 0
    assert sealed_tokens(_spec({"containers": None, "initContainers": None, "volumes": None})) == {}


def test_both_variables_are_provided_in_their_order() -> None:
    spec = copy.deepcopy(SEALED)
    seal, check = spec["initContainers"][:2]
    seal["env"] = [_reference(APP, key="app"), _reference()]
    check["env"] = [_file(APP), _file(API)]
    seal["args"] = check["args"] = [API, APP]

    assert sealed_tokens(_spec(spec)) == {API: TokenRef("tokens", "api"), APP: TokenRef("tokens", "app")}
    for words in ([APP, API], [API], [APP], [API, APP, "X"]):
        for changed in ([{**seal, "args": words}, check], [seal, {**check, "args": words}]):
            assert sealed_tokens(_spec({**spec, "initContainers": changed})) == {}


ALLOWED: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "image": _set(0, image="registry.example/older:1"),
    "other variables": _set(0, env=[{"name": "TZ", "value": "UTC"}, _reference(), {"name": "X", "value": "x"}]),
    "other variables of the check container": _set(1, env=[{"name": "TZ", "value": "UTC"}, _file(API)]),
    "last of two entries": _set(0, env=[{"name": API, "value": "x"}, _reference()]),
    "container before": lambda spec: spec["initContainers"].insert(0, {"name": "istio-init"}),
    "container between": lambda spec: spec["initContainers"].insert(1, {"name": "other"}),
    "other volumes": lambda spec: spec["volumes"].append({"name": "other", "configMap": {"name": "c"}}),
    "other mounts": lambda spec: spec["containers"][0].update(volumeMounts=[{"name": "other", "mountPath": "/x"}]),
    "no reader": lambda spec: spec.update(containers=[]),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_difference_that_is_not_compared_keeps_the_seal(name: str) -> None:
    assert sealed_tokens(_changed(ALLOWED[name])) == {API: TokenRef("tokens", "api")}


BROKEN: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "no volume": lambda spec: spec.update(volumes=None),
    "volume of another name": lambda spec: spec["volumes"][0].update(name="other"),
    "two volumes": lambda spec: spec["volumes"].append(spec["volumes"][0]),
    "volume on disk": lambda spec: spec["volumes"][0].update(emptyDir={"sizeLimit": "64Ki"}),
    "volume on huge pages": lambda spec: spec["volumes"][0].update(emptyDir={"medium": "HugePages"}),
    "volume that lives longer": lambda spec: spec["volumes"][0].update(emptyDir=None, hostPath={"path": "/x"}),
    "not mounted": _set(0, volumeMounts=None),
    "mounted at another path": _set(0, volumeMounts=[_mount(mountPath="/dapr-token-injector")]),
    "mounted with subPath": _set(0, volumeMounts=[_mount(subPath="x")]),
    "mounted with subPathExpr": _set(0, volumeMounts=[_mount(subPathExpr="$(X)")]),
    "mounted twice": _set(0, volumeMounts=[_mount(), _mount(mountPath="/x")]),
    "mounted by the check container": _set(1, volumeMounts=[_mount()]),
    "mounted by another init container": lambda spec: spec["initContainers"][2].update(volumeMounts=[_mount()]),
    "mounted by an app": lambda spec: spec["containers"][0].update(volumeMounts=[_mount(readOnly=True)]),
    "mounted by an ephemeral container": lambda spec: spec.update(
        ephemeralContainers=[{"name": "debug", "volumeMounts": [_mount()]}]
    ),
    "mounted by another container only": lambda spec: (
        spec["initContainers"][0].pop("volumeMounts"),
        spec["initContainers"][2].update(volumeMounts=[_mount()]),
    ),
    "seal container absent": lambda spec: spec["initContainers"].pop(0),
    "seal container of another name": _set(0, name="other"),
    "seal container is regular": lambda spec: spec["containers"].append(spec["initContainers"].pop(0)),
    "seal container restarts": _set(0, restartPolicy="Always"),
    "seal container restarts on failure": _set(0, restartPolicy="OnFailure"),
    "seal container runs another command": _set(0, command=["sh", "-c", "dapr-token-injector seal"]),
    "seal container runs no command": _set(0, command=None),
    "seal container only checks": _set(0, command=["dapr-token-injector", "seal", "--check"]),
    "command in the arguments": _set(0, command=["dapr-token-injector"], args=["seal", API]),
    "everything in the arguments": _set(0, command=None, args=["dapr-token-injector", "seal", API]),
    "seal container without arguments": _set(0, args=None),
    "seal container with another argument": _set(0, args=[APP]),
    "seal container with one argument more": _set(0, args=[API, "X"]),
    "seal container without env": _set(0, env=None),
    "seal container without its variable": _set(0, env=[_reference("X")]),
    "seal container with a literal": _set(0, env=[{"name": API, "value": "x"}]),
    "seal container with a later literal": _set(0, env=[_reference(), {"name": API, "value": "x"}]),
    "seal container with an empty variable": _set(0, env=[{"name": API}]),
    "seal container with a config map": _set(
        0, env=[{"name": API, "valueFrom": {"configMapKeyRef": {"name": "tokens", "key": "api"}}}]
    ),
    "seal container with another variable": _set(0, env=[_reference("X"), {"name": API, "value": "$(X)"}]),
    "seal container with a file": _set(0, env=[_file(API)]),
    "seal container with an optional reference": _set(0, env=[_reference(optional=True)]),
    "seal container has more than is requested": _set(0, env=[_reference(), _reference(APP)]),
    "check container absent": lambda spec: spec["initContainers"].pop(1),
    "check container of another name": _set(1, name="other"),
    "check container is regular": lambda spec: spec["containers"].append(spec["initContainers"].pop(1)),
    "check container first": lambda spec: spec["initContainers"].insert(0, spec["initContainers"].pop(1)),
    "check container restarts": _set(1, restartPolicy="Always"),
    "check container runs another command": _set(1, command=["true"]),
    "check container does not check": _set(1, command=["dapr-token-injector", "seal"]),
    "check in the arguments": _set(1, command=["dapr-token-injector", "seal"], args=["--check", API]),
    "check container without arguments": _set(1, args=[]),
    "check container checks another variable": _set(1, args=[APP]),
    "check container without env": _set(1, env=[]),
    "check container without its variable": _set(1, env=[_file(APP)]),
    "check container with a literal": _set(1, env=[{"name": API, "value": "x"}]),
    "check container with a reference": _set(1, env=[_reference()]),
    "check container with a later literal": _set(1, env=[_file(API), {"name": API, "value": "x"}]),
    "check container with another variable": _set(1, env=[{**_file(API), "name": "X"}, {"name": API, "value": "$(X)"}]),
    "check container with another volume": _set(
        1, env=[{"name": API, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "tokens.env", "key": API}}}]
    ),
    "check container with another path": _set(
        1, env=[{"name": API, "valueFrom": {"fileKeyRef": {"volumeName": VOLUME, "path": "other", "key": API}}}]
    ),
    "check container with another key": _set(
        1, env=[{"name": API, "valueFrom": {"fileKeyRef": {"volumeName": VOLUME, "path": "tokens.env", "key": APP}}}]
    ),
    "check container with an optional file": _set(
        1,
        env=[
            {
                "name": API,
                "valueFrom": {"fileKeyRef": {"volumeName": VOLUME, "path": "tokens.env", "key": API, "optional": True}},
            }
        ],
    ),
    "two seal containers": lambda spec: spec["initContainers"].append({"name": VOLUME}),
    "two check containers": lambda spec: spec["initContainers"].insert(1, {**spec["initContainers"][1], "args": None}),
    "seal container is also regular": lambda spec: spec["containers"].append({"name": VOLUME}),
    "check container is also ephemeral": lambda spec: spec.update(ephemeralContainers=[{"name": f"{VOLUME}-check"}]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_seal_with_one_difference_does_not_count(name: str) -> None:
    assert sealed_tokens(_changed(BROKEN[name])) == {}


@pytest.mark.parametrize("container", [0, 1])
def test_malformed_env_of_a_seal_container_is_reported(container: int) -> None:
    with pytest.raises(MalformedObjectError):
        sealed_tokens(_changed(_set(container, env="x DAPR_API_TOKEN")))
    assert seal_of(_changed(_set(container, env="x DAPR_API_TOKEN"))) == NOT_SEALED


@pytest.mark.parametrize(
    ("file", "init_index", "is_found"),
    [
        (file_ref(API), None, True),
        (file_ref(API), 2, True),
        (file_ref(API), 1, False),
        (file_ref(APP), None, False),
        (FileRef("other", "tokens.env", API), None, False),
        (FileRef(VOLUME, "other", API), None, False),
        (None, None, False),
    ],
)
def test_value_from_the_file_is_that_of_the_seal_container(
    file: FileRef | None,
    init_index: int | None,
    is_found: bool,  # noqa: FBT001 - a case
) -> None:
    expected = TokenRef("tokens", "api") if is_found else None
    assert seal_of(_spec(SEALED)).ref(file, init_index) == expected
    assert NOT_SEALED.ref(file, init_index) is None


@pytest.mark.parametrize(("volume", "is_from_seal"), [(VOLUME, True), ("other", False)])
def test_value_from_seal_has_volume_of_seal(volume: str, is_from_seal: bool) -> None:  # noqa: FBT001 - a case
    assert FileRef(volume, "other", API).is_from_seal is is_from_seal


def test_spec_of_a_pod_is_decoded_if_it_has_a_container_of_ours() -> None:
    assert has_seal(SEALED)
    assert seal_of(sealable_spec(SEALED)) == seal_of(_spec(SEALED))
    for other in (None, "x", {}, {"initContainers": "x"}, {"initContainers": ["x", {}, {"name": "other"}]}):
        assert not has_seal(other)


def test_malformed_spec_is_reported_without_its_content() -> None:
    for volume in ({"name": VOLUME, "emptyDir": {"medium": 1}}, {"name": VOLUME, "emptyDir": object()}):
        with pytest.raises(MalformedObjectError, match="not a Pod"):
            sealable_spec({**SEALED, "volumes": [volume]})


def test_reader_is_only_what_follows_the_check_container() -> None:
    assert first_reader(_changed(lambda spec: spec["initContainers"].insert(0, {"name": "istio-init"}))) == 3
    assert first_reader(_changed(BROKEN["check container is regular"])) == 0
    assert first_reader(_changed(BROKEN["two check containers"])) == 0


@pytest.mark.parametrize("part", ["containers", "initContainers", "ephemeralContainers", "volumes", "mounts", "env"])
def test_cost_of_a_huge_pod_is_linear(part: str) -> None:
    def tokens(count: int) -> int:
        spec = copy.deepcopy(SEALED)
        if part == "mounts":
            spec["containers"][0]["volumeMounts"] = [_mount(name="x")] * count
        elif part == "env":
            spec["initContainers"][0]["env"] = [_reference()] * count
        else:
            spec.setdefault(part, []).extend([{"name": f"x{number}"} for number in range(count)])
        return len(sealed_tokens(_spec(spec)))

    assert tokens(10_000) == 1
    few, many = (measured(lambda n=n: tokens(n)) for n in (48, TIMES * 48))  # type: ignore[misc] # the default
    assert is_in_proportion(few[0], many[0])
    assert is_in_proportion(few[1], many[1])
