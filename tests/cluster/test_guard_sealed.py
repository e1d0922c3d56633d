"""The guard accepts a sealed sidecar only with the containers and the volume of docs/decisions/0035-sealed-pods.md."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from injector.core import names
from injector.core.env import env_of
from injector.core.model import SourceKind
from injector.core.sealed import SealableSpec, file_ref, first_reader, sealed_tokens
from tests.cluster.objects import APP, DAPR, SIDECAR, container, pod
from tests.cluster.policies import refusal
from tests.sealing import API, CHECK, IMAGE, SEAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

APP_TOKEN: Final = "APP_API_TOKEN"
FOLDER: Final = "/dapr-token-injector/seal"
MOUNT: Final = {"name": SEAL, "mountPath": FOLDER}
LITERAL: Final = {"name": API, "value": "never-show-me-3f9a"}

pytestmark = pytest.mark.usefixtures("env_files")

Change = "Callable[[Json], object]"


def in_secret(variable: str = API, /, **more: object) -> Json:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", **more}}}


def in_file(variable: str = API, /, **more: object) -> Json:
    source = {"volumeName": SEAL, "path": "tokens.env", "key": variable, **more}
    return {"name": variable, "valueFrom": {"fileKeyRef": source}}


def sealed_pod(*variables: str, native: bool = False) -> Json:
    """A sealed Pod with these tokens; by default that of the sidecar alone."""
    tokens = variables or (API,)
    seal = {
        "name": SEAL,
        "image": IMAGE,
        "command": ["dapr-token-injector", "seal"],
        "args": list(tokens),
        "env": [in_secret(variable) for variable in tokens],
        "volumeMounts": [MOUNT],
    }
    check = {
        "name": CHECK,
        "image": IMAGE,
        "command": ["dapr-token-injector", "seal", "--check"],
        "args": list(tokens),
        "env": [in_file(variable) for variable in tokens],
    }
    sidecar = {**SIDECAR, "env": [in_file(variable) for variable in tokens]}
    if native:
        item = pod(DAPR, APP, init_containers=(seal, check, {**sidecar, "restartPolicy": "Always"}))
    else:
        item = pod(DAPR, APP, sidecar, init_containers=(seal, check))
    in_memory = {"medium": "Memory", "sizeLimit": "64Ki"}
    item["spec"]["volumes"] = [{"name": name, "emptyDir": in_memory} for name in (SEAL, "other")]
    return copy.deepcopy(item)


def init(item: Json) -> list[Json]:
    found: list[Json] = item["spec"]["initContainers"]
    return found


def set_in(name: str, **fields: object) -> Callable[[Json], None]:
    """Replace fields of a container; an absent container is not changed."""

    def change(item: Json) -> None:
        for found in (*init(item), *item["spec"]["containers"]):
            if found["name"] == name:
                found.update(copy.deepcopy(fields))

    return change


def drop(name: str) -> Callable[[Json], None]:
    def change(item: Json) -> None:
        item["spec"]["initContainers"] = [found for found in init(item) if found["name"] != name]

    return change


def move(name: str, index: int) -> Callable[[Json], None]:
    """Move an init container."""

    def change(item: Json) -> None:
        for found in [found for found in init(item) if found["name"] == name]:
            init(item).remove(found)
            init(item).insert(index, found)

    return change


def add(name: str, index: int, **fields: object) -> Callable[[Json], None]:
    """Insert an init container of another tool, once."""

    def change(item: Json) -> None:
        if name not in [found["name"] for found in init(item)]:
            init(item).insert(index, {"name": name, "image": IMAGE, **copy.deepcopy(fields)})

    return change


def both(*changes: Callable[[Json], None]) -> Callable[[Json], None]:
    def change(item: Json) -> None:
        for each in changes:
            each(item)

    return change


def set_volume(**source: object) -> Callable[[Json], None]:
    def change(item: Json) -> None:
        item["spec"]["volumes"][0]["emptyDir"] = dict(source)

    return change


def set_source(name: str, **fields: object) -> Callable[[Json], None]:
    """Read another file, path or key in a container."""
    return set_in(name, env=[in_file(**fields)])


OTHER: Final = {"name": "LOG_LEVEL", "value": "info"}
TWO: Final = [API, APP_TOKEN]
ACCEPTED: Final[dict[str, Callable[[Json], None]]] = {
    "nothing": lambda _: None,
    "other images": both(set_in(SEAL, image="older:1"), set_in(CHECK, image="older:2")),
    "variables of other webhooks": both(
        set_in(SEAL, env=[OTHER, in_secret()]), set_in(CHECK, env=[in_file(), OTHER]),
        set_in("daprd", env=[OTHER, in_file(), OTHER]),
    ),
    "init containers of other webhooks": both(add("istio-init", 0), add("between", 2), add("late", 9)),
    "a native sidecar of another webhook": add("istio-proxy", 0, restartPolicy="Always"),
    "a container that reads the ordinary reference": set_in("web", env=[in_secret()]),
    "optional: false": both(
        set_in(SEAL, env=[in_secret(optional=False)]), set_in(CHECK, env=[in_file(optional=False)]),
        set_in("daprd", env=[in_file(optional=False)]),
    ),
    "a reference after a literal": both(
        set_in(SEAL, env=[LITERAL, in_secret()]), set_in(CHECK, env=[LITERAL, in_file()]),
        set_in("daprd", env=[LITERAL, in_file()]),
    ),
    "the app token, too": both(
        set_in(SEAL, args=TWO, env=[in_secret(APP_TOKEN), in_secret()]),
        set_in(CHECK, args=TWO, env=[in_file(APP_TOKEN), in_file()]),
    ),
    "another size": set_volume(medium="Memory", sizeLimit="1Mi"),
    "a mount that is only read": set_in(SEAL, volumeMounts=[{**MOUNT, "readOnly": True}]),
}  # fmt: skip
NO_SECRET: Final = f"{SEAL} does not get each token from a secretKeyRef without optional"
NOT_CHECKED: Final = f"{CHECK} does not read each token from the same file, without optional"
REFUSED: Final[dict[str, tuple[Callable[[Json], None], str]]] = {
    "no seal container": (drop(SEAL), f"there is no init container {SEAL}:"),
    "no check container": (drop(CHECK), f"there is no init container {CHECK}:"),
    "neither": (both(drop(SEAL), drop(CHECK)), f"there is no init container {SEAL}:"),
    "check before seal": (move(CHECK, 0), f"{CHECK} runs before {SEAL}"),
    "seal restarts": (set_in(SEAL, restartPolicy="Always"), "has a restartPolicy"),
    "check restarts": (set_in(CHECK, restartPolicy="Always"), "has a restartPolicy"),
    "volume on disk": (set_volume(sizeLimit="64Ki"), f"the volume {SEAL} is not an emptyDir with medium: Memory"),
    "volume in the app": (
        set_in("web", volumeMounts=[{"name": SEAL, "mountPath": "/x"}]), f"a container other than {SEAL} mounts",
    ),
    "volume in the app, read only": (
        set_in("web", volumeMounts=[{"name": SEAL, "mountPath": "/x", "readOnly": True}]),
        f"a container other than {SEAL} mounts",
    ),
    "volume in the sidecar": (set_in("daprd", volumeMounts=[MOUNT]), f"a container other than {SEAL} mounts"),
    "volume in the check container": (set_in(CHECK, volumeMounts=[MOUNT]), f"a container other than {SEAL} mounts"),
    "volume in another init container": (
        add("other", 2, volumeMounts=[{"name": SEAL, "mountPath": "/x", "subPath": "tokens.env"}]),
        f"a container other than {SEAL} mounts",
    ),
    "mount at another path": (
        set_in(SEAL, volumeMounts=[{"name": SEAL, "mountPath": "/x"}]), f"{SEAL} does not mount the volume once",
    ),
    "mount with subPath": (set_in(SEAL, volumeMounts=[{**MOUNT, "subPath": "x"}]), "without subPath"),
    "mount with subPathExpr": (set_in(SEAL, volumeMounts=[{**MOUNT, "subPathExpr": "x"}]), "without subPath"),
    "two mounts": (
        set_in(SEAL, volumeMounts=[MOUNT, {"name": SEAL, "mountPath": "/x"}]), f"{SEAL} does not mount the volume once",
    ),
    "no mount": (set_in(SEAL, volumeMounts=[]), f"{SEAL} does not mount the volume once"),
    "seal without env": (set_in(SEAL, env=[]), NO_SECRET),
    "seal with a literal": (set_in(SEAL, env=[LITERAL]), NO_SECRET),
    "seal with a literal after the reference": (set_in(SEAL, env=[in_secret(), LITERAL]), NO_SECRET),
    "seal with a ConfigMap": (
        set_in(SEAL, env=[{"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]), NO_SECRET,
    ),
    "seal with a file": (set_in(SEAL, env=[in_file()]), NO_SECRET),
    "seal with the value of another variable": (
        set_in(SEAL, env=[in_secret("OTHER"), {"name": API, "value": "$(OTHER)"}]), NO_SECRET,
    ),
    "seal with optional": (set_in(SEAL, env=[in_secret(optional=True)]), NO_SECRET),
    "seal with another variable": (set_in(SEAL, args=[APP_TOKEN], env=[in_secret(APP_TOKEN)]), NO_SECRET),
    "seal with a second, literal token": (
        set_in(SEAL, args=TWO, env=[in_secret(), {"name": APP_TOKEN, "value": "x"}]), NO_SECRET,
    ),
    "seal with another command": (set_in(SEAL, command=["sh", "-c"]), f"{SEAL} has a different command or arguments"),
    "seal without command": (set_in(SEAL, command=[]), f"{SEAL} has a different command or arguments"),
    "seal with --check": (
        set_in(SEAL, command=["dapr-token-injector", "seal", "--check"]), f"{SEAL} has a different command",
    ),
    "seal with all words in its arguments": (
        set_in(SEAL, command=[], args=["dapr-token-injector", "seal", API]),
        f"{SEAL} has a different command or arguments",
    ),
    "seal with arguments in its command": (
        set_in(SEAL, command=["dapr-token-injector", "seal", API], args=[]),
        f"{SEAL} has a different command or arguments",
    ),
    "seal without arguments": (set_in(SEAL, args=[]), f"{SEAL} has a different command or arguments"),
    "seal with more arguments": (set_in(SEAL, args=[API, "-v"]), f"{SEAL} has a different command or arguments"),
    "seal with its arguments in another order": (
        both(
            set_in(SEAL, args=[APP_TOKEN, API], env=[in_secret(), in_secret(APP_TOKEN)]),
            set_in(CHECK, args=[APP_TOKEN, API], env=[in_file(), in_file(APP_TOKEN)]),
        ),
        f"{SEAL} has a different command or arguments",
    ),
    "check with another command": (
        set_in(CHECK, command=["dapr-token-injector", "seal"]), f"{CHECK} has a different command or arguments",
    ),
    "check with --check in its arguments": (
        set_in(CHECK, command=["dapr-token-injector", "seal"], args=["--check", API]),
        f"{CHECK} has a different command or arguments",
    ),
    "check with other arguments": (set_in(CHECK, args=[APP_TOKEN]), f"{CHECK} has a different command or arguments"),
    "check of one token of two": (
        set_in(SEAL, args=TWO, env=[in_secret(), in_secret(APP_TOKEN)]), f"{CHECK} has a different command",
    ),
    "check without env": (set_in(CHECK, env=[]), NOT_CHECKED),
    "check with another variable": (set_in(CHECK, env=[in_file(APP_TOKEN)]), NOT_CHECKED),
    "check with a reference": (set_in(CHECK, env=[in_secret()]), NOT_CHECKED),
    "check with a literal after the file": (set_in(CHECK, env=[in_file(), LITERAL]), NOT_CHECKED),
    "check with the value of another variable": (
        set_in(CHECK, env=[{**in_file(), "name": "OTHER"}, {"name": API, "value": "$(OTHER)"}]), NOT_CHECKED,
    ),
    "check with optional": (set_source(CHECK, optional=True), NOT_CHECKED),
    "check with another path": (set_source(CHECK, path="x"), NOT_CHECKED),
    "check with another key": (set_source(CHECK, key="x"), NOT_CHECKED),
    "check with another volume": (
        set_source(CHECK, volumeName="other"), NOT_CHECKED,
    ),
    "check without the second token": (
        both(set_in(SEAL, args=TWO, env=[in_secret(), in_secret(APP_TOKEN)]), set_in(CHECK, args=TWO)), NOT_CHECKED,
    ),
    "sidecar with another path": (set_source("daprd", path="x"), "from a file that no seal container writes"),
    "sidecar with another key": (set_source("daprd", key=APP_TOKEN), "from a file that no seal container writes"),
    "sidecar with another volume": (
        set_source("daprd", volumeName="other"),
        "from a file that no seal container writes",
    ),
    "sidecar with optional": (set_source("daprd", optional=True), "with optional: true"),
    "sidecar with a literal after the file": (set_in("daprd", env=[in_file(), LITERAL]), "as a literal"),
    "sidecar without the variable": (set_in("daprd", env=[in_file(APP_TOKEN)]), "has no DAPR_API_TOKEN"),
}  # fmt: skip


def denial(kubectl: Kubectl, item: Json) -> str:
    """The guard's message about a Pod that the API server itself accepts; empty if the guard accepts it, too."""
    message = refusal(kubectl, item)
    assert not message or "ValidatingAdmissionPolicy 'dapr-token-injector-guard'" in message, message
    return message


@pytest.mark.parametrize("native", [False, True], ids=["regular", "native"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_guard_accepts_sealed_sidecar_with(denying: Kubectl, case: str, native: bool) -> None:  # noqa: FBT001
    item = sealed_pod(native=native)
    ACCEPTED[case](item)

    assert denial(denying, item) == ""


@pytest.mark.parametrize("native", [False, True], ids=["regular", "native"])
@pytest.mark.parametrize("case", REFUSED)
def test_guard_denies_sealed_sidecar_whose_seal_was_changed(denying: Kubectl, case: str, native: bool) -> None:  # noqa: FBT001
    change, finding = REFUSED[case]
    item = sealed_pod(native=native)
    change(item)

    message = denial(denying, item)

    assert 'container "daprd" has ' in message
    assert finding in message
    assert "never-show-me" not in message


@pytest.mark.parametrize("index", [0, 1])
def test_guard_denies_native_sidecar_before_the_check_container(denying: Kubectl, index: int) -> None:
    item = sealed_pod(native=True)
    move("daprd", index)(item)

    assert f"daprd starts before {CHECK}" in denial(denying, item)


CHANGES: Final = {**ACCEPTED, **{case: change for case, (change, _) in REFUSED.items()}} | {
    "sidecar first": move("daprd", 0),
    "sidecar second": move("daprd", 1),
    "sidecar with a reference": set_in("daprd", env=[in_secret()]),
    "seal last": move(SEAL, 9),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sets(st.sampled_from(TWO), min_size=1), st.booleans(), st.lists(st.sampled_from(sorted(CHANGES)), max_size=4))
def test_guard_and_core_agree(denying: Kubectl, variables: set[str], native: bool, changes: list[str]) -> None:  # noqa: FBT001
    item = sealed_pod(*(variable for variable in TWO if variable in variables), native=native)
    for case in changes:
        CHANGES[case](item)

    assert (denial(denying, item) == "") == is_protected(item)


@pytest.mark.parametrize("native", [False, True], ids=["regular", "native"])
def test_guard_and_core_agree_on_each_change(denying: Kubectl, native: bool) -> None:  # noqa: FBT001
    for case, change in CHANGES.items():
        item = sealed_pod(native=native)
        change(item)

        assert (denial(denying, item) == "") == is_protected(item), case


def is_protected(item: Json) -> bool:
    """What the core says of the Pod's sidecar."""
    spec = msgspec.json.decode(json.dumps(item["spec"]), type=SealableSpec)
    inits = spec.initContainers or []
    ((index, sidecar),) = [
        (index, found)
        for index, found in [*enumerate(inits), *((len(inits), found) for found in spec.containers or ())]
        if found.name == names.SIDECAR
    ]
    entry = env_of(sidecar).api
    if entry is None or entry.optional:
        return False
    if entry.ref is not None:
        return entry.ref.kind is SourceKind.SECRET
    is_sealed = API in sealed_tokens(spec) and index >= first_reader(spec)
    return entry.file == file_ref(API) and is_sealed


def test_guard_evaluates_huge_sealed_pod_within_the_cost_budget(denying: Kubectl) -> None:
    item = sealed_pod(*TWO)
    many: list[dict[str, Any]] = [{"name": f"V{n}", "value": "x"} for n in range(500)]
    for name in (SEAL, CHECK, "daprd"):
        found = container(item, name)
        found["env"] = [*many, *found["env"]]
    mounts = [{"name": f"v{n}", "mountPath": f"/v{n}"} for n in range(50)]
    item["spec"]["volumes"] += [{"name": mount["name"], "emptyDir": {}} for mount in mounts]
    more = [{"name": f"c{n}", "image": "i", "volumeMounts": mounts, "env": many[:60]} for n in range(200)]
    item["spec"]["containers"] += more[:100]
    init(item)[:0] = more[100:]

    assert denial(denying, item) == ""
    container(item, "c199")["volumeMounts"] = [{"name": SEAL, "mountPath": "/x"}]
    assert f"a container other than {SEAL} mounts" in denial(denying, item)
