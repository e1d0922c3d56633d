"""Every shape that we know of in which a sidecar can run open, planted on a real API server, is found by `status`.

Each shape has the words of its assessment. The sound Pods next to them have no finding.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli.main import main
from tests.cluster.objects import APP, ASKING, DAPR, SECRET, SIDECAR, token_variable
from tests.sealing import CHECK, SEAL, file_env, sealed_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

Capture = pytest.CaptureFixture[str]
API_TOKEN: Final = "DAPR_API_TOKEN"
TOKEN: Final = token_variable(SECRET)


def entry(**source: Any) -> Json:  # noqa: ANN401 - JSON
    return {"name": API_TOKEN, **source}


def sidecar(*env: Json, **more: Any) -> Json:  # noqa: ANN401 - JSON
    return {**SIDECAR, "args": ["--dapr-listen-addresses=[::1],127.0.0.1"], "env": list(env), **more}


def planted(annotations: dict[str, str], *containers: Json, init: tuple[Json, ...] = (), **spec: Any) -> Json:  # noqa: ANN401 - JSON
    parts = {"containers": [APP, *containers], **({"initContainers": list(init)} if init else {}), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": annotations}, "spec": parts}


def sealed(
    *changes: Callable[[Json], object], daprd: tuple[Json, ...] = (file_env(),), web: tuple[Json, ...] = (file_env(),)
) -> Json:
    """Return a sealed Pod after changes of its spec."""
    spec = sealed_spec(SECRET, {**APP, "env": list(web)}, sidecar(*daprd))
    for change in changes:
        change(spec)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": ASKING}, "spec": spec}


def set_in(container: int, **fields: Any) -> Callable[[Json], object]:  # noqa: ANN401 - JSON
    return lambda spec: spec["initContainers"][container].update(fields)


ABSENT_FIELD: Final = {"fieldRef": {"fieldPath": "metadata.annotations['absent']"}}
FILE: Final = {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "T"}}
SHAPES: Final = {
    "admission-bypassed": ("open not-injected", planted(ASKING, sidecar())),
    "nothing-requested": ("open no-variable", planted(DAPR, sidecar())),
    "written-by-hand": ("open no-variable", planted({}, sidecar())),
    "empty-value": ("open empty-value", planted(ASKING, sidecar(entry(value="")))),
    "emptied-by-the-last-entry": ("open empty-value", planted(ASKING, sidecar(TOKEN, entry()))),
    "optional": (
        "open optional-reference",
        planted(ASKING, sidecar(entry(valueFrom={"secretKeyRef": {"name": SECRET, "key": "token", "optional": True}}))),
    ),
    "absent-field": ("open may-expand-to-empty", planted(ASKING, sidecar(entry(valueFrom=ABSENT_FIELD)))),
    "other-variable": (
        "open may-expand-to-empty",
        planted(ASKING, sidecar({"name": "X", "valueFrom": ABSENT_FIELD}, entry(value="$(X)"))),
    ),
    "env-file": (
        "open may-expand-to-empty",
        planted(ASKING, sidecar(entry(valueFrom=FILE)), volumes=[{"name": "v", "emptyDir": {}}]),
    ),
    "env-from": ("unknown env-from", planted(ASKING, sidecar(envFrom=[{"configMapRef": {"name": "c"}}]))),
    "renamed": ("open not-injected", planted(ASKING, sidecar(name="dapr", image="registry.example/daprd:1.18.4"))),
    "native": ("open not-injected", planted(ASKING, init=(sidecar(restartPolicy="Always"),))),
    "second-sidecar": (
        "open not-injected",
        planted(ASKING, sidecar(TOKEN), sidecar(name="other", image="registry.example/daprd:1.18.4")),
    ),
    "dapr-shared": (
        "unknown dapr-shared",
        planted({}, sidecar(entry(valueFrom={"secretKeyRef": {"name": "dapr-shared", "key": "dapr-api-token"}}))),
    ),
    "config-map": (
        "custom other-reference",
        planted(ASKING, sidecar(entry(valueFrom={"configMapKeyRef": {"name": "c", "key": "t"}}))),
    ),
    "no-sidecar": ("no-sidecar not-added", planted(ASKING)),
    "sealed": ("protected sealed", sealed()),
    "sealed-and-restarted-in-place": ("protected sealed", sealed()),
    "sealed-native": (
        "protected sealed",
        sealed(lambda spec: spec["initContainers"].append({**spec["containers"].pop(1), "restartPolicy": "Always"})),
    ),
    "partly-sealed": ("protected sealed", sealed(web=(token_variable(SECRET),))),
    "bad-token-value": ("waiting bad-token-value", sealed()),
    "kubelet-without-env-files": ("waiting kubelet-without-env-files", sealed()),
    "seal-on-disk": ("open may-expand-to-empty", sealed(lambda spec: spec["volumes"][0].update(emptyDir={}))),
    "seal-mounted-by-app": (
        "open may-expand-to-empty",
        sealed(lambda spec: spec["containers"][0].update(volumeMounts=[{"name": SEAL, "mountPath": "/x"}])),
    ),
    "seal-that-restarts": ("open may-expand-to-empty", sealed(set_in(0, restartPolicy="Always"))),
    "seal-with-another-command": ("open may-expand-to-empty", sealed(set_in(0, command=["sh", "-c", "true"]))),
    "seal-of-an-optional-reference": (
        "open may-expand-to-empty",
        sealed(set_in(0, env=[entry(valueFrom={"secretKeyRef": {"name": SECRET, "key": "token", "optional": True}})])),
    ),
    "seal-without-check": ("open may-expand-to-empty", sealed(lambda spec: spec["initContainers"].pop())),
    "seal-after-check": ("open may-expand-to-empty", sealed(lambda spec: spec["initContainers"].reverse())),
    "check-of-another-variable": ("open may-expand-to-empty", sealed(set_in(1, args=["APP_API_TOKEN"]))),
    "sidecar-before-check": (
        "open may-expand-to-empty",
        sealed(lambda spec: spec["initContainers"].insert(1, {**spec["containers"].pop(), "restartPolicy": "Always"})),
    ),
    "optional-file": ("open optional-reference", sealed(daprd=(file_env(optional=True),))),
    "restarted-in-place": (
        "protected reference",
        planted(ASKING, sidecar(TOKEN), {**APP, "name": "w", "env": [TOKEN]}),
    ),
}


TRAITS: Final = (
    "native", "an entry before", "other key", "app token", "requested", "image by digest", "app has it", "mesh",
    "sealed", "an empty entry before",
)  # fmt: skip


def sound_pods() -> list[Json]:
    """Return 1,024 Pods whose sidecars and apps have the token, in all combinations of what may differ."""
    return [
        _sound(frozenset(itertools.compress(TRAITS, chosen)))
        for chosen in itertools.product((False, True), repeat=len(TRAITS))
    ]


def _sound(traits: frozenset[str]) -> Json:
    key = "other" if "other key" in traits else "token"
    annotations = {**(ASKING if "requested" in traits else {}), "dapr-token-injector/api-token-key": key}
    token = file_env() if "sealed" in traits else token_variable(SECRET, key)
    env, later = [token], {"name": "A", "value": f"$({API_TOKEN})"}
    env = [{"name": "A", "value": "$(B)"}, *env] if "an entry before" in traits else [*env, later]
    if "app token" in traits:
        env.append({"name": "APP_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "app"}}})
    if "an empty entry before" in traits:
        env.insert(0, entry(value=""))
    image = f"daprd@sha256:{'0' * 64}" if "image by digest" in traits else "daprd:1.18.4"
    one = sidecar(*env, image=f"registry.example/{image}")
    others: list[Json] = []
    if "app has it" in traits:
        annotations["dapr-token-injector/app-containers"] = "w"
        others.append({**APP, "name": "w", "env": [token]})
    if "mesh" in traits:
        others.append({**APP, "name": "istio-proxy"})
    parts = sealed_spec(SECRET, APP, *others, key=key) if "sealed" in traits else {"containers": [APP, *others]}
    part = "initContainers" if "native" in traits else "containers"
    parts[part] = [*parts.get(part, ()), {**one, "restartPolicy": "Always"} if "native" in traits else one]
    return {**planted(annotations), "spec": parts}


def create(kubectl: Kubectl, name: str, made: Json) -> None:
    kubectl.create({**made, "metadata": {**made["metadata"], "name": name}})


def report(kubectl: Kubectl) -> None:
    """Report the containers of sealed Pods as a kubelet does."""
    common = {"restartCount": 1, "image": "", "imageID": "", "ready": False}
    long_ago, late = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    failed = {"terminated": {"exitCode": 1, "startedAt": long_ago, "finishedAt": long_ago}}
    crashing = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": failed}
    fine = {"state": {"terminated": {"exitCode": 0, "startedAt": long_ago, "finishedAt": long_ago}}}
    waits = {"state": {"waiting": {"reason": "PodInitializing"}}}
    states: dict[str, tuple[tuple[Json, Json], tuple[Json, Json]]] = {
        "bad-token-value": ((crashing, waits), (waits, waits)),
        "kubelet-without-env-files": ((fine, crashing), (waits, waits)),
        "sealed-and-restarted-in-place": (
            (fine, fine),
            ({"state": {"running": {"startedAt": long_ago}}}, {"state": {"running": {"startedAt": late}}}),
        ),
    }
    for name, (init, regular) in states.items():
        status = {
            "initContainerStatuses": [
                {**common, "name": one, **state} for one, state in zip((SEAL, CHECK), init, strict=True)
            ],
            "containerStatuses": [
                {**common, "name": one, **state} for one, state in zip(("web", "daprd"), regular, strict=True)
            ],
        }
        patch = json.dumps({"status": status})
        kubectl.run("patch", "pod", name, "--subresource=status", "--type=merge", f"--patch={patch}")


def test_every_planted_shape_is_found_and_nothing_else(kubectl: Kubectl, capsys: Capture) -> None:
    for name, (_, made) in SHAPES.items():
        create(kubectl, name, made)
    sound = sound_pods()
    for number, made in enumerate(sound):
        create(kubectl, f"sound-{number}", made)
    # After the Pods: a Pod that is created after a change has the current value.
    literals = [f"--from-literal={key}=marker-0123456789abcdef" for key in ("token", "other", "app")]
    kubectl.run("create", "secret", "generic", SECRET, *literals)
    kubectl.run("create", "secret", "generic", "dapr-shared", "--from-literal=dapr-api-token=")
    report(kubectl)
    running = {"restartCount": 0, "image": "", "imageID": "", "ready": True}
    starts = {"web": "2020-01-01T00:00:00Z", "w": "2020-01-01T00:00:00Z", "daprd": "2099-01-01T00:00:00Z"}
    statuses = [{**running, "name": one, "state": {"running": {"startedAt": at}}} for one, at in starts.items()]
    status = json.dumps({"status": {"phase": "Running", "containerStatuses": statuses}})
    kubectl.run("patch", "pod", "restarted-in-place", "--subresource=status", "--type=merge", f"--patch={status}")

    code = main(["status", "-o", "json", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace])
    output = capsys.readouterr()

    pods = {one["name"]: one for one in json.loads(output.out)["pods"]}
    assert code == 1
    assert "marker" not in output.out + output.err
    assert {name: f"{pods[name]['protection']} {pods[name]['reason']}" for name in SHAPES} == {
        name: words for name, (words, _) in SHAPES.items()
    }
    assert [one["currency"] for one in pods["restarted-in-place"]["currencies"]] == ["skewed"]
    assert [one["currency"] for one in pods["sealed-and-restarted-in-place"]["currencies"]] == ["outdated"]
    assert [one["finding"] for one in pods["renamed"]["findings"]] == ["renamed-sidecar"]
    partly = {name for name, one in pods.items() if "partly-sealed" in [each["finding"] for each in one["findings"]]}
    broken = {name for name in SHAPES if name.startswith(("seal-", "check-"))}
    assert partly == {"partly-sealed", "sidecar-before-check", *broken}
    found = [one for name, one in pods.items() if name.startswith("sound-")]
    assert len(found) == len(sound)
    assert {(one["protection"], one["severity"], len(one["findings"])) for one in found} == {("protected", "ok", 0)}
