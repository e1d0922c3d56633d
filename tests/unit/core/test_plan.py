"""The changes of each container and their exact warnings: warnings are stable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from injector.core import plan
from injector.core.containers import Target
from injector.core.model import (
    NO_APP_CONTAINERS,
    AppContainers,
    Conflict,
    Injected,
    Pod,
    Policy,
    Reason,
    SourceKind,
    TokenRef,
)
from injector.core.request import InjectionRequest
from tests.builders import Json, container, encode, literal_env, pod, secret_env, sidecar

if TYPE_CHECKING:
    from injector.core.plan import Change, Plan

API, APP = "DAPR_API_TOKEN", "APP_API_TOKEN"
REF = TokenRef("s", "token")
WANTS_API = InjectionRequest(((API, REF),), NO_APP_CONTAINERS)
FOR_WEB = InjectionRequest(((API, REF),), AppContainers(("web",)))
FOR_ALL = InjectionRequest(((API, REF),), AppContainers(every=True))
REPLACE = Policy(conflict=Conflict.REPLACE)
LISTED = Policy(allowed_secrets=("s", "dapr-*"))


def build(found: Json, request: InjectionRequest = WANTS_API, policy: Policy = REPLACE) -> Plan:
    """The plan for a Pod."""
    return plan.build(msgspec.json.decode(encode(found), type=Pod), request, policy)


def of(*entries: Json, web: list[Json] | None = None) -> Json:
    """A Pod whose sidecar has these variables."""
    return pod(containers=[container(env=web), sidecar(*entries)])


def short(changes: tuple[Change, ...]) -> list[tuple[str, int, str, TokenRef, int | None]]:
    """Changes without the previous entries."""
    return [(c.place.list_name, c.place.index, c.variable, c.ref, c.replaces) for c in changes]


def test_pod_without_a_spec_has_no_target() -> None:
    found = build({"metadata": {}})

    assert not any((found.changes, found.kept, found.record, found.problems, found.warnings))
    assert found.unchanged == frozenset()
    assert found.has_target is False


def test_pod_without_a_sidecar_has_no_target() -> None:
    assert build(pod(containers=[container()])).has_target is False


def test_missing_variable_is_added() -> None:
    found = build(of())

    assert short(found.changes) == [("containers", 1, API, REF, None)]
    assert found.record == (Injected("daprd", API, "s", "token"),)
    assert found.warnings == ()
    assert found.has_target is True


def test_positions_are_counted_per_list() -> None:
    found = build(pod(containers=[container(), sidecar()], init_containers=[container("a"), container("b"), sidecar()]))

    assert short(found.changes) == [("containers", 1, API, REF, None), ("initContainers", 2, API, REF, None)]


def test_same_reference_is_unchanged() -> None:
    found = build(of(secret_env()))

    assert (found.changes, found.kept, found.warnings) == ((), (), ())
    assert found.unchanged == frozenset({Injected("daprd", API, "s", "token")})
    assert found.has_target is True


@pytest.mark.parametrize("policy", [Policy(), REPLACE])
@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (literal_env(""), "was empty, which turns authentication off"),
        ({"name": API}, "was empty, which turns authentication off"),
        (secret_env(optional=True), "was optional, which fails open"),
        (secret_env("other", optional=True), "was optional, which fails open"),
        ({"name": API, "valueFrom": {"fileKeyRef": {"optional": True}}}, "was optional, which fails open"),
    ],
)
def test_unsafe_entry_is_replaced_with_a_warning(policy: Policy, entry: Json, why: str) -> None:
    found = build(of(literal_env("x", "X"), entry), policy=policy)

    assert short(found.changes) == [("containers", 1, API, REF, 1)]
    assert found.record == (Injected("daprd", API, "s", "token", replaced=True),)
    assert found.warnings == (f"{API} of container daprd {why}; replaced",)
    assert found.kept == ()


@pytest.mark.parametrize("entry", [literal_env("abc"), secret_env("other"), secret_env(key="other")])
def test_other_entry_is_replaced_if_the_policy_allows(entry: Json) -> None:
    found = build(of(entry), policy=REPLACE)

    assert short(found.changes) == [("containers", 1, API, REF, 0)]
    assert found.warnings == (f"{API} of container daprd was set differently; replaced",)


def test_literal_is_kept_with_a_warning() -> None:
    found = build(of(literal_env("abc")), policy=Policy())

    assert found.changes == ()
    assert [(kept.place.container, kept.variable) for kept in found.kept] == [("daprd", API)]
    assert found.warnings == (f"{API} of container daprd is a value in clear text and was kept; use a Secret",)
    assert found.has_target is True


def test_other_reference_is_kept_with_a_warning() -> None:
    found = build(of(secret_env("other")), policy=Policy())

    assert found.changes == ()
    assert found.warnings == (
        f"{API} of container daprd references a different Secret or key than the annotation; kept",
    )


def test_other_reference_of_an_app_is_kept_with_a_warning() -> None:
    found = build(of(secret_env(), web=[secret_env("other")]), FOR_WEB, Policy())

    assert [(kept.place.target, kept.place.container) for kept in found.kept] == [(Target.APP, "web")]
    assert found.warnings == (f"{API} of container web references a different Secret or key than its sidecar; kept",)


def test_reference_of_the_dapr_injector_is_replaced_silently() -> None:
    request = InjectionRequest(((API, TokenRef("s", "api.key")),), NO_APP_CONTAINERS)

    found = build(of(secret_env()), request, Policy())

    assert short(found.changes) == [("containers", 1, API, TokenRef("s", "api.key"), 0)]
    assert found.warnings == ()


@pytest.mark.parametrize("entry", [secret_env("t"), secret_env(key="other")])
def test_reference_not_from_the_dapr_injector_is_kept(entry: Json) -> None:
    request = InjectionRequest(((API, TokenRef("s", "api.key")),), NO_APP_CONTAINERS)

    assert build(of(entry), request, Policy()).changes == ()


def test_duplicates_are_counted_and_the_last_is_planned() -> None:
    found = build(of(secret_env(), secret_env(), literal_env("abc")), policy=REPLACE)

    assert short(found.changes) == [("containers", 1, API, REF, 2)]
    assert found.warnings == (
        f"{API} of container daprd appears 3 times; the last entry is used",
        f"{API} of container daprd was set differently; replaced",
    )


def test_two_entries_are_duplicates() -> None:
    assert build(of(secret_env(), secret_env())).warnings == (
        f"{API} of container daprd appears 2 times; the last entry is used",
    )
    assert build(of(secret_env())).warnings == ()


def test_variables_are_planned_one_after_another() -> None:
    request = InjectionRequest(((API, REF), (APP, TokenRef("t", "k"))), AppContainers(("web",)))

    found = build(of(), request)

    assert short(found.changes) == [
        ("containers", 1, API, REF, None),
        ("containers", 0, API, REF, None),
        ("containers", 1, APP, TokenRef("t", "k"), None),
        ("containers", 0, APP, TokenRef("t", "k"), None),
    ]
    assert [change.place.target for change in found.changes] == ["sidecar", "app", "sidecar", "app"]


def test_app_gets_the_reference_kept_by_the_sidecar() -> None:
    found = build(of({"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}), FOR_WEB, Policy())

    assert short(found.changes) == [("containers", 0, API, TokenRef("c", "k", SourceKind.CONFIG_MAP), None)]
    assert found.record == (Injected("web", API, "c", "k", SourceKind.CONFIG_MAP),)


def test_app_without_sidecar_gets_the_requested_reference() -> None:
    found = build(pod(containers=[container()]), FOR_WEB)

    assert short(found.changes) == [("containers", 0, API, REF, None)]
    assert found.has_target is True


def test_app_gets_nothing_when_the_sidecar_keeps_a_literal() -> None:
    found = build(of(literal_env("abc")), FOR_WEB, Policy())

    assert found.changes == ()
    assert found.warnings[1:] == (f"{API} not given to container web: its sidecar's value cannot be referenced",)


def test_app_gets_nothing_when_sidecars_disagree() -> None:
    found = build(pod(containers=[container(), sidecar(secret_env("t")), sidecar()]), FOR_WEB, Policy())

    assert short(found.changes) == [("containers", 2, API, REF, None)]
    assert found.warnings[1:] == (f"{API} not given to container web: its sidecar's value cannot be referenced",)


def test_kept_reference_must_be_on_the_list() -> None:
    (problem,) = build(of(secret_env("other")), policy=LISTED).problems

    assert problem.reason is Reason.SECRET_NOT_ALLOWED
    assert problem.annotation == "dapr.io/api-token-secret"
    assert problem.brief == (
        f'variable {API} of container daprd: Secret "other" is not on the policy\'s list allowedSecrets'
    )
    assert problem.message == f"{problem.brief}, which is: s, dapr-*"


def test_kept_app_token_reference_is_reported_with_its_annotation() -> None:
    request = InjectionRequest(((APP, REF),), NO_APP_CONTAINERS)

    (problem,) = build(of(secret_env("other", variable=APP)), request, LISTED).problems

    assert problem.annotation == "dapr.io/app-token-secret"


@pytest.mark.parametrize(
    "entry",
    [
        secret_env("dapr-x"),
        {"name": API, "valueFrom": {"configMapKeyRef": {"name": "other", "key": "k"}}},
        {"name": API, "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
        literal_env("abc"),
    ],
)
def test_allowed_list_does_not_apply_to_config_maps(entry: Json) -> None:
    assert build(of(entry), policy=LISTED).problems == ()


def test_kept_app_reference_must_be_on_the_list_without_injection() -> None:
    (problem,) = build(of(literal_env("abc"), web=[secret_env("other")]), FOR_WEB, LISTED).problems

    assert problem.brief.startswith(f'variable {API} of container web: Secret "other"')
    assert build(of(literal_env("abc"), web=[secret_env("dapr-x")]), FOR_WEB, LISTED).problems == ()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (FOR_ALL, [("containers", 0), ("initContainers", 1)]),
        (FOR_WEB, [("containers", 0)]),
        (InjectionRequest(((API, REF),), AppContainers(("init",))), [("initContainers", 0)]),
        (
            InjectionRequest(((API, REF),), AppContainers(("istio-proxy",), every=True)),
            [("containers", 0), ("containers", 2), ("initContainers", 1)],
        ),
        (InjectionRequest(((API, REF),), AppContainers(("daprd",))), []),
        (WANTS_API, []),
    ],
)
def test_selected_containers_are_targets(request_: InjectionRequest, expected: list[tuple[str, int]]) -> None:
    found = build(
        pod(
            containers=[container(), sidecar(secret_env()), container("istio-proxy")],
            init_containers=[
                container("init"),
                container("cache", restartPolicy="Always"),
                container("odd", restartPolicy="always"),
                container("vault-agent", restartPolicy="Always"),
            ],
        ),
        request_,
        Policy(),
    )

    assert [(change.place.list_name, change.place.index) for change in found.changes] == expected
    assert found.warnings == ()


def test_unknown_names_are_reported_with_the_existing_ones() -> None:
    request = InjectionRequest(((API, REF),), AppContainers(("x", "daprd", "web", "y")))

    found = build(
        pod(containers=[container("worker"), sidecar(literal_env(""))], init_containers=[container()]), request
    )

    assert found.warnings == (
        'no container is named "x"; the Pod has: web, worker',
        'no container is named "y"; the Pod has: web, worker',
        f"{API} of container daprd was empty, which turns authentication off; replaced",
    )


def test_unknown_names_of_the_policy_default_are_not_reported() -> None:
    request = InjectionRequest(((API, REF),), AppContainers(("x",), from_pod=False))

    assert build(of(), request).warnings == ()


def test_record_of_an_earlier_round_comes_first() -> None:
    earlier = '{"v":1,"injected":[{"container":"web","env":"DAPR_API_TOKEN","name":"s","key":"token","replaced":true}]}'
    found = of(web=[secret_env()])
    found["metadata"]["annotations"] = {"dapr-token-injector/status": earlier}

    planned = build(found, FOR_WEB)

    assert planned.record == (
        Injected("web", API, "s", "token", replaced=True),
        Injected("daprd", API, "s", "token"),
    )
    # All else is as it would be without the record.
    plain = build(of(web=[secret_env()]), FOR_WEB)
    for field in ("changes", "kept", "unchanged", "problems", "warnings", "has_target"):
        assert getattr(planned, field) == getattr(plain, field)


@pytest.mark.parametrize("differs", [{"container": "x"}, {"env": APP}, {"name": "t"}, {"key": "k"}])
def test_record_of_a_removed_entry_is_dropped(differs: Json) -> None:
    entry = {"container": "web", "env": API, "name": "s", "key": "token", **differs}
    found = of(web=[secret_env()])
    found["metadata"]["annotations"] = {"dapr-token-injector/status": encode({"v": 1, "injected": [entry]}).decode()}

    assert build(found, FOR_WEB).record == (Injected("daprd", API, "s", "token"),)


def test_record_is_not_read_without_entries() -> None:
    found = of()
    found["metadata"] = None

    assert build(found).record == (Injected("daprd", API, "s", "token"),)
    assert build({**of(secret_env()), "metadata": None}).record == ()


def test_equal_pods_share_a_plan() -> None:
    assert build(of()) is build(of())
    assert build(of()) is not build(of(), policy=LISTED)


def test_plans_of_more_than_eight_containers_are_not_shared() -> None:
    eight = pod(containers=[sidecar() for _ in range(8)])
    nine = pod(containers=[sidecar() for _ in range(9)])

    assert build(eight) is build(eight)
    assert build(nine) is not build(nine)
    assert len(build(nine).changes) == 9


def test_plans_with_long_names_or_entries_are_not_shared() -> None:
    def named(length: int) -> Plan:
        name = "x" * length
        return build(pod(containers=[container(name)]), InjectionRequest(((API, REF),), AppContainers((name,))))

    assert named(63) is named(63)
    assert named(64) is not named(64)
    assert build(of(secret_env("t"))) is not build(of(secret_env("t")))
    for_app = InjectionRequest(((APP, REF),), NO_APP_CONTAINERS)
    assert build(of(secret_env(variable=APP)), for_app) is not build(of(secret_env(variable=APP)), for_app)


def test_cache_key_of_a_plan_has_all_its_inputs() -> None:
    plans = [
        build(of()),
        build(of(), policy=Policy()),
        build(of(), policy=LISTED),
        build(of(), InjectionRequest(((API, TokenRef("t", "token")),), NO_APP_CONTAINERS)),
        build(pod(containers=[container(), container("daprd")])),
        build(pod(containers=[sidecar()])),
    ]

    assert len({id(found) for found in plans}) == len(plans)


def test_long_container_names_are_shortened_in_messages() -> None:
    name = "x" * 5000
    request = InjectionRequest(((API, REF),), AppContainers((name,)))

    kept = build(pod(containers=[container(name, env=[secret_env("other")])]), request, LISTED)
    withheld = build(pod(containers=[container(name), sidecar(literal_env("abc"))]), request, Policy())

    assert all(len(warning) < 120 for warning in (*kept.warnings, *withheld.warnings))
    assert all(len(problem.message) < 300 for problem in kept.problems)


@pytest.mark.parametrize(("source", "stands"), [("configMapKeyRef", True), ("secretKeyRef", False)])
def test_record_distinguishes_kinds_of_references(source: str, stands: bool) -> None:  # noqa: FBT001 - a table's column
    own = {"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
    entry = {"container": "web", "env": API, "name": "c", "key": "k", "source": source}
    found = of(own, web=[own])
    found["metadata"]["annotations"] = {"dapr-token-injector/status": encode({"v": 1, "injected": [entry]}).decode()}

    record = build(found, FOR_WEB, Policy()).record

    assert record == ((Injected("web", API, "c", "k", SourceKind.CONFIG_MAP),) if stands else ())


USE = {"name": "HEADERS", "value": "dapr-api-token=$(DAPR_API_TOKEN)"}
LATE = "DAPR_API_TOKEN of container daprd is set after an entry that refers to it; move it before that entry"


def test_missing_variable_is_added_before_its_first_use() -> None:
    found = build(of({"name": "A"}, USE, USE, web=[USE]), FOR_WEB)

    assert [(c.place.container, c.replaces, c.before) for c in found.changes] == [
        ("daprd", None, 1),
        ("web", None, 0),
    ]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("own", "policy", "more"),
    [
        (secret_env(), REPLACE, ()),
        (literal_env(""), REPLACE, ("was empty, which turns authentication off; replaced",)),
        (secret_env("t"), REPLACE, ("was set differently; replaced",)),
        (secret_env("t"), Policy(), ("references a different Secret or key than the annotation; kept",)),
    ],
)
def test_existing_variable_after_its_use_is_a_warning(own: Json, policy: Policy, more: tuple[str, ...]) -> None:
    found = build(of(USE, own), policy=policy)

    assert [(c.replaces, c.before) for c in found.changes] in ([], [(1, None)])
    assert found.warnings == (LATE, *(f"DAPR_API_TOKEN of container daprd {one}" for one in more))


SET = secret_env("s", "token", "X")


def test_reference_through_another_variable_is_unchanged() -> None:
    found = build(of(SET, literal_env("$(X)")))

    assert (found.changes, found.kept, found.warnings) == ((), (), ())
    assert found.has_target is True


def test_app_container_gets_what_the_sidecars_variable_refers_to() -> None:
    other = secret_env("t", "k", "X")

    found = build(of(other, literal_env("$(X)")), FOR_WEB, Policy())

    assert short(found.changes) == [("containers", 0, API, TokenRef("t", "k"), None)]


def test_reference_through_another_variable_is_checked() -> None:
    found = build(of(secret_env("q", "token", "X"), literal_env("$(X)")), policy=LISTED)
    other_key = InjectionRequest(((API, TokenRef("s", "k")),), NO_APP_CONTAINERS)

    assert [problem.reason for problem in found.problems] == [Reason.SECRET_NOT_ALLOWED]
    assert build(of(SET, literal_env("$(X)")), other_key, Policy()).changes == ()


@pytest.mark.parametrize("policy", [Policy(), REPLACE])
def test_value_that_expands_to_nothing_is_replaced(policy: Policy) -> None:
    found = build(of(literal_env("", "X"), literal_env("$(X)")), policy=policy)

    assert short(found.changes) == [("containers", 1, API, REF, 1)]
    assert found.warnings == (
        "DAPR_API_TOKEN of container daprd may expand to an empty token, which turns authentication off; replaced",
    )


def test_annotation_as_the_token_is_kept_with_a_warning() -> None:
    note = {"name": API, "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['token']"}}}

    found = build(of(note), policy=Policy())

    assert found.changes == ()
    assert found.warnings == (
        "DAPR_API_TOKEN of container daprd may expand to an empty token, which turns authentication off; kept",
    )


RENAMED = {"name": "dapr", "image": "daprio/daprd:1.18.4"}


@pytest.mark.parametrize("request_", [FOR_ALL, InjectionRequest(((API, REF),), AppContainers(("dapr", "web")))])
def test_sidecar_by_another_name_gets_nothing_and_a_warning(request_: InjectionRequest) -> None:
    found = build(pod(containers=[RENAMED, container()], init_containers=[{**RENAMED, "name": "d"}]), request_)

    assert [change.place.container for change in found.changes] == ["web"]
    assert found.warnings == (
        "container dapr runs daprd and has no token; name it daprd",
        "container d runs daprd and has no token; name it daprd",
    )


def test_sidecar_by_another_name_with_a_token_has_no_warning() -> None:
    found = build(pod(containers=[{**RENAMED, "env": [secret_env()]}]), FOR_ALL)

    assert (found.changes, found.warnings, found.has_target) == ((), (), False)
