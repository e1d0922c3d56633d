"""The output of `explain`, which agrees with the decision."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest

from injector.core import review
from injector.core.decision import decide
from injector.core.explain import AppliedRule, RuleName, explain
from injector.core.model import AppContainers, Conflict, Endpoint, Pod, Policy, Reason, SealMode

ASKED = {"dapr.io/enabled": "true", "dapr.io/api-token-secret": "s"}


def rows(
    annotations: dict[str, Any] | None,
    *containers: dict[str, Any],
    policy: Policy | None = None,
    endpoint: Endpoint = Endpoint.MUTATE,
    spec: dict[str, Any] | None = None,
) -> tuple[AppliedRule, ...]:
    """The rows for one Pod."""
    policy = policy or Policy()
    pod = {"metadata": {"annotations": annotations}, "spec": spec or {"containers": list(containers)}}
    if annotations is None:
        pod = {}
    request = {"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "object": pod}
    body = msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    asked = review.decode(body, endpoint)
    assert isinstance(asked.request.object, Pod)
    read_spec = partial(review.sealing_spec, body, endpoint)
    decided = decide(asked, endpoint, policy, read_spec)
    explanation = explain(asked.request.object, decided, policy, endpoint, read_spec)
    assert explanation[-1].rule is RuleName.DECISION
    assert explanation[-1].reason is decided.reason
    return explanation


def explained(rule: RuleName, found: tuple[AppliedRule, ...]) -> list[tuple[str, str, str, Reason | None]]:
    """The rows of one rule."""
    return [(row.subject, row.value, row.outcome, row.reason) for row in found if row.rule is rule]


def daprd(*env: dict[str, Any]) -> dict[str, Any]:
    return {"name": "daprd", "env": list(env)}


def ref(name: str, key: str = "token", **more: bool) -> dict[str, Any]:
    return {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


@pytest.mark.parametrize(
    ("word", "value", "outcome"),
    [
        (None, "absent", "absent: the Pod does not use Dapr"),
        ("no", '"no"', "false: the Pod does not use Dapr"),
        ("enabled", '"enabled"', "neither true nor false: Dapr treats it as false"),
    ],
)
def test_explain_ends_at_pod_without_dapr(word: str | None, value: str, outcome: str) -> None:
    found = rows({} if word is None else {"dapr.io/enabled": word}, daprd())
    assert explained(RuleName.USES_DAPR, found) == [("dapr.io/enabled", value, outcome, Reason.DAPR_NOT_ENABLED)]
    assert explained(RuleName.DECISION, found) == [("skip", "", "the Pod is not changed", Reason.DAPR_NOT_ENABLED)]
    assert len(found) == 2


def test_explain_empty_pod() -> None:
    assert explained(RuleName.USES_DAPR, rows(None))[0][3] is Reason.DAPR_NOT_ENABLED


def test_explain_reports_no_requested_token() -> None:
    found = rows({"dapr.io/enabled": "true", "dapr.io/api-token-secret": " "}, daprd())
    assert explained(RuleName.WELL_FORMED, found) == [("dapr.io/api-token-secret", '" "', "empty: as if absent", None)]
    assert explained(RuleName.REQUESTS_TOKEN, found)[0][3] is Reason.NO_TOKEN_REQUESTED


def test_explain_reports_malformed_values_without_tokens() -> None:
    pasted = "eyJhbGciOiJIUzI1NiJ9"
    found = rows(
        {"dapr.io/enabled": "true", "dapr.io/api-token-secret": pasted, "dapr-token-injector/api-token-key": "a/b"},
        daprd(),
    )
    assert [row[3] for row in explained(RuleName.WELL_FORMED, found)] == [
        Reason.INVALID_SECRET_NAME,
        Reason.INVALID_SECRET_KEY,
    ]
    assert explained(RuleName.DECISION, found) == [("deny", "", "the Pod is rejected", Reason.INVALID_SECRET_NAME)]
    assert pasted not in str(found)


def test_explain_reports_the_action_for_each_variable() -> None:
    apps = {**ASKED, "dapr-token-injector/app-containers": "*"}
    literal = {"name": "DAPR_API_TOKEN", "value": "hidden"}
    empty = {"name": "DAPR_API_TOKEN", "value": ""}
    field = {"name": "DAPR_API_TOKEN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    found = rows(
        apps,
        daprd(ref("s")),
        {"name": "a"},
        {"name": "b", "env": [empty]},
        {"name": "c", "env": [literal]},
        {"name": "d", "env": [ref("o", "k")]},
        {"name": "e", "env": [ref("o", "k", optional=True)]},
        {"name": "f", "env": [field]},
        {"name": "g", "env": [{**literal, "value": "$(UNSET)"}]},
    )
    assert explained(RuleName.VARIABLE, found) == [
        ('"a" DAPR_API_TOKEN', "absent", 'added: Secret "s", key "token"', None),
        ('"b" DAPR_API_TOKEN', "empty", 'replaced: Secret "s", key "token"', None),
        ('"e" DAPR_API_TOKEN', 'Secret "o", key "k", optional', 'replaced: Secret "s", key "token"', None),
        ('"c" DAPR_API_TOKEN', "a value in clear text", "kept", None),
        ('"d" DAPR_API_TOKEN', 'Secret "o", key "k"', "kept", None),
        ('"f" DAPR_API_TOKEN', "a reference", "kept", None),
        ('"g" DAPR_API_TOKEN', "a reference to an unset variable", "kept", None),
        ('"daprd" DAPR_API_TOKEN', 'Secret "s", key "token"', "already as requested", None),
    ]
    assert explained(RuleName.APP_CONTAINERS, found)[0][1:3] == ('"*"', "all except infrastructure containers")
    assert explained(RuleName.DECISION, found) == [("inject", "", "3 to change", Reason.INJECTED)]
    assert "hidden" not in str(found)


def test_explain_distinguishes_config_map_and_secret() -> None:
    source = {"name": "DAPR_API_TOKEN", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
    found = rows(ASKED, daprd(source))
    assert explained(RuleName.VARIABLE, found)[0][1:3] == ('ConfigMap "c", key "k"', "kept")


def test_explain_reports_a_reference_through_another_variable() -> None:
    other = {**ref("t"), "name": "X"}
    found = rows(ASKED, daprd(other, {"name": "DAPR_API_TOKEN", "value": "$(X)"}))

    value = 'Secret "t", key "token", through another variable'
    assert explained(RuleName.VARIABLE, found) == [('"daprd" DAPR_API_TOKEN', value, "kept", None)]


def test_explain_reports_a_sidecar_by_another_name() -> None:
    found = rows(ASKED, {"name": "dapr", "image": "daprio/daprd"})

    outcome = "runs daprd under another name: neither a sidecar nor an app"
    assert explained(RuleName.VARIABLE, found)[1:] == [('"dapr" DAPR_API_TOKEN', "absent", outcome, None)]
    assert explained(RuleName.VARIABLE, rows(ASKED, spec={}))[1:] == []


def test_explain_names_what_dapr_takes_from_secrets() -> None:
    found = rows({"dapr.io/enabled": "true", "dapr.io/env-from-secret": "DAPR_API_TOKEN=s:k,APP_API_TOKEN=t"})

    outcome = "dapr.io/env-from-secret: Dapr sets it in daprd only"
    assert explained(RuleName.REQUESTS_TOKEN, found) == [
        ("DAPR_API_TOKEN", 'Secret "s", key "k"', outcome, None),
        ("APP_API_TOKEN", 'Secret "t", key "t"', outcome, None),
        ("dapr.io/api-token-secret", "absent", "no token is requested", Reason.NO_TOKEN_REQUESTED),
    ]


def test_explain_reports_a_missing_sidecar() -> None:
    found = rows(ASKED, {"name": "web"})
    assert explained(RuleName.VARIABLE, found) == [
        ("daprd", '"web"', "no sidecar here: Dapr adds it at admission", Reason.NO_SIDECAR)
    ]
    assert explained(RuleName.VARIABLE, rows(ASKED, spec={"containers": None}))[0][1] == "no containers"
    pod_without_spec = rows({**ASKED}, spec={"initContainers": [{"name": "a"}]})
    assert explained(RuleName.VARIABLE, pod_without_spec)[0][1] == '"a"'


def test_explain_reports_policy_defaults() -> None:
    policy = Policy(
        default_secret="d", default_app_containers=AppContainers(("web",), from_pod=False), conflict=Conflict.REPLACE
    )
    found = rows({"dapr.io/enabled": "true"}, daprd(), policy=policy, endpoint=Endpoint.MUTATE_DEFAULT)
    assert explained(RuleName.REQUESTS_TOKEN, found) == [
        ("DAPR_API_TOKEN", 'Secret "d", key "token"', "will be set in the sidecar", None)
    ]
    assert explained(RuleName.APP_CONTAINERS, found) == [
        ("dapr-token-injector/app-containers", "absent", '"web"', None)
    ]


def test_explain_reports_a_kept_reference_off_the_list() -> None:
    found = rows(ASKED, daprd(ref("o")), policy=Policy(allowed_secrets=("s",)))
    assert [row[3] for row in explained(RuleName.ALLOWED_SECRET, found)] == [Reason.SECRET_NOT_ALLOWED]
    assert explained(RuleName.DECISION, found)[0][3] is Reason.SECRET_NOT_ALLOWED


@pytest.mark.parametrize(
    ("secret", "reason"), [("s", Reason.WOULD_INJECT), ("My_Secret", Reason.WOULD_DENY)], ids=["inject", "deny"]
)
def test_explain_reports_shadow_mode(secret: str, reason: Reason) -> None:
    found = rows({**ASKED, "dapr.io/api-token-secret": secret}, daprd(), policy=Policy(shadow=True))
    assert explained(RuleName.SHADOW_MODE, found) == [("shadow", "true", "reported, not applied", reason)]


def test_explain_omits_shadow_mode_without_effect() -> None:
    assert not explained(RuleName.SHADOW_MODE, rows({}, daprd(), policy=Policy(shadow=True)))


# --- sealing ---

SEALING = Policy(seal=SealMode.ALWAYS, seal_image="registry/seal")


def sealing(
    *containers: dict[str, Any],
    policy: Policy = SEALING,
    seal: str | None = None,
    spec: dict[str, Any] | None = None,
) -> list[tuple[str, str, str, Reason | None]]:
    """The row about sealing, and those about variables."""
    annotations = ASKED if seal is None else {**ASKED, "dapr-token-injector/seal": seal}
    found = rows(annotations, policy=policy, spec={"containers": list(containers), **(spec or {})})
    return explained(RuleName.SEAL, found) + explained(RuleName.VARIABLE, found)


def test_pod_that_will_be_sealed_says_so_for_each_container() -> None:
    assert sealing(daprd()) == [
        ("dapr-token-injector/seal", "absent", "sealed: a volume and two init containers are added", None),
        ('"daprd" DAPR_API_TOKEN', "absent", 'added: Secret "s", key "token", sealed', None),
    ]


def test_sealed_pod_needs_no_change() -> None:
    file = {"volumeName": "dapr-token-injector-seal", "path": "tokens.env", "key": "DAPR_API_TOKEN"}
    read = {"name": "DAPR_API_TOKEN", "valueFrom": {"fileKeyRef": file}}
    mount = {"name": "dapr-token-injector-seal", "mountPath": "/dapr-token-injector/seal"}
    command = ["dapr-token-injector", "seal"]
    first = {"name": "dapr-token-injector-seal", "command": command, "env": [ref("s")], "volumeMounts": [mount]}
    check = {"name": "dapr-token-injector-seal-check", "command": [*command, "--check"], "env": [read]}
    own = {
        "initContainers": [{**one, "args": ["DAPR_API_TOKEN"]} for one in (first, check)],
        "volumes": [{"name": "dapr-token-injector-seal", "emptyDir": {"medium": "Memory"}}],
    }
    assert sealing(daprd(read), policy=Policy(), spec=own) == [
        ("dapr-token-injector/seal", "absent", "sealed already", None),
        ('"daprd" DAPR_API_TOKEN', 'Secret "s", key "token", sealed', "already as requested", None),
    ]
    assert sealing(daprd(read), policy=Policy())[1][1:3] == ("a file", "kept")


@pytest.mark.parametrize(
    ("policy", "word", "value", "outcome"),
    [
        (Policy(), None, "absent", "not requested (the policy has seal: on-request)"),
        (SEALING, "false", '"false"', "not requested (the policy has seal: always)"),
        (Policy(), "true", '"true"', "not sealed: the policy has no sealImage; ask the owner of the cluster to set it"),
    ],
)
def test_pod_that_is_not_sealed_says_why(policy: Policy, word: str | None, value: str, outcome: str) -> None:
    assert sealing(daprd(), policy=policy, seal=word)[0][1:3] == (value, outcome)


@pytest.mark.parametrize(
    ("policy", "word", "words"),
    [(Policy(seal=SealMode.OFF), "true", "(seal: off)"), (SEALING, "maybe", "is neither true nor false")],
)
def test_annotation_about_sealing_that_does_nothing_is_explained(policy: Policy, word: str, words: str) -> None:
    assert words in sealing(daprd(), policy=policy, seal=word)[0][2]


def test_pod_is_not_sealed_before_its_sidecar_is_there() -> None:
    outcome = "not sealed until the sidecar is there: Dapr adds it at admission"
    assert sealing({"name": "web"})[0][2] == outcome
