from __future__ import annotations

import copy
from typing import Any

import pytest

from injector.core import names
from injector.core.ownership import SecretKey
from injector.core.rollout import Action, PlannedAction, State
from injector.core.token_state import ContainerUsage, MissingToken, PodUsage, Ref
from injector.rotation.admission import AdmissionCheck, assumed, expected_of, lacking_of, pod_of_template
from tests.builders import asking, container, literal_env, secret_env, sidecar

KEY = SecretKey("shop", "s", "token")
APP_KEY = SecretKey("shop", "app", "token")
WEB = Ref("Deployment", "shop", "web")
API, APP = names.API_TOKEN_ENV, names.APP_TOKEN_ENV
Json = dict[str, Any]


def workload(template: Json | None = None, **spec: object) -> Json:
    return {
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "web", "labels": {"of": "the-workload"}},
        "spec": {"template": {} if template is None else template, **spec},
    }


def template(*containers: Json, annotations: Json | None = None, **spec: object) -> Json:
    meta = {"labels": {"app": "web"}, "annotations": asking() if annotations is None else annotations}
    return {"metadata": meta, "spec": {"containers": list(containers or [container()]), **spec}}


def answer(*containers: Json, init: tuple[Json, ...] = (), annotations: Json | None = None) -> Json:
    """A Pod after admission; the answer of a dry run with a generated name may have no name."""
    return {
        "metadata": {"generateName": "web-", "annotations": asking() if annotations is None else annotations},
        "spec": {"containers": list(containers), "initContainers": list(init)},
    }


def running(variable: str = API, key: SecretKey = KEY, name: str = "daprd", **more: bool) -> PodUsage:
    usage = ContainerUsage(container=name, key=key, started=0, variable=variable, **more)
    return PodUsage(namespace="shop", name="web-1", workload=WEB, usages=(usage,))


def lacking(answered: Json, *pods: PodUsage, keys: tuple[SecretKey, ...] = (KEY,)) -> tuple[str, ...]:
    return lacking_of(answered, WEB, pods, expected_of(answered, WEB, keys))


# --- the Pod that is sent ---


def test_pod_has_metadata_and_spec_of_the_template() -> None:
    made = pod_of_template(workload(template(sidecar(), serviceAccountName="web")), None)
    assert made == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-",
            "namespace": "shop",
            "labels": {"app": "web"},
            "annotations": asking(),
        },
        "spec": {"containers": [sidecar()], "serviceAccountName": "web"},
    }


@pytest.mark.parametrize("empty", [{}, {"metadata": None, "spec": None}, {"metadata": {"annotations": None}}])
def test_pod_of_an_empty_template_is_empty(empty: Json) -> None:
    made = pod_of_template(workload(empty), None)
    assert (made["metadata"]["labels"], made["metadata"]["annotations"], made["spec"]) == ({}, {}, {})


def test_template_is_not_modified() -> None:
    claims = [{"metadata": {"name": "data"}}]
    before = workload(template(container(), volumes=[{"name": "data"}]), volumeClaimTemplates=claims)
    after = copy.deepcopy(before)
    pod_of_template(after, ("containers", FRAME))
    assert after == before


def test_pod_of_a_stateful_set_mounts_its_claims() -> None:
    # The controller replaces a volume of the template that has a claim's name.
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "config", "configMap": {"name": "c"}}]
    claims = [{"metadata": {"name": "data"}}, {"metadata": {"name": "log"}}]
    made = pod_of_template(workload(template(volumes=volumes), volumeClaimTemplates=claims), None)
    assert made["spec"]["volumes"] == [
        {"name": "config", "configMap": {"name": "c"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}},
        {"name": "log", "persistentVolumeClaim": {"claimName": "log-web-0"}},
    ]


FRAME = {"name": "daprd", "image": "daprd:1", "resources": {"limits": {"cpu": "1"}}}


def test_placeholder_is_the_frame_of_a_running_sidecar() -> None:
    made = pod_of_template(workload(template()), ("containers", FRAME))
    assert made["spec"] == {"containers": [container(), FRAME]}


def test_placeholder_of_a_native_sidecar_is_an_init_container() -> None:
    native = {**FRAME, "restartPolicy": "Always"}
    for init in ([], [container("init")]):
        made = pod_of_template(workload(template(initContainers=init)), ("initContainers", native))
        assert made["spec"] == {"containers": [container()], "initContainers": [*init, native]}


def test_placeholder_without_a_running_sidecar_has_an_image() -> None:
    made = pod_of_template(workload(template()), None)
    assert made["spec"]["containers"] == [container(), {"name": "daprd", "image": "daprio/daprd"}]


def test_placeholder_is_added_where_the_running_pod_has_a_sidecar() -> None:
    made = pod_of_template(workload(template(annotations={})), ("containers", FRAME))
    assert made["spec"]["containers"] == [container(), FRAME]


@pytest.mark.parametrize("annotations", [{}, {names.ENABLED: "false"}, {names.ENABLED: ""}, {names.ENABLED: None}])
def test_pod_without_dapr_has_no_placeholder(annotations: Json) -> None:
    made = pod_of_template(workload(template(annotations=annotations)), None)
    assert made["spec"]["containers"] == [container()]


@pytest.mark.parametrize("part", ["containers", "initContainers"])
def test_sidecar_of_the_template_is_kept(part: str) -> None:
    own = sidecar(literal_env("x"), image="own:1")
    spec = {"containers": [container()], part: [own]}
    made = pod_of_template(workload({"metadata": {"annotations": asking()}, "spec": spec}), ("containers", FRAME))
    assert made["spec"] == spec


# --- what is expected of new Pods ---


def test_expected_are_containers_with_a_reference_that_must_resolve() -> None:
    answered = answer(
        sidecar(secret_env("s")),
        container("web", env=[secret_env("s", variable="TOKEN")]),
        container("optional", env=[secret_env("s", optional=True)]),
        container("other", env=[secret_env("t")]),
        container("all", envFrom=[{"secretRef": {"name": "s"}}]),
        init=(container("init", env=[secret_env("s")]),),
    )
    assert expected_of(answered, WEB, [KEY, APP_KEY]) == {KEY: {"daprd", "web", "init"}, APP_KEY: frozenset()}


def test_expected_of_a_pod_without_references_is_empty() -> None:
    assert expected_of(answer(container()), WEB, [KEY]) == {KEY: frozenset()}
    assert expected_of({**answer(container()), "spec": None}, WEB, [KEY]) == {KEY: frozenset()}


def test_answer_is_not_modified() -> None:
    answered = answer(sidecar())
    before = copy.deepcopy(answered)
    assert lacking(answered) == ("daprd",)
    assert answered == before


def test_answer_with_the_reference_lacks_nothing() -> None:
    assert lacking(answer(sidecar(secret_env("s"))), running()) == ()


@pytest.mark.parametrize("env", [[], [literal_env("")], [secret_env("s", optional=True)]])
def test_requested_token_that_is_not_certain_is_lacking(env: list[Json]) -> None:
    assert lacking(answer(container(), sidecar(*env))) == ("daprd",)
    native = answer(container(), init=(sidecar(*env, restartPolicy="Always"),))
    assert lacking(native) == ("daprd",)


def test_requested_app_token_is_lacking_in_the_sidecar() -> None:
    annotations = asking(app_token_secret="app")
    half = answer(sidecar(secret_env("s")), annotations=annotations)
    assert lacking(half, keys=(KEY, APP_KEY)) == ("daprd",)
    assert lacking(half) == ("daprd",), "a restart for one Secret must not take away the token of another"
    whole = answer(sidecar(secret_env("s"), secret_env("app", variable=APP)), annotations=annotations)
    assert lacking(whole, keys=(KEY, APP_KEY)) == ()


def test_requested_app_token_is_lacking_next_to_api_token_of_its_key() -> None:
    annotations = asking(app_token_secret="s")
    assert lacking(answer(sidecar(secret_env("s")), annotations=annotations), running()) == ("daprd",)
    both = sidecar(secret_env("s"), secret_env("s", variable=APP))
    assert lacking(answer(both, annotations=annotations), running()) == ()


@pytest.mark.parametrize("variable", [API, APP])
def test_token_that_running_pods_have_is_lacking_in_the_answer(variable: str) -> None:
    # Without an annotation: the Policy's default Secret gave it, and its webhook is away.
    answered = answer(container(), sidecar(), annotations={})
    assert lacking(answered) == ()
    assert lacking(answered, running(variable)) == ("daprd",)
    assert lacking(answered, running(variable, name="web"), running(variable)) == ("daprd", "web")


def test_optional_sidecar_reference_instead_of_required_is_lacking() -> None:
    answered = answer(sidecar(secret_env("s", optional=True)), annotations={})
    assert lacking(answered, running()) == ("daprd",)
    assert lacking(answered) == ("daprd",), "no running Pod is needed to see it"


def test_optional_reference_of_an_app_container_is_not_lacking() -> None:
    answered = answer(sidecar(secret_env("s")), container("web", env=[secret_env("s", optional=True)]))
    assert lacking(answered, running(name="web", is_optional=True)) == ()
    assert lacking(answered, running(name="web")) == ("web",), "running Pods had a reference that must resolve"


def test_variable_of_another_name_is_ignored() -> None:
    assert lacking(answer(sidecar(), annotations={}), running("TOKEN")) == ()
    assert lacking(answer(sidecar(), annotations={}), running("")) == ()


@pytest.mark.parametrize(
    "entry",
    [
        literal_env("x"),
        secret_env("t"),
        secret_env("s", "other"),
        {"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ],
    ids=["literal", "another-secret", "another-key", "config-map"],
)
def test_value_from_another_source_lacks_nothing(entry: Json) -> None:
    assert lacking(answer(sidecar(entry)), running()) == ()


def test_optional_reference_to_another_secret_is_lacking() -> None:
    assert lacking(answer(sidecar(secret_env("t", optional=True)), annotations={}), running()) == ("daprd",)


def test_container_removed_from_the_template_lacks_nothing() -> None:
    assert lacking(answer(sidecar(secret_env("s"))), running(name="web")) == ()


def test_key_that_is_not_rotated_lacks_nothing() -> None:
    assert lacking(answer(sidecar(), annotations={}), running(key=APP_KEY)) == ()


# --- without a check ---


@pytest.mark.parametrize("action", Action)
def test_assumed_references_are_those_of_running_pods(action: Action) -> None:
    optional = running(name="optional", is_optional=True)
    missing = MissingToken(key=APP_KEY, container="daprd", variable=APP)
    requests = PodUsage(namespace="shop", name="web-3", workload=WEB, missing=(missing,))
    elsewhere = PodUsage(namespace="shop", name="db-1", workload=Ref("Job", "shop", "db"), usages=running().usages)
    planned = PlannedAction(ref=WEB, action=action, keys=(KEY, APP_KEY))
    found = assumed([planned], [running(), running(name="web"), optional, requests, elsewhere])
    if action in {Action.RESTART, Action.WAIT}:
        expected = {KEY: frozenset({"daprd", "web"}), APP_KEY: frozenset({"daprd"})}
        assert found == {WEB: AdmissionCheck(ref=WEB, expected=expected)}
        assert (found[WEB].problem, found[WEB].state) == ("", State.PLANNED)
    else:
        assert found == {}


def test_assumed_without_pods_expects_nothing() -> None:
    planned = PlannedAction(ref=WEB, action=Action.RESTART, keys=(KEY,))
    assert assumed([planned], []) == {WEB: AdmissionCheck(ref=WEB)}
