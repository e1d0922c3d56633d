"""Group 2 gets exactly the Pods that group 1 has not served, as a real API server evaluates `not-yet-served`."""

from __future__ import annotations

import contextlib
import copy
import json
import secrets
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from injector.core import names
from injector.core.model import Conflict, Policy, SealMode
from tests.builders import ask, patched, review
from tests.cluster.objects import APP, ASKING, DAPR, SECRET, SIDECAR, pod
from tests.cluster.policies import refusal, requested
from tests.cluster.test_requested import (
    DEFAULT_LABEL,
    NAME,
    PATIENT,
    USER,
    golden_pods,
    in_force,
    largest_pod,
    refusals,
)
from tests.cluster.two_entries import recorder, second_entries
from tests.controlplane.cluster import own_namespace
from tests.controlplane.polling import wait_for
from tests.sealing import CHECK, SEAL, file_env, sealed_spec
from tests.served import is_served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.two_entries import Recorder
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl
    from tests.controlplane.target import Cluster

STATUS: Final = names.STATUS


class Group2:
    """A namespace in which only group 2 is registered, and the policy `requested` denies."""

    def __init__(self, kubectl: Kubectl, group: Recorder) -> None:
        self.kubectl = kubectl
        self._group = group

    def judge(self, pods: dict[str, Json]) -> tuple[set[str], dict[str, str]]:
        """Return the Pods that reached group 2, and the errors of the refused ones."""
        self.take()
        errors = refusals(self.kubectl, pods)
        found = dict(zip((f"p-{number}" for number in range(len(pods))), pods, strict=True))
        return {found[name] for name in self.take()}, errors

    def take(self) -> list[str]:
        """Return the names of the Pods that reached group 2 since the last call."""
        return self._group.take()

    def gets(self, item: Json) -> bool:
        """Whether a Pod reaches group 2."""
        reached, _ = self.judge({"": item})
        return bool(reached)


@pytest.fixture(scope="module")
def group2(cluster: Cluster) -> Iterator[Group2]:
    label = f"requested-by-test-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        kubectl = stack.enter_context(own_namespace(cluster.kubectl))
        stack.enter_context(in_force(cluster, kubectl, requested(label=label), label))
        kubectl.run("create", "rolebinding", USER, "--clusterrole=edit", f"--user={USER}")
        group = stack.enter_context(recorder())
        configuration = second_entries(group.endpoint, namespace=kubectl.namespace)
        configuration["metadata"]["name"] = label
        cluster.kubectl.create(configuration)
        stack.callback(cluster.kubectl.delete, configuration["kind"], configuration["metadata"]["name"])
        opened = Group2(kubectl, group)
        wait_for("the entry called", lambda: opened.gets(pod(ASKING)))
        yield opened


# Cases that group 1 patched and that reach group 2 nevertheless, and why.
NOT_SERVED: Final = {
    "D-no-room-for-the-record-injects-without-it": "no record",
    "D-one-variable-kept-the-other-injected": "kept",
    "D-seal-needs-an-image": "seal is requested and was not possible",
    "D-seal-not-on-windows": "seal is requested and was not possible",
    "D-seal-not-with-a-container-of-our-name": "seal is requested and was not possible",
    "D-seal-not-with-a-file-of-the-pod": "seal is requested and was not possible",
    "D-seal-not-with-a-kept-value": "seal is requested and was not possible",
    "D-seal-not-with-a-reader-that-is-not-listed": "seal is requested and was not possible",
    "D-seal-not-with-a-renamed-sidecar": "seal is requested and was not possible",
    "D-seal-not-with-a-volume-of-our-name": "seal is requested and was not possible",
    "D-seal-not-with-a-volume-of-the-secret": "seal is requested and was not possible",
    "D-seal-not-with-all-keys-as-variables": "seal is requested and was not possible",
    "D-seal-not-with-another-variable-of-the-key": "seal is requested and was not possible",
    "D-seal-off-is-reported": "seal is requested and was not possible",
    "D-seal-waits-for-the-sidecar": "no sidecar",
    "D-sidecars-that-disagree-leave-the-app-with-nothing": "kept",
    "D-sidecars-that-keep-the-same-reference-share-it-with-the-app": "kept",
    "W11-app-containers-other-reference-is-kept": "kept",
    "W11-app-containers-own-literal-is-kept": "kept",
    "W17-app-container-is-patched-before-the-sidecar-is-added": "no sidecar",
    "W20-app-gets-the-config-map-reference-that-daprd-keeps": "kept",
    "W20-app-gets-the-reference-that-daprd-keeps": "kept",
    "W23-reference-through-another-variable-to-another-secret-is-kept": "kept",
    "W25-named-sidecar-by-another-name-gets-nothing": "no sidecar",
    "W25-star-leaves-out-a-sidecar-by-another-name": "no sidecar",
}


@pytest.mark.parametrize("default", [False, True], ids=["plain", "default"])
def test_golden_case_reaches_group_2_until_it_is_served(
    group2: Group2,
    has_env_files: bool,  # noqa: FBT001
    default: bool,  # noqa: FBT001
) -> None:
    kubectl = group2.kubectl
    if default:
        kubectl.run("label", "namespace", kubectl.namespace, f"{DEFAULT_LABEL}=enabled")
        wait_for("the label noticed", lambda: group2.gets(pod(DAPR)))
    cases = golden_pods(defaults=default, env_files=has_env_files)
    before = {name: case.review["request"]["object"] for name, case in cases.items()}
    after = {name: case.want for name, case in cases.items() if case.want is not None}
    asking = {name for name, item in before.items() if requests(item, default=default)}

    reached_before, _ = group2.judge(before)
    reached_after, errors = group2.judge(after)

    assert reached_before == {name for name in asking if not is_served(before[name], default=default)}
    assert reached_after == {name for name, item in after.items() if not is_served(item, default=default)}
    assert reached_after == set(NOT_SERVED) & set(after)
    assert not [error for name, error in errors.items() if name not in reached_after and NAME in error]
    if default:
        kubectl.run("label", "namespace", kubectl.namespace, f"{DEFAULT_LABEL}-")
        wait_for("the label gone", lambda: not group2.gets(pod(DAPR)))


def requests(item: Json, *, default: bool) -> bool:
    """Whether the other match conditions send a Pod to an entry."""
    if item["apiVersion"] != "v1":
        return False
    annotations = (item.get("metadata") or {}).get("annotations") or {}
    found = [names.API_TOKEN_SECRET, names.APP_TOKEN_SECRET, *([names.ENABLED] if default else [])]
    return any(annotations.get(name) for name in found) and "kubernetes.io/config.mirror" not in annotations


# --- Pods as any tool may leave them, before and after group 1 ---


def entry(variable: str, **source: object) -> Json:
    return {"name": variable, **({"valueFrom": source} if source else {})}


def secret(variable: str, name: str = "s", key: str = "token", **more: object) -> Json:
    return entry(variable, secretKeyRef={"name": name, "key": key, **more})


VARIABLES: Final = ("DAPR_API_TOKEN", "APP_API_TOKEN")
ENTRIES: Final = [
    one
    for variable in VARIABLES
    for one in (
        secret(variable),
        secret(variable, key="current"),
        secret(variable, name="t"),
        secret(variable, optional=True),
        entry(variable),
        {"name": variable, "value": "literal"},
        {"name": variable, "value": "$(LOG)"},
        entry(variable, configMapKeyRef={"name": "s", "key": "token"}),
        file_env(variable),
        file_env(variable, optional=True),
    )
]
ANNOTATIONS: Final[dict[str, list[str]]] = {
    names.APP_TOKEN_SECRET: ["s", " t "],
    names.API_TOKEN_KEY: ["token", "current", " "],
    names.APP_TOKEN_KEY: ["current"],
    names.APP_CONTAINERS: ["web", "*", " web ,absent", "daprd,worker"],
    names.SEAL: ["true", "false", " On "],
    STATUS: ["", "{}", '{"v":1,"injected":[{"container":"daprd","env":"DAPR_API_TOKEN","name":"s","key":"token"}]}'],
}
POLICIES: Final = st.builds(
    Policy,
    default_api_key=st.sampled_from(["token", "current"]),
    conflict=st.sampled_from(Conflict),
    seal=st.sampled_from(SealMode),
    seal_image=st.just("example.invalid/seal:1"),
)


@st.composite
def pods(draw: st.DrawFn) -> Json:
    """A Pod, mostly after group 1 has answered, and in part changed afterwards."""
    annotations = {**DAPR, names.API_TOKEN_SECRET: draw(st.sampled_from(["s", "s", "s", " s", " "]))}
    for name, values in ANNOTATIONS.items():
        if draw(st.booleans()):
            annotations[name] = draw(st.sampled_from(values))
    env: st.SearchStrategy[list[Json]] = st.lists(st.sampled_from(ENTRIES), max_size=2) | st.just([])
    containers = [{"name": name, "image": "i", "env": draw(env)} for name in ("web", "worker", "daprd")]
    native = draw(st.sampled_from([0, 1, 1, 2]))  # 0: no sidecar, 2: a native one
    init = [{**containers.pop(), "restartPolicy": "Always"}] if native != 1 else []
    item = pod(annotations, *containers, init_containers=tuple(init[: native // 2]))
    if draw(st.sampled_from([True, True, True, False])):
        item = patched(item, ask(review(item), draw(POLICIES)))
    if draw(st.booleans()):
        draw(st.sampled_from([lose_entry, append_entry, change_key, add_container, break_seal]))(draw, item)
    return item


def every(item: Json) -> list[Json]:
    return [*item["spec"]["containers"], *item["spec"].get("initContainers", ())]


def lose_entry(draw: st.DrawFn, item: Json) -> None:
    env = draw(st.sampled_from(every(item))).get("env") or [None]
    env.pop()


def append_entry(draw: st.DrawFn, item: Json) -> None:
    draw(st.sampled_from(every(item))).setdefault("env", []).append(draw(st.sampled_from(ENTRIES)))


def change_key(draw: st.DrawFn, item: Json) -> None:
    item["metadata"]["annotations"][names.API_TOKEN_KEY] = draw(st.sampled_from(["other", ""]))


def add_container(_draw: st.DrawFn, item: Json) -> None:
    item["spec"]["containers"].append({"name": "late", "image": "i"})
    item["metadata"]["annotations"][names.APP_CONTAINERS] = "late"


def break_seal(draw: st.DrawFn, item: Json) -> None:
    """Change one field of the parts that seal a Pod, if it has them."""
    spec = item["spec"]
    parts = {one["name"]: one for one in spec.get("initContainers", ()) if one["name"] in {SEAL, CHECK}}
    if not parts:
        return
    name, change = draw(
        st.sampled_from([
            *((name, {"restartPolicy": "Always"}) for name in parts),
            *((name, {"command": ["true"]}) for name in parts),
            *((name, {"args": ["APP_API_TOKEN"]}) for name in parts),
            *((name, {"command": parts[name]["command"][:1], "args": ["seal", "DAPR_API_TOKEN"]}) for name in parts),
            *((name, {"env": []}) for name in parts),
            (SEAL, {"volumeMounts": [{"name": SEAL, "mountPath": "/dapr-token-injector/", "subPath": "seal"}]}),
            (SEAL, {"volumeMounts": [{"name": SEAL, "mountPath": "/elsewhere"}]}),
            (CHECK, {"volumeMounts": [{"name": SEAL, "mountPath": "/elsewhere"}]}),
            (CHECK, {"env": parts[SEAL]["env"]}),
            (SEAL, {"env": [*parts[SEAL]["env"], secret("APP_API_TOKEN", "s")]}),
            ("", {"volumes": [{"name": SEAL, "emptyDir": {}}]}),
            ("", {"initContainers": spec["initContainers"][::-1]}),
        ])
    )  # fmt: skip
    (parts[name] if name else spec).update(copy.deepcopy(change))


def test_any_pod_reaches_group_2_until_it_is_served(group2: Group2, has_env_files: bool) -> None:  # noqa: FBT001
    seen = dict.fromkeys(("served", "not served", *(("sealed",) if has_env_files else ())), 0)

    @settings(
        max_examples=150, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(pods())
    def holds(item: Json) -> None:
        reads_a_file = "fileKeyRef" in json.dumps(item)
        assume(has_env_files or not reads_a_file)
        reached, errors = group2.judge({"": copy.deepcopy(item)})

        served = is_served(item)
        seen["sealed" if served and reads_a_file else "served" if served else "not served"] += 1
        assert bool(reached) != served or not requests(item, default=False)
        # What the policy would deny is never taken for served.
        assert reached or NAME not in "".join(errors.values()), errors

    holds()
    assert min(seen.values()) > 5, seen


# --- the annotation of another Pod, the largest Pod, and Pods that are too expensive ---

SERVED: Final = (
    '{"v":1,"injected":[{"container":"daprd","env":"DAPR_API_TOKEN","name":"dapr-api-token","key":"token"}]}'
)
FORGED: Final = {**ASKING, STATUS: SERVED}


@pytest.mark.parametrize(
    ("item", "reaches"),
    [
        (pod(FORGED), True),
        (pod(FORGED, APP), True),
        (pod(FORGED, APP, {**SIDECAR, "env": [secret("DAPR_API_TOKEN", SECRET)]}), False),
        (pod({**FORGED, STATUS: "{}"}, APP, {**SIDECAR, "env": [secret("DAPR_API_TOKEN", SECRET)]}), True),
        (pod(FORGED, APP, {**SIDECAR, "env": [secret("DAPR_API_TOKEN", "other")]}), True),
        (
            pod({**FORGED, names.APP_CONTAINERS: "web"}, APP, {**SIDECAR, "env": [secret("DAPR_API_TOKEN", SECRET)]}),
            True,
        ),
    ],
    ids=["no variable", "no sidecar", "all as recorded", "no record", "another Secret", "a container without it"],
)
def test_status_annotation_of_the_pod_alone_keeps_no_pod_from_group_2(
    group2: Group2,
    item: Json,
    reaches: bool,  # noqa: FBT001
) -> None:
    assert group2.gets(item) == reaches


@pytest.mark.usefixtures("env_files")
@pytest.mark.parametrize("more", [(), ("APP_API_TOKEN",)], ids=["the requested token", "another one, too"])
def test_seal_must_be_for_the_requested_tokens(group2: Group2, more: tuple[str, ...]) -> None:
    spec = sealed_spec(SECRET, {"name": "daprd", "image": "i", "env": [file_env()]})
    spec["initContainers"][0]["env"] += [secret(variable, SECRET) for variable in more]

    assert group2.gets({**pod({**FORGED, names.SEAL: "true"}), "spec": spec}) == bool(more)


def test_pod_without_annotations_is_accepted_and_reaches_no_group(group2: Group2) -> None:
    bare = pod({})
    bare["metadata"]["annotations"] = None

    assert group2.judge({"": bare}) == (set(), {})


def largest_served_pod() -> Json:
    """The largest Pod, with all its containers named, as group 1 leaves it."""
    item = largest_pod(200)
    recorded = "".join(f'"env":"{one}","name":"{SECRET}","key":"token"' for one in VARIABLES)
    item["metadata"]["annotations"][STATUS] = "x" * 20_000 + recorded
    return item


@pytest.mark.parametrize("default", [False, True], ids=["plain", "default"])
def test_condition_of_the_largest_pod_costs_at_most_half_its_budget(
    kubectl: Kubectl,
    register: Callable[[Json], None],
    default: bool,  # noqa: FBT001
) -> None:
    """Each expression is evaluated twice; with `Fail`, one beyond its budget is an error."""
    if default:
        kubectl.run("label", "namespace", kubectl.namespace, f"{DEFAULT_LABEL}=enabled")
    item = largest_served_pod()
    missing = copy.deepcopy(item)
    missing["spec"]["containers"][-1]["env"] = []
    assert (is_served(item, default=default), is_served(missing, default=default)) == (True, False)
    with recorder() as group:
        configuration = second_entries(group.endpoint, namespace=kubectl.namespace)
        for entry in configuration["webhooks"]:
            entry["failurePolicy"] = "Fail"
            for one in entry["matchConditions"]:
                one["expression"] = f"[{one['expression']}, {one['expression']}][0]"
        register(configuration)
        wait_for("the entry called", lambda: refusal(kubectl, pod(ASKING)) or group.take())

        assert (refusal(kubectl, item, timeout=PATIENT), group.take()) == ("", [])
        assert (refusal(kubectl, missing, timeout=PATIENT), group.take()) == ("", ["shop"])


def test_many_names_are_not_compared_and_reach_group_2(group2: Group2) -> None:
    many = {**FORGED, names.APP_CONTAINERS: "x," * 100_000}

    assert group2.gets(pod(many, APP, {**SIDECAR, "env": [secret("DAPR_API_TOKEN", SECRET)]}))


def test_pod_beyond_the_budget_does_not_reach_group_2_and_is_denied(group2: Group2) -> None:
    """An error in a match condition skips an entry with `Ignore`. Only a Pod with the annotation can cause one."""
    item = largest_served_pod()
    for one in item["spec"]["containers"]:
        one["env"] = [{"name": variable} for variable in VARIABLES] * 249 + one["env"][-2:]
    item["spec"]["containers"][-1]["env"] = []

    assert not is_served(item)
    assert NAME in refusal(group2.kubectl, item, timeout=PATIENT)
    assert group2.take() == []
