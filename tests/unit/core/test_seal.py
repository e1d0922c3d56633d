"""Which Pods are sealed, with which additions, and why others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from injector.core import plan
from injector.core.errors import MalformedObjectError
from injector.core.model import (
    NO_APP_CONTAINERS,
    Conflict,
    Endpoint,
    Pod,
    Policy,
    SealMode,
    SourceKind,
    TokenRef,
)
from injector.core.request import InjectionRequest
from injector.core.seal import SealingSpec, quantity
from injector.core.sealed import first_reader, sealed_tokens
from tests.builders import (
    Json,
    ask,
    asking,
    container,
    encode,
    literal_env,
    operations_of,
    patched,
    pod,
    response_of,
    review,
    secret_env,
    sidecar,
    workload,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

API, APP = "DAPR_API_TOKEN", "APP_API_TOKEN"
NAME: Final = "dapr-token-injector-seal"
CHECK: Final = "dapr-token-injector-seal-check"
POLICY: Final = Policy(seal_image="registry/image:1")
NO_IMAGE: Final = "not sealed: the policy has no sealImage; ask the owner of the cluster to set it"
ALWAYS: Final = Policy(seal_image="registry/image:1", seal=SealMode.ALWAYS)


def file_env(variable: str = API) -> Json:
    source = {"volumeName": NAME, "path": "tokens.env", "key": variable}
    return {"name": variable, "valueFrom": {"fileKeyRef": source}}


def sealing(*containers: Json, init: Sequence[Json] | None = None, **spec: object) -> Json:
    """A Pod that is to be sealed, with a sidecar."""
    found = pod(asking(seal="true", app_containers="web"), [*containers, sidecar()], init)
    found["spec"] |= spec
    return found


def sealed(found: Json, policy: Policy = POLICY) -> Json:
    """The Pod after the patch, which must seal it."""
    result = patched(found, ask(review(found), policy))
    assert tokens_of(result)
    return result


def tokens_of(found: Json) -> dict[str, str]:
    """The Secrets and keys that the Pod's seal provides."""
    spec = msgspec.json.decode(encode(found["spec"]), type=SealingSpec)
    return {variable: f"{ref.name}/{ref.key}" for variable, ref in sealed_tokens(spec).items()}


def names_of(found: Json, part: str = "initContainers") -> list[str]:
    return [one["name"] for one in found["spec"][part]]


def warnings_of(found: Json, policy: Policy = POLICY, endpoint: Endpoint = Endpoint.MUTATE) -> list[str]:
    """The warnings of a Pod that is not sealed."""
    admission = ask(review(found), policy, endpoint)
    assert not any(
        NAME in operation["path"] or "fileKeyRef" in str(operation) for operation in operations_of(admission)
    )
    found_warnings: list[str] = response_of(admission).get("warnings", [])
    return found_warnings


@pytest.mark.parametrize("word", ["true", " Yes\n", "ON", "1"])
def test_requested_pod_is_sealed(word: str) -> None:
    found = sealing(container(env=[literal_env("x", "A"), secret_env()]))
    found["metadata"]["annotations"]["dapr-token-injector/seal"] = word

    result = sealed(found)

    assert tokens_of(result) == {API: "s/token"}
    assert result["spec"]["containers"][0]["env"] == [literal_env("x", "A"), file_env()]
    assert result["spec"]["containers"][1]["env"] == [file_env()]
    assert result["spec"]["volumes"] == [{"name": NAME, "emptyDir": {"medium": "Memory", "sizeLimit": "256Ki"}}]


def test_seal_container_meets_the_restricted_standard() -> None:
    seal, check = sealed(sealing(container()))["spec"]["initContainers"]

    assert seal == {
        "name": NAME,
        "image": "registry/image:1",
        "imagePullPolicy": "IfNotPresent",
        "command": ["dapr-token-injector", "seal"],
        "args": [API],
        "env": [secret_env()],
        "volumeMounts": [{"name": NAME, "mountPath": "/dapr-token-injector/seal"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    assert check == {
        **{key: value for key, value in seal.items() if key != "volumeMounts"},
        "name": CHECK,
        "command": ["dapr-token-injector", "seal", "--check"],
        "env": [file_env()],
    }


@pytest.mark.parametrize(("user", "expected"), [(0, 65532), (1000, None), (None, None)])
def test_user_is_set_only_if_that_of_the_pod_is_root(user: int | None, expected: int | None) -> None:
    result = sealed(sealing(container(), securityContext={"runAsUser": user}))

    assert [one["securityContext"].get("runAsUser") for one in result["spec"]["initContainers"]] == [expected] * 2


def test_both_tokens_are_in_one_file() -> None:
    found = sealing(container())
    found["metadata"]["annotations"]["dapr.io/app-token-secret"] = "t"

    result = sealed(found)

    assert tokens_of(result) == {API: "s/token", APP: "t/token"}
    assert [one["args"] for one in result["spec"]["initContainers"]] == [[API, APP]] * 2
    assert all(one["env"] == [file_env(API), file_env(APP)] for one in result["spec"]["containers"])


def test_both_tokens_may_come_from_one_key() -> None:
    found = sealing(container())
    found["metadata"]["annotations"]["dapr.io/app-token-secret"] = "s"

    assert tokens_of(sealed(found)) == {API: "s/token", APP: "s/token"}


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (None, [NAME, CHECK]),
        ([], [NAME, CHECK]),
        ([container("a"), container("b")], ["a", "b", NAME, CHECK]),
        ([container("a"), sidecar(restartPolicy="Always")], ["a", NAME, CHECK, "daprd"]),
        ([container("a"), container("web"), sidecar(restartPolicy="Always")], ["a", NAME, CHECK, "web", "daprd"]),
        ([container(f"i{i}") for i in range(200)], [*(f"i{i}" for i in range(200)), NAME, CHECK]),
    ],
)
def test_seal_precedes_the_first_reader(init: list[Json] | None, expected: list[str]) -> None:
    found = sealing(container("app"), init=init)
    if init is None:
        found["spec"] |= {"initContainers": None, "volumes": None, "imagePullSecrets": None}

    assert names_of(sealed(found)) == expected


def test_existing_lists_are_extended() -> None:
    policy = Policy(seal_image="i", seal_image_pull_secrets=("p", "q"))
    found = sealing(container(), volumes=[{"name": "v"}], imagePullSecrets=[{"name": "p"}])

    result = sealed(found, policy)

    assert names_of(result, "volumes") == ["v", NAME]
    assert names_of(result, "imagePullSecrets") == ["p", "q"]
    assert '"pullSecrets":["q"]' in result["metadata"]["annotations"]["dapr-token-injector/status"]


def test_pull_secrets_make_their_list() -> None:
    policy = Policy(seal_image="i", seal_image_pull_secrets=("p", "q"))

    assert names_of(sealed(sealing(container()), policy), "imagePullSecrets") == ["p", "q"]


# --- resources ---


def _limits(**amounts: object) -> Json:
    return {"resources": {"limits": {name.replace("_", "-"): amount for name, amount in amounts.items()}}}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}, {"resources": None}, {"resources": {}}, {"resources": {"limits": {"gpu": 1}}}], None),
        ([_limits(memory="64Mi"), _limits(memory="0.1Gi"), _limits(memory="1e7")], _limits(memory="0.1Gi")),
        ([_limits(memory=200), _limits(memory="100")], _limits(memory=200)),
        ([_limits(cpu="4"), _limits(memory="1Ki")], _limits(memory="1Ki")),
        ([{}, {"resources": {"requests": {"cpu": "1"}}}], {"resources": {"requests": {"cpu": "1"}}}),
        (
            [_limits(memory="5G", cpu=1.5, ephemeral_storage="1Gi", nvidia="1", hugepages=[])],
            _limits(cpu=1.5, memory="5G", ephemeral_storage="1Gi"),
        ),
        (
            [_limits(memory=None), _limits(memory="many"), _limits(memory="some")],
            _limits(memory="many"),
        ),
    ],
)
def test_resources_are_those_of_the_largest_memory_limit(resources: list[Json], expected: Json | None) -> None:
    result = sealed(sealing(*(container(f"c{i}", **one) for i, one in enumerate(resources))))

    assert [one.get("resources") for one in result["spec"]["initContainers"]] == [(expected or {}).get("resources")] * 2


@pytest.mark.parametrize("amount", [{}, [], True, "1" * 65, 2**63, -(2**63) - 1])
def test_amount_that_no_api_server_stores_is_malformed(amount: object) -> None:
    """A plan with its amounts is kept for later Pods, so they must be short."""
    with pytest.raises(MalformedObjectError):
        ask(review(sealing(container("web", **_limits(cpu=amount)))), POLICY)


@pytest.mark.parametrize("amount", ["1" * 64, 2**63 - 1, -(2**63), 0.5])
def test_amounts_are_copied_as_they_are(amount: object) -> None:
    result = sealed(sealing(container("web", **_limits(cpu=amount))))

    assert result["spec"]["initContainers"][0]["resources"] == {"limits": {"cpu": amount}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("-1.5", -1.5),
        (".5k", 500),
        ("2.", 2),
        ("3Ki", 3072),
        ("1Ei", 1024**6),
        ("1E", 10**18),
        ("1E2", 100),
        ("1e-1", 0.1),
        ("500m", 0.5),
        ("1n", 1e-9),
        ("1Ki2", -1),
        ("", -1),
        ("x", -1),
        ("1e9999", -1),
        ("\u0661", -1),
    ],
)
def test_quantities_are_numbers(text: str, expected: float) -> None:
    assert quantity(text) == pytest.approx(expected)


# --- not sealed ---


@pytest.mark.parametrize("word", ["", " ", "maybe", "$(X)"])
def test_annotation_with_another_word_does_not_seal(word: str) -> None:
    found = sealing(container())
    found["metadata"]["annotations"]["dapr-token-injector/seal"] = word

    for policy in (POLICY, ALWAYS):
        assert warnings_of(found, policy) == [
            'not sealed: dapr-token-injector/seal is neither true nor false; set it to "true" or "false"'
        ]


@pytest.mark.parametrize(
    ("mode", "word", "is_sealed"),
    [
        ("off", None, False),
        ("off", "false", False),
        ("on-request", None, False),
        ("on-request", "n", False),
        ("always", "false", False),
        ("always", None, True),
        ("always", "t", True),
    ],
)
def test_policy_decides_which_pods_are_sealed(mode: str, word: str | None, is_sealed: bool) -> None:  # noqa: FBT001 - drawn
    found = sealing(container())
    del found["metadata"]["annotations"]["dapr-token-injector/seal"]
    if word is not None:
        found["metadata"]["annotations"]["dapr-token-injector/seal"] = word
    policy = Policy(seal=SealMode(mode), seal_image="i")

    if is_sealed:
        sealed(found, policy)
    else:
        assert warnings_of(found, policy) == []


def test_request_under_a_policy_that_is_off_is_reported() -> None:
    policy = Policy(seal=SealMode.OFF, seal_image="i")

    assert warnings_of(sealing(container()), policy) == [
        "dapr-token-injector/seal was ignored: the policy does not allow sealing (seal: off)"
    ]


def test_pod_without_sidecar_is_not_sealed_yet() -> None:
    assert warnings_of(pod(asking(seal="true", app_containers="web"), [container()])) == []


_FILES: Final = [{"key": "token", "path": "t"}]
_OTHER_FILES: Final = [{"key": "other", "path": "t"}]
_WINDOWS: Final = 'Windows has no env files in memory; set dapr-token-injector/seal to "false"'
_ENTRY: Final = "another entry reads the same key; remove it from container"
_UNLISTED: Final = "list in dapr-token-injector/app-containers the container that reads the key, too:"
_VOLUME: Final = 'a volume has the same key; remove it from volume "v"'
NOT_SEALED: Final[dict[str, tuple[Json, str]]] = {
    "operating system": (sealing(os={"name": "windows"}), _WINDOWS),
    "node selector": (sealing(nodeSelector={"kubernetes.io/os": "windows"}), _WINDOWS),
    "seal container": (
        sealing(container(NAME)),
        "container dapr-token-injector-seal is not as the webhook makes it; remove or rename it",
    ),
    "check container": (
        sealing(init=[container(CHECK)]),
        "container dapr-token-injector-seal-check is not as the webhook makes it; remove or rename it",
    ),
    "volume": (
        sealing(volumes=[{"name": NAME, "emptyDir": {"medium": "Memory"}}]),
        "volume dapr-token-injector-seal is not as the webhook makes it; remove or rename it",
    ),
    "mount": (
        sealing(container("x", volumeMounts=[{"name": "v", "mountPath": "/v"}, {"name": NAME, "mountPath": "/x"}])),
        "remove the mount of dapr-token-injector-seal from container x",
    ),
    "another variable": (sealing(container(env=[secret_env(variable="A")])), f"{_ENTRY} web"),
    "another variable, escaped": (
        sealing(container("x", env=[{**secret_env(), "name": "\u00e9"}])),
        f"{_ENTRY} x",
    ),
    "earlier entry": (sealing(container(env=[secret_env(), secret_env()])), f"{_ENTRY} web"),
    "variable that is not requested": (sealing(container(env=[secret_env(variable=APP)])), f"{_ENTRY} web"),
    "container that is not listed": (sealing(container("istio-proxy", env=[secret_env()])), f"{_UNLISTED} istio-proxy"),
    "init container that is not listed": (sealing(init=[container("i", env=[secret_env()])]), f"{_UNLISTED} i"),
    "renamed sidecar": (
        sealing(container("dapr-shared", image="daprd:1", env=[secret_env()])),
        "a container that runs daprd has another name; rename it: dapr-shared",
    ),
    "objects of variables": (
        sealing(container(envFrom=[{"configMapRef": {"name": "s"}}, {"secretRef": {"name": "s"}}])),
        "envFrom reads the same Secret; list single keys in container web",
    ),
    "volume of the Secret": (sealing(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), _VOLUME),
    "file with the key": (sealing(volumes=[{"name": "v", "secret": {"secretName": "s", "items": _FILES}}]), _VOLUME),
    "projected volume": (
        sealing(volumes=[{"name": "v", "projected": {"sources": [{}, {"secret": {"name": "s", "items": []}}]}}]),
        _VOLUME,
    ),
}


@pytest.mark.parametrize(("found", "problem"), NOT_SEALED.values(), ids=NOT_SEALED)
def test_pod_that_cannot_be_sealed_has_the_reason(found: Json, problem: str) -> None:
    assert f"not sealed: {problem}" in warnings_of(found)
    assert f"not sealed: {problem}" in warnings_of(workload(found), endpoint=Endpoint.WARN)


@pytest.mark.parametrize(
    "volume",
    [
        {"secret": {"secretName": "s", "items": _OTHER_FILES}},
        {"secret": {"secretName": "other"}},
        {"projected": {"sources": None}},
        {"projected": {"sources": [{"secret": {"name": "s", "items": _OTHER_FILES}}]}},
    ],
)
def test_volume_without_the_key_does_not_prevent_sealing(volume: Json) -> None:
    sealed(sealing(container("x", env=[secret_env("s", "other", "A")]), volumes=[{"name": "v", **volume}]))


def test_name_of_a_volume_that_may_be_a_token_is_not_shown() -> None:
    volume = {"name": "eyJhbGciOiJIUzI1NiJ9", "secret": {"secretName": "s"}}

    (warning,) = warnings_of(sealing(container(), volumes=[volume]))

    assert warning.startswith("not sealed: a volume has the same key")
    assert "eyJ" not in warning


def test_key_of_a_config_map_is_not_sealed() -> None:
    found = msgspec.json.decode(encode(sealing(container())), type=Pod)
    wanted = ((API, TokenRef("c", "k", SourceKind.CONFIG_MAP)),)

    planned = plan.build(found, InjectionRequest(wanted, NO_APP_CONTAINERS, seal=True), POLICY, SealingSpec)

    assert planned.warnings == ("not sealed: only keys of Secrets can be sealed",)
    assert planned.seal is None


@pytest.mark.parametrize("source", [{"volumeName": 5}, {"volumeName": "v", "path": "p", "key": "k"}])
def test_other_file_prevents_sealing(source: Json) -> None:
    found = sealing(container(env=[{"name": API, "valueFrom": {"fileKeyRef": source}}]))

    assert ask(review(found), POLICY).verdict == "inject"
    assert response_of(ask(review(found), POLICY))["warnings"][0] == (
        "not sealed: a value of its own is kept; remove DAPR_API_TOKEN from container web"
    )


def test_policy_without_image_does_not_seal() -> None:
    assert warnings_of(sealing(container()), Policy()) == [NO_IMAGE]


def test_value_that_is_kept_prevents_sealing() -> None:
    found = sealing(container(env=[literal_env("x")]))

    assert warnings_of(found) == [
        "not sealed: a value of its own is kept; remove DAPR_API_TOKEN from container web",
        "DAPR_API_TOKEN of container web is a value in clear text and was kept; use a Secret",
    ]


def test_value_that_is_kept_is_named_before_other_readers() -> None:
    found = sealing(container(env=[literal_env("x"), secret_env(variable="OTHER")]))

    assert warnings_of(found)[0] == "not sealed: a value of its own is kept; remove DAPR_API_TOKEN from container web"
    assert warnings_of(found, Policy())[0] == NO_IMAGE


def test_value_that_is_replaced_does_not_prevent_sealing() -> None:
    found = sealing(container(env=[literal_env("x")]))

    result = sealed(found, Policy(seal_image="i", conflict=Conflict.REPLACE))

    assert result["spec"]["containers"][0]["env"] == [file_env()]


@pytest.mark.parametrize("entry", [literal_env(""), secret_env(optional=True), secret_env("x", "y", optional=True)])
def test_entry_that_fails_open_is_sealed(entry: Json) -> None:
    assert sealed(sealing(container(env=[entry])))["spec"]["containers"][0]["env"] == [file_env()]


def test_pod_that_lost_its_seal_gets_it_again() -> None:
    found = sealing(container())
    result = sealed(found)
    for part in ("volumes", "initContainers"):
        del result["spec"][part]

    again = sealed(result)

    assert again["spec"] == sealed(found)["spec"]


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_template_without_sidecar_gets_the_reason(kind: str) -> None:
    template = pod(asking(seal="true"), [container(env=[secret_env(variable="A")])])

    assert warnings_of(workload(template, kind), endpoint=Endpoint.WARN) == [f"not sealed: {_ENTRY} web"]


@pytest.mark.parametrize(
    "spec", [{"volumes": 5}, {"containers": [sidecar(), {"name": "x", "env": [{"valueFrom": 5, "secretKeyRef": 1}]}]}]
)
def test_malformed_field_of_a_pod_to_be_sealed_is_an_error(spec: Json) -> None:
    found = sealing(container())
    found["spec"] |= spec

    with pytest.raises(MalformedObjectError):
        ask(review(found), POLICY)
    del found["metadata"]["annotations"]["dapr-token-injector/seal"]
    ask(review(found), POLICY)


@pytest.mark.parametrize("found", [{"metadata": None, "spec": None}, {}])
def test_template_without_containers_has_no_reason(found: Json) -> None:
    assert warnings_of(workload(found), ALWAYS, Endpoint.WARN) == []


# --- Pods that are sealed already ---


def test_sealed_pod_needs_no_change() -> None:
    result = sealed(sealing(container()))

    for policy in (POLICY, ALWAYS, Policy(), Policy(seal=SealMode.OFF), Policy(conflict=Conflict.REPLACE)):
        again = ask(review(result), policy)
        assert (again.verdict, again.reason) == ("skip", "up-to-date")


@pytest.mark.parametrize("word", ["true", "false"])
def test_new_container_of_a_sealed_pod_reads_the_file(word: str) -> None:
    found = sealed(sealing(container()))
    annotations = found["metadata"]["annotations"]
    annotations |= {"dapr-token-injector/seal": word, "dapr-token-injector/app-containers": "*"}
    found["spec"]["containers"] += [container("new"), container("own", env=[secret_env()])]
    recorded = annotations["dapr-token-injector/status"]

    result = patched(found, ask(review(found), POLICY))

    assert [one["env"] for one in result["spec"]["containers"]] == [[file_env()]] * 4
    assert names_of(result) == [NAME, CHECK]
    assert result["metadata"]["annotations"]["dapr-token-injector/status"].startswith(recorded.partition("]")[0])


def test_container_before_the_seal_gets_an_ordinary_reference() -> None:
    found = sealed(sealing(container()))
    found["spec"]["initContainers"] = [container("web", env=[file_env()]), *found["spec"]["initContainers"]]

    admission = ask(review(found), POLICY)
    result = patched(found, admission)

    assert names_of(result) == ["web", NAME, CHECK]
    assert result["spec"]["initContainers"][0]["env"] == [secret_env()]
    expected = ["DAPR_API_TOKEN of container web is not sealed: it runs before dapr-token-injector-seal-check"]
    assert response_of(admission)["warnings"] == expected
    assert operations_of(ask(review(result), POLICY)) == []


def test_other_reader_in_a_sealed_pod_is_reported() -> None:
    found = sealed(sealing(container()))
    found["spec"]["containers"].append(container("late", env=[secret_env(variable="A")]))

    assert response_of(ask(review(found), POLICY))["warnings"] == [f"sealed, but {_ENTRY} late"]


def test_volume_on_disk_is_not_a_seal() -> None:
    found = sealed(sealing(container()))
    found["spec"]["volumes"][0]["emptyDir"] = {}

    warnings = response_of(ask(review(found), POLICY))["warnings"]

    assert warnings[0].startswith("not sealed: container dapr-token-injector-seal is not as the webhook makes it")


def test_seal_of_another_reference_is_not_used() -> None:
    found = sealed(sealing(container()))
    found["metadata"]["annotations"]["dapr.io/api-token-secret"] = "other"

    warnings = response_of(ask(review(found), POLICY))["warnings"]

    assert warnings[0] == "not sealed: its seal has another Secret or key; render the manifest again"


def test_unrequested_seal_of_another_reference_is_not_mentioned() -> None:
    found = sealed(sealing(container()))
    found["metadata"]["annotations"] |= {"dapr.io/api-token-secret": "other", "dapr-token-injector/seal": "false"}

    assert not any("sealed" in line for line in response_of(ask(review(found), POLICY))["warnings"])


def test_app_of_a_sidecar_with_its_own_reference_does_not_read_the_file() -> None:
    found = sealed(sealing(container()))
    found["spec"]["containers"][1]["env"] = [secret_env("own", "k")]
    found["spec"]["containers"][0]["env"] = []

    result = patched(found, ask(review(found), POLICY))

    assert result["spec"]["containers"][0]["env"] == [secret_env("own", "k")]


def test_record_of_a_first_round_remains_removable() -> None:
    first = pod(asking(seal="true", app_containers="web,own"), [container(), container("own", env=[secret_env()])])
    first = patched(first, ask(review(first), POLICY))
    first["spec"]["containers"].append(sidecar(secret_env()))

    result = sealed(first)

    injected: Any = msgspec.json.decode(result["metadata"]["annotations"]["dapr-token-injector/status"])["injected"]
    assert {one["container"]: one.get("replaced", False) for one in injected} == {
        "daprd": True,
        "web": False,
        "own": True,
    }
    assert all(one["sealed"] for one in injected)


def test_first_reader_follows_the_check_container() -> None:
    result = sealed(sealing(init=[container("a"), sidecar(restartPolicy="Always")]))
    spec = msgspec.json.decode(encode(result["spec"]), type=SealingSpec)

    assert first_reader(spec) == 3
