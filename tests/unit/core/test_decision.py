"""The verdicts inject, skip and deny, with the exact messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from injector.core import names
from injector.core.decision import Decision, Deny, Inject, Skip, audit, decide, decide_pod
from injector.core.errors import MalformedObjectError, PolicyGapError
from injector.core.model import Annotations, Conflict, Endpoint, ObjectMeta, Pod, Policy, Problem, Reason
from injector.core.review import decode
from tests.builders import (
    DEFAULT_POLICY,
    Json,
    asking,
    container,
    encode,
    literal_env,
    pod,
    review,
    secret_env,
    sidecar,
    workload,
)

MUTATE, DEFAULT, WARN = Endpoint.MUTATE, Endpoint.MUTATE_DEFAULT, Endpoint.WARN
SHADOW = Policy(shadow=True)
API = "DAPR_API_TOKEN"


def decided(
    found: Json | None,
    policy: Policy = DEFAULT_POLICY,
    endpoint: Endpoint = MUTATE,
    **request: Any,  # noqa: ANN401 - JSON of any shape
) -> Decision:
    """What becomes of a review of `found`."""
    return decide(decode(encode(review(found, **request)), endpoint), endpoint, policy)


def test_pod_is_injected() -> None:
    found = decided(pod())

    assert isinstance(found, Inject)
    assert found.reason is Reason.INJECTED
    assert found.warnings == ()
    assert audit(found) == {"injected-sidecar": "daprd/DAPR_API_TOKEN"}


@pytest.mark.parametrize(
    ("kind", "request_", "reason"),
    [
        ({"group": "", "version": "v1", "kind": "Service"}, {}, Reason.NOT_A_POD),
        ({"group": "apps", "version": "v1", "kind": "Pod"}, {}, Reason.NOT_A_POD),
        ({"group": "", "version": "v2", "kind": "Pod"}, {}, Reason.NOT_A_POD),
        ({"group": "", "version": "v1", "kind": "Pod"}, {"operation": "UPDATE"}, Reason.NOT_A_CREATE),
        ({"group": "", "version": "v1", "kind": "Pod"}, {"operation": "create"}, Reason.NOT_A_CREATE),
        ({"group": "", "version": "v1", "kind": "Pod"}, {"subResource": "status"}, Reason.NOT_A_CREATE),
    ],
)
def test_request_other_than_pod_creation_is_skipped(kind: Json, request_: Json, reason: Reason) -> None:
    assert decided(pod(), kind=kind, **request_) == Skip(reason)


def test_missing_pod_is_an_error() -> None:
    with pytest.raises(MalformedObjectError, match=r"^the review's request has no object$"):
        decided(None)
    with pytest.raises(MalformedObjectError, match=r"^the review's request has no object$"):
        decided(None, endpoint=WARN, kind={"group": "apps", "version": "v1", "kind": "Deployment"})


def test_default_endpoint_needs_a_default() -> None:
    with pytest.raises(PolicyGapError, match=r"^the policy has no defaultSecret, which the default endpoint needs$"):
        decided(pod(), endpoint=DEFAULT)
    # For any request: this is an error of the installation.
    with pytest.raises(PolicyGapError):
        decided(pod({}), endpoint=DEFAULT, operation="UPDATE")


def test_default_is_used_at_its_endpoint_only() -> None:
    policy = Policy(default_secret="d")
    silent = pod(asking(None))

    assert isinstance(decided(silent, policy, DEFAULT), Inject)
    assert decided(silent, policy, MUTATE) == Skip(Reason.NO_TOKEN_REQUESTED)


@pytest.mark.parametrize("found", [Pod(), Pod(ObjectMeta()), Pod(ObjectMeta(annotations=Annotations()))])
def test_pod_without_annotations_is_skipped(found: Pod) -> None:
    assert decide_pod(found, Policy(), use_default=True) == Skip(Reason.DAPR_NOT_ENABLED)


@pytest.mark.parametrize(
    ("annotations", "warnings"),
    [
        (asking() | {"dapr.io/enabled": "false"}, ()),
        (
            asking() | {"dapr.io/enabled": ""},
            ('a token is requested but dapr.io/enabled is missing; set it to "true"',),
        ),
        (
            asking() | {"dapr.io/enabled": "maybe"},
            ('a token is requested but dapr.io/enabled is not a true value; set it to "true"',),
        ),
        (
            {"dapr.io/api-token-secret": "A"},
            (
                'a token is requested but dapr.io/enabled is missing; set it to "true"',
                'dapr.io/api-token-secret: "A" is not a Secret name',
            ),
        ),
        ({"dapr.io/enabled": "maybe"}, ()),
        (
            {"dapr-token-injector/app-token-key": ".."},
            ('dapr-token-injector/app-token-key: ".." is not a key of a Secret',),
        ),
    ],
)
def test_pod_without_dapr_is_skipped_with_a_warning(annotations: Json, warnings: tuple[str, ...]) -> None:
    assert decided(pod(annotations), Policy(default_secret="d"), DEFAULT) == Skip(Reason.DAPR_NOT_ENABLED, warnings)


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([container()], Skip(Reason.NO_SIDECAR)),
        ([sidecar(secret_env())], Skip(Reason.UP_TO_DATE)),
        (
            [sidecar(literal_env("abc"))],
            Skip(
                Reason.KEPT,
                (f"{API} of container daprd is a value in clear text and was kept; use a Secret",),
                (("kept", "daprd/DAPR_API_TOKEN"),),
            ),
        ),
    ],
)
def test_pod_that_needs_no_change_is_skipped(containers: list[Json], expected: Skip) -> None:
    assert decided(pod(containers=containers)) == expected


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        (asking("A"), Reason.INVALID_SECRET_NAME),
        (asking(api_token_key=".."), Reason.INVALID_SECRET_KEY),
        (asking("x"), Reason.SECRET_NOT_ALLOWED),
        # The first problem gives the reason.
        (asking("x", app_token_secret="A"), Reason.SECRET_NOT_ALLOWED),
    ],
)
def test_invalid_annotations_are_denied(annotations: Json, reason: Reason) -> None:
    found = decided(pod(annotations | {"dapr.io/env": f"{API}=x"}), Policy(allowed_secrets=("s",)))

    assert isinstance(found, Deny)
    assert found.reason is reason
    assert found.warnings == (f"dapr.io/env sets {API} in clear text; it was not changed; use a Secret",)


@pytest.mark.parametrize(("more", "reason"), [(0, Reason.INJECTED), (1, Reason.TOO_MANY_CONTAINERS)])
def test_pod_with_more_containers_than_can_be_stored_is_denied(more: int, reason: Reason) -> None:
    apps = [{"name": "c"}] * (names.MAX_CONTAINERS - 2 + more)
    made = pod(asking(), [sidecar(), *apps])
    made["spec"]["initContainers"] = [{"name": "i"}]
    found = decided(made)

    assert found.reason is reason
    if isinstance(found, Deny):
        assert found.message == "the Pod has more than 16384 containers, which no cluster can store"
        assert audit(found) == {"denied": "too-many-containers:spec.containers"}


def test_kept_reference_off_the_list_is_denied_with_all_warnings() -> None:
    found = decided(
        pod(asking() | {"dapr.io/env": f"{API}=x"}, [sidecar(secret_env("t"))]), Policy(allowed_secrets=("s",))
    )

    assert isinstance(found, Deny)
    assert found.reason is Reason.SECRET_NOT_ALLOWED
    assert found.warnings == (
        f"dapr.io/env sets {API} in clear text; it was not changed; use a Secret",
        f"{API} of container daprd references a different Secret or key than the annotation; kept",
    )
    assert audit(found) == {"denied": "secret-not-allowed:dapr.io/api-token-secret"}


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (f"{API}=x", [API]),
        (f" A=1 , {API} = x=y", [API]),
        (f"APP_API_TOKEN=y,{API}=x", [API, "APP_API_TOKEN"]),
        (f"A={API}", []),
        (API, []),
        (f"X{API}=1", []),
        ("", []),
    ],
)
def test_tokens_in_dapr_env_annotation_are_warned(text: str, variables: list[str]) -> None:
    silent = decided(pod(asking(None) | {"dapr.io/env": text}))

    expected = tuple(f"dapr.io/env sets {name} in clear text; it was not changed; use a Secret" for name in variables)
    assert silent == Skip(Reason.NO_TOKEN_REQUESTED, expected)


def test_warnings_of_an_injection_are_ordered() -> None:
    found = decided(pod(asking(app_containers="x") | {"dapr.io/env": f"{API}=x"}, [sidecar(literal_env(""))]))

    assert isinstance(found, Inject)
    assert found.warnings == (
        f"dapr.io/env sets {API} in clear text; it was not changed; use a Secret",
        'no container is named "x"; the Pod has: ',
        f"{API} of container daprd was empty, which turns authentication off; replaced",
    )


@pytest.mark.parametrize(("unknown", "expected"), [(32, 32), (33, 33), (40, 33)])
def test_very_many_warnings_are_cut(unknown: int, expected: int) -> None:
    found = decided(pod(asking(app_containers=",".join(f"x{i}" for i in range(unknown)))))

    assert len(found.warnings) == expected
    if unknown > 32:
        assert found.warnings[31].startswith('no container is named "x31"')
        assert found.warnings[32] == f"and {unknown - 32} more warnings"


def test_audit_separates_targets_and_outcomes() -> None:
    found = decided(
        pod(
            asking(app_containers="web,worker", app_token_secret="t"),
            [container(env=[literal_env("x")]), sidecar(literal_env("y", "APP_API_TOKEN")), container("worker")],
        )
    )

    assert audit(found) == {
        "injected-sidecar": "daprd/DAPR_API_TOKEN",
        "injected-app": "worker/DAPR_API_TOKEN",
        "kept": "daprd/APP_API_TOKEN",
        "kept-app": "web/DAPR_API_TOKEN",
    }


def test_very_long_audit_values_are_cut() -> None:
    exact = decided(pod(asking(app_containers="*"), [container("x" * 1009)]))
    longer = decided(pod(asking(app_containers="*"), [container("x" * 1010)]))

    assert audit(exact) == {"injected-app": "x" * 1009 + "/DAPR_API_TOKEN"}
    assert audit(longer) == {"injected-app": "x" * 1010 + "/DAPR_API_T" + "..."}


def test_skip_of_an_unrelated_object_has_no_audit() -> None:
    assert audit(Skip(Reason.NOT_A_POD)) == {}


def _problems(count: int) -> tuple[Problem, ...]:
    return tuple(Problem(f"a{i}", Reason.INVALID_SECRET_NAME, f"m{i}", f"b{i}") for i in range(count))


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "m0"),
        (2, "m0; m1"),
        (16, "; ".join(f"m{i}" for i in range(16))),
        (17, "; ".join([*(f"m{i}" for i in range(16)), "and 1 more"])),
        (20, "; ".join([*(f"m{i}" for i in range(16)), "and 4 more"])),
    ],
)
def test_message_has_the_first_problems_and_the_count_of_others(count: int, message: str) -> None:
    assert Deny(Reason.INVALID_SECRET_NAME, _problems(count)).message == message


def test_audit_of_a_denial_has_reason_and_annotation_of_each() -> None:
    assert audit(Deny(Reason.INVALID_SECRET_NAME, _problems(2))) == {
        "denied": "invalid-secret-name:a0,invalid-secret-name:a1"
    }


def test_shadow_mode_reports_the_injection() -> None:
    found = decided(
        pod(
            asking(app_containers="web") | {"dapr.io/env": f"{API}=x"},
            [container(), sidecar(), sidecar(literal_env("x"))],
        ),
        SHADOW,
    )

    assert found == Skip(
        Reason.WOULD_INJECT,
        (
            "shadow mode: would inject daprd/DAPR_API_TOKEN",
            f"dapr.io/env sets {API} in clear text; it was not changed; use a Secret",
            f"{API} of container daprd is a value in clear text and was kept; use a Secret",
            f"{API} not given to container web: its sidecar's value cannot be referenced",
        ),
        (("would-inject", "daprd/DAPR_API_TOKEN"), ("kept", "daprd/DAPR_API_TOKEN")),
    )


def test_shadow_mode_reports_app_containers_separately() -> None:
    assert audit(decided(pod(asking(app_containers="web"), [container()]), SHADOW)) == {
        "would-inject-app": "web/DAPR_API_TOKEN"
    }


def test_shadow_mode_reports_the_denial() -> None:
    found = decided(pod(asking("A", api_token_key="..") | {"dapr.io/env": f"{API}=x"}), SHADOW)

    assert found == Skip(
        Reason.WOULD_DENY,
        (
            'shadow mode: would deny: dapr.io/api-token-secret: "A" is not a Secret name',
            'shadow mode: would deny: dapr-token-injector/api-token-key: ".." is not a key of a Secret',
            f"dapr.io/env sets {API} in clear text; it was not changed; use a Secret",
        ),
        (
            (
                "would-deny",
                "invalid-secret-name:dapr.io/api-token-secret,invalid-secret-key:dapr-token-injector/api-token-key",
            ),
        ),
    )


def test_shadow_mode_cuts_very_many_warnings() -> None:
    found = decided(
        pod(containers=[sidecar(secret_env(f"t{i}")) for i in range(40)]),
        Policy(shadow=True, allowed_secrets=("s",)),
    )

    assert found.reason is Reason.WOULD_DENY
    assert len(found.warnings) == 33


@pytest.mark.parametrize("found", [pod({}), pod(containers=[container()]), pod(containers=[sidecar(secret_env())])])
def test_shadow_mode_changes_no_skip(found: Json) -> None:
    assert decided(found, SHADOW) == decided(found)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_valid_workload_has_no_warning(kind: str, operation: str) -> None:
    assert decided(workload(pod(), kind), endpoint=WARN, operation=operation) == Skip(Reason.REVIEWED)


@pytest.mark.parametrize(
    ("found", "request_"),
    [
        (pod(asking("A")), {}),
        (workload(pod(asking("A")), "Widget"), {}),
        (workload(pod(asking("A"))), {"operation": "DELETE"}),
        (workload(pod(asking("A"))), {"subResource": "scale"}),
    ],
)
def test_unknown_kind_is_skipped(found: Json, request_: Json) -> None:
    assert decided(found, endpoint=WARN, **request_) == Skip(Reason.NOT_A_WORKLOAD)


@pytest.mark.parametrize("bare", [{"spec": {}}, {}, {"metadata": None, "spec": None}, {"spec": {"template": {}}}])
def test_workload_without_a_template_has_no_warning(bare: Json) -> None:
    assert decided({"apiVersion": "apps/v1", "kind": "Deployment", **bare}, endpoint=WARN) == Skip(Reason.REVIEWED)


BLANK = "dapr.io/api-token-secret is blank, which counts as absent; name a Secret or remove it"


@pytest.mark.parametrize(
    ("own", "template", "annotations"),
    [
        ({"dapr.io/api-token-secret": "s"}, asking(None), ["dapr.io/api-token-secret"]),
        ({"dapr.io/app-token-secret": "s"}, asking(None), ["dapr.io/app-token-secret"]),
        (
            {"dapr.io/app-token-secret": "s", "dapr.io/api-token-secret": "s"},
            {},
            ["dapr.io/api-token-secret", "dapr.io/app-token-secret"],
        ),
        ({"dapr.io/api-token-secret": "s"}, asking(" "), ["dapr.io/api-token-secret"]),
        ({"dapr.io/api-token-secret": " "}, asking(None), []),
        ({"dapr.io/api-token-secret": "s"}, asking("t"), []),
        ({"dapr-token-injector/api-token-key": "s"}, {}, []),
    ],
)
def test_misplaced_annotation_is_warned(own: Json, template: Json, annotations: list[str]) -> None:
    found = decided(workload(pod(template), "StatefulSet", annotations=own), endpoint=WARN)

    assert found.warnings == tuple(
        f"{annotation} is on the StatefulSet and not on its Pod template: the Pods will not have it"
        for annotation in annotations
    ) + (BLANK,) * (" " in template.values())


def test_unknown_annotation_of_workload_and_template_is_warned_once() -> None:
    template = asking() | {"dapr.io/enable": "true", "dapr.io/app-id": "web", "example.com/enable": "true"}
    own = {"dapr.io/enable": "x", "dapr-token-injector/y": "x"}
    found = decided(workload(pod(template), annotations=own), endpoint=WARN)

    assert found == Skip(
        Reason.REVIEWED,
        (
            'unknown annotation: "dapr.io/enable"; did you mean dapr.io/enabled?',
            'unknown annotation: "dapr-token-injector/y"',
        ),
    )


def test_many_unknown_annotations_get_a_few_warnings() -> None:
    found = decided(workload(pod(asking() | {f"dapr.io/unknown-{i}": "x" for i in range(2000)})), endpoint=WARN)

    assert len(found.warnings) == names.MAX_WARNINGS + 1
    assert found.warnings[-1] == f"and {2000 - names.MAX_WARNINGS} more warnings"


@pytest.mark.parametrize("where", ["workload", "template"])
def test_read_annotation_of_workload_must_be_text(where: str) -> None:
    def review_of(wrong: Json) -> Decision:
        own = wrong if where == "workload" else {}
        template = wrong if where == "template" else {}
        return decided(workload(pod(template), annotations=own), endpoint=WARN)

    assert review_of({"dapr.io/app-port": 8080, "example.com/a": [{}], "b": None}) == Skip(Reason.REVIEWED)
    with pytest.raises(MalformedObjectError):
        review_of({"dapr.io/enabled": True})


def test_denial_of_the_pods_is_the_first_warning() -> None:
    template = pod(asking("A", api_token_key="..") | {"dapr.io/env": f"{API}=x"})

    found = decided(workload(template, annotations={"dapr.io/app-token-secret": "s"}), endpoint=WARN)

    assert found.warnings == (
        "dapr.io/app-token-secret is on the Deployment and not on its Pod template: the Pods will not have it",
        'Pods will be denied: dapr.io/api-token-secret: "A" is not a Secret name',
        'Pods will be denied: dapr-token-injector/api-token-key: ".." is not a key of a Secret',
        f"dapr.io/env sets {API} in clear text; it was not changed; use a Secret",
    )


def test_workload_in_shadow_mode_has_no_denial_warning() -> None:
    found = decided(workload(pod(asking("A"))), SHADOW, WARN)

    assert found == Skip(
        Reason.REVIEWED, ('shadow mode: would deny: dapr.io/api-token-secret: "A" is not a Secret name',)
    )


def test_default_secret_is_not_assumed_for_a_workload() -> None:
    template = pod(asking(None), [sidecar(literal_env("abc"))])

    assert decided(workload(template), Policy(default_secret="d"), WARN) == Skip(Reason.REVIEWED)


def test_number_of_workload_warnings_is_bounded() -> None:
    template = pod(asking(app_containers=",".join(f"x{i}" for i in range(40))))

    found = decided(workload(template, annotations={"dapr.io/app-token-secret": "s"}), endpoint=WARN)

    # The template's own 33, the last of which says "and 8 more", and one for the annotation.
    assert len(found.warnings) == 33
    assert found.warnings[-1] == "and 2 more warnings"


def test_policy_decides_about_conflicts() -> None:
    found = pod(containers=[sidecar(literal_env("abc"))])

    assert isinstance(decided(found, Policy(conflict=Conflict.REPLACE)), Inject)
    assert isinstance(decided(found, Policy(conflict=Conflict.KEEP)), Skip)


def test_result_is_plain_json() -> None:
    assert json.loads(json.dumps(audit(decided(pod())))) == audit(decided(pod()))
