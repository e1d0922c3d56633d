"""The checks of admission, against the store of the fake API server: its `admitted` stands for the webhook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.check import canary
from injector.check.catalogue import BY_WORD
from injector.check.model import Outcome, Result
from injector.check.reader import ClusterReader, Expectations
from injector.check.runner import run
from injector.kube.errors import ForbiddenError, Refusal, UnauthorizedError, UnavailableError
from tests.fake_cluster import store
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import Store
from tests.unit.check.checking import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource

Json = dict[str, Any]
TOKEN: Final = "DAPR_API_TOKEN"
GUARD: Final = "dapr-token-injector-guard"
REQUESTED: Final = "dapr-token-injector-requested"
LABEL: Final = "dapr-token-injector/guard"
ENTRY: Final = "inject.dapr-token-injector.svc"


def reference(secret: str = "dapr-api-token", key: str = "token", **more: object) -> Json:
    return {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **more}}}


def cluster(entry: Json | None = None, labels: dict[str, str] | None = None, namespace: str = "default") -> Store:
    """A cluster with one namespace, whose admission adds a variable to `daprd` if the Pod uses Dapr."""

    def admitted(pod: Json) -> Json:
        if entry is not None and pod["metadata"].get("annotations"):
            pod["spec"]["containers"][0]["env"] = [entry]
        return pod

    found = Store(admitted=admitted)
    found.put("namespaces", {"metadata": {"name": namespace, "labels": labels or {}}})
    return found


def found_by(name: str, api: StoreApi, wanted: Expectations | None = None, installation: str | None = "d") -> Outcome:
    async def within() -> Outcome:
        (finding,) = await run([BY_WORD[name]], ClusterReader(api, installation, NOW, wanted))
        return finding.outcome

    return asyncio.run(within())


def injects(found: Store, wanted: Expectations | None = None) -> Outcome:
    return found_by("injects", StoreApi(found), wanted)


def message(outcome: Outcome) -> str:
    (problem,) = outcome.problems
    return problem.message


def test_pod_with_its_token_passes() -> None:
    outcome = injects(cluster(reference()))

    assert (outcome.result, outcome.problems) == (Result.PASSED, ())
    assert outcome.seen == "a Pod as a dry run in namespace default comes back with its token"


def test_nothing_is_stored_and_only_the_pod_is_sent() -> None:
    found = cluster(reference())

    injects(found)

    assert dict(found.counted()) == {"POST pods": 1}
    assert "dryRun=All" in found.calls[0]
    assert [key for key in found.objects if key[0] == "pods"] == []


def test_pod_meets_restricted_and_names_its_secret() -> None:
    pod = canary.pod("shop", {"a": "b"})

    assert pod["metadata"]["generateName"] == "dapr-token-injector-canary-"
    assert (pod["metadata"]["namespace"], pod["metadata"]["annotations"]) == ("shop", {"a": "b"})
    assert [one["name"] for one in pod["spec"]["containers"]] == ["daprd"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize(
    ("entry", "wanted", "result", "words"),
    [
        (reference(key="other"), Expectations(), Result.PASSED, ""),
        (reference("x", "k"), Expectations(secret="x", key="k"), Result.PASSED, ""),
        (reference("x", "k"), Expectations(secret="x", key="other"), Result.FAILED, "reference to Secret x, key other"),
        (reference("y"), Expectations(secret="x"), Result.FAILED, "(other-reference)"),
        (reference(optional=True), Expectations(), Result.FAILED, "(optional-reference)"),
        ({"name": TOKEN, "value": "literal"}, Expectations(), Result.FAILED, "(literal)"),
        ({"name": TOKEN, "value": ""}, Expectations(), Result.FAILED, "(empty-value)"),
        ({"name": TOKEN, "valueFrom": 1}, Expectations(), Result.UNKNOWN, "cannot be determined (malformed)"),
        (None, Expectations(), Result.FAILED, "no MutatingWebhookConfiguration of dapr-token-injector"),
    ],
)
def test_answer_decides(entry: Json | None, wanted: Expectations, result: Result, words: str) -> None:
    outcome = injects(cluster(entry), wanted)

    assert outcome.result is result
    if words:
        assert words in message(outcome)
        assert "literal" not in message(outcome).replace("(literal)", "")


@pytest.mark.parametrize(
    ("policy", "words"), [("Ignore", "failurePolicy Ignore"), ("Fail", "do not match these Pods, or the webhook's")]
)
def test_registration_shows_why_the_webhook_did_not_inject(policy: str, words: str) -> None:
    found = cluster()
    entries = [{"name": ENTRY, "failurePolicy": policy}]
    found.put("mutatingwebhookconfigurations", {"metadata": {"name": "dapr-token-injector"}, "webhooks": entries})

    assert words in message(injects(found))


@pytest.mark.parametrize(
    ("warnings", "entry", "is_expected", "result", "words"),
    [
        (("shadow mode: would inject daprd/DAPR_API_TOKEN",), None, False, Result.FAILED, "is in shadow mode"),
        (("shadow mode: would inject daprd/DAPR_API_TOKEN",), None, True, Result.PASSED, ""),
        (
            ("other", "shadow mode: would inject daprd/DAPR_API_TOKEN"),
            reference(),
            True,
            Result.FAILED,
            "came back with",
        ),
        ((), None, True, Result.FAILED, "did not: no warning"),
        ((), reference(), True, Result.FAILED, "did not: no warning"),
        (("shadow mode: would deny: x",), None, True, Result.FAILED, "did not: shadow mode: would deny: x"),
        (("other",), reference(), False, Result.PASSED, ""),
    ],
)
def test_shadow_mode(
    warnings: tuple[str, ...],
    entry: Json | None,
    is_expected: bool,  # noqa: FBT001
    result: Result,
    words: str,
) -> None:
    api = StoreApi(cluster(entry))
    api.warnings = warnings

    outcome = found_by("injects", api, Expectations(is_shadow=is_expected))

    assert outcome.result is result
    if words:
        assert words in message(outcome)


@pytest.mark.parametrize(
    ("status", "text", "result", "words"),
    [
        (500, f'Internal error occurred: failed calling webhook "{ENTRY}": no', Result.FAILED, "does not answer"),
        (500, 'Internal error occurred: failed calling webhook "other.example": no', Result.UNKNOWN, "other.example"),
        (403, f'admission webhook "{ENTRY}" denied the request: x', Result.FAILED, "allows with --canary-secret"),
        (403, 'admission webhook "other.example" denied the request: x', Result.UNKNOWN, "other.example"),
        (403, f"pods \"c\" is forbidden: ValidatingAdmissionPolicy '{GUARD}' with binding 'b' denied request: x",
         Result.FAILED, "did not inject the token, and the guard denied"),
        (403, f"pods \"c\" is forbidden: ValidatingAdmissionPolicy '{REQUESTED}' with binding 'b' denied request: x",
         Result.FAILED, "did not inject the token, and the policy requested denied"),
        (403, "pods \"c\" is forbidden: ValidatingAdmissionPolicy 'other' with binding 'b' denied request: x",
         Result.UNKNOWN, "'other'"),
        (403, 'pods "c" is forbidden: exceeded quota: q', Result.UNKNOWN, "exceeded quota: q"),
        (403, 'pods is forbidden: User "u" cannot create', Result.UNKNOWN, "permission to create pods in namespace"),
        (404, 'namespaces "default" not found', Result.UNKNOWN, "not found"),
        (503, "", Result.UNKNOWN, "503"),
    ],
)  # fmt: skip
def test_refusal_decides(status: int, text: str, result: Result, words: str) -> None:
    found = cluster()
    found.refusals.append(store.Refusal("POST .*/pods", status, text))

    outcome = injects(found)

    assert outcome.result is result
    assert words in message(outcome)


@pytest.mark.parametrize(
    ("error", "result"), [(UnavailableError("create it"), Result.UNKNOWN), (UnauthorizedError("create it"), None)]
)
@pytest.mark.parametrize("name", ["injects", "guard-answers"])
def test_no_answer_is_unknown_and_rejected_credentials_end_the_run(
    name: str, error: KubeError, result: Result | None
) -> None:
    def fault(verb: str, _resource: Resource) -> KubeError | None:
        return error if verb == "create" else None

    api = StoreApi(with_guard("deny"), fault)

    if result is None:
        with pytest.raises(UnauthorizedError):
            found_by(name, api)
    else:
        assert found_by(name, api).result is result


def test_namespace_depends_on_that_of_the_installation() -> None:
    found = cluster(reference(), namespace="kube-public")

    assert found_by("injects", StoreApi(found), installation="default").result is Result.PASSED
    assert found_by("injects", StoreApi(found), Expectations(namespace="kube-public")).result is Result.PASSED
    assert found_by("injects", StoreApi(found)).result is Result.UNKNOWN


# --- the default Secret ---

DEFAULT: Final = {"dapr-token-injector/inject-default": "enabled"}


def test_default_is_skipped_without_labelled_namespace() -> None:
    outcome = found_by("injects-default", StoreApi(cluster()))

    assert outcome.result is Result.SKIPPED


@pytest.mark.parametrize(
    ("entry", "result"),
    [
        (reference("any"), Result.PASSED),
        (reference("any", optional=True), Result.FAILED),
        (None, Result.FAILED),
    ],
)
def test_default_secret_is_expected(entry: Json | None, result: Result) -> None:
    assert found_by("injects-default", StoreApi(cluster(entry, DEFAULT, "team"))).result is result


@pytest.mark.parametrize(("wanted", "chosen"), [(None, "a"), ("b", "b"), ("c", "a"), ("ending", "a")])
def test_default_is_checked_in_a_labelled_namespace(wanted: str | None, chosen: str) -> None:
    found = cluster(reference(), DEFAULT, "b")
    found.put("namespaces", {"metadata": {"name": "a", "labels": DEFAULT}})
    found.put("namespaces", {"metadata": {"name": "c"}})
    found.put("namespaces", {"metadata": {"name": "ending", "labels": DEFAULT, "deletionTimestamp": "t"}})

    outcome = found_by("injects-default", StoreApi(found), Expectations(namespace=wanted))

    assert f"in namespace {chosen} " in outcome.seen


# --- the guard ---


def binding(action: str, *actions: str) -> Json:
    """One of the chart, by the word of its label; without a word for other namespaces."""
    rule = {"key": LABEL, "operator": "In", "values": [action]}
    if not action:
        rule = {"key": LABEL, "operator": "NotIn", "values": ["off", "audit", "warn", "deny"]}
    excluded = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}
    selector = {"matchExpressions": [excluded, rule]}
    spec = {"policyName": GUARD, "validationActions": actions, "matchResources": {"namespaceSelector": selector}}
    return {"metadata": {"name": f"{GUARD}-{action}"}, "spec": spec}


CHART: Final = (
    binding("", "Audit"), binding("audit", "Audit"), binding("warn", "Warn", "Audit"), binding("deny", "Deny", "Audit"),
)  # fmt: skip


def with_guard(
    label: str, *, policy: bool = True, bindings: tuple[Json, ...] = CHART, namespace: str = "default"
) -> Store:
    found = cluster(namespace=namespace, labels={LABEL: label} if label else {})
    if policy:
        found.put("validatingadmissionpolicies", {"metadata": {"name": GUARD}})
    for one in (*bindings, {"metadata": {"name": "foreign"}, "spec": {"policyName": "other"}}):
        found.put("validatingadmissionpolicybindings", {**one, "metadata": dict(one["metadata"])})
    return found


def guard_answers(found: Store, answer: str = "through", namespace: str = "default") -> Outcome:
    if answer == "deny":
        text = f"pods \"c\" is forbidden: ValidatingAdmissionPolicy '{GUARD}' with binding 'b' denied request: x"
        found.refusals.append(store.Refusal("POST .*/pods", 403, text))
    api = StoreApi(found)
    if answer == "warn":
        api.warnings = (f"Validation failed for ValidatingAdmissionPolicy '{GUARD}' with binding 'b': x",)
    return found_by("guard-answers", api, Expectations(namespace=namespace))


def test_guard_is_skipped_if_it_is_not_installed() -> None:
    assert guard_answers(with_guard("", policy=False, bindings=())).result is Result.SKIPPED


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("", "through"),
        ("audit", "through"),
        ("off", "through"),
        ("other", "through"),
        ("warn", "warn"),
        ("deny", "deny"),
    ],
)
def test_guard_that_acts_as_configured_passes(label: str, answer: str) -> None:
    outcome = guard_answers(with_guard(label), answer)

    assert (outcome.result, outcome.problems) == (Result.PASSED, ())


@pytest.mark.parametrize(("label", "answer"), [("", "warn"), ("off", "deny"), ("warn", "through"), ("deny", "warn")])
def test_guard_that_acts_otherwise_fails(label: str, answer: str) -> None:
    outcome = guard_answers(with_guard(label), answer)

    assert outcome.result is Result.FAILED
    assert "the guard's bindings say" in message(outcome)


@pytest.mark.parametrize(
    ("found", "result", "words"),
    [
        (with_guard("deny", policy=False), Result.FAILED, "does not exist"),
        (with_guard("deny", bindings=()), Result.FAILED, "has no binding"),
        (with_guard("deny", bindings=CHART[:3]), Result.FAILED, "do not do that (none matches)"),
        (with_guard("deny", bindings=(binding("deny", "Audit"),)), Result.WARNING, "do not do that (Audit)"),
        (with_guard("warn", bindings=(binding("warn", "Audit"),)), Result.FAILED, "do not do that (Audit)"),
    ],
)
def test_guard_that_is_not_in_force_fails(found: Store, result: Result, words: str) -> None:
    outcome = guard_answers(found)

    assert outcome.result is result
    assert words in message(outcome)


def test_label_has_no_effect_in_an_excluded_namespace() -> None:
    found = with_guard("deny", namespace="kube-system")

    assert guard_answers(found, namespace="kube-system").result is Result.PASSED


def test_missing_namespace_is_unknown() -> None:
    assert "namespace none does not exist" in message(guard_answers(with_guard(""), namespace="none"))


def test_guard_that_cannot_be_read_is_unknown() -> None:
    def fault(verb: str, resource: Resource) -> KubeError | None:
        is_guard = resource.plural == "validatingadmissionpolicies"
        return ForbiddenError(f"{verb} it", Refusal(403)) if is_guard else None

    assert found_by("guard-answers", StoreApi(with_guard("deny"), fault)).result is Result.UNKNOWN


def test_other_rule_that_rejects_the_pod_of_the_guard_is_unknown() -> None:
    found = with_guard("deny")
    found.refusals.append(store.Refusal("POST .*/pods", 403, 'pods "c" is forbidden: exceeded quota: q'))

    assert guard_answers(found).result is Result.UNKNOWN


def test_warning_of_another_policy_is_not_of_the_guard() -> None:
    api = StoreApi(with_guard(""))
    api.warnings = ("Validation failed for ValidatingAdmissionPolicy 'other' with binding 'b': x",)

    assert found_by("guard-answers", api).result is Result.PASSED


@pytest.mark.parametrize("install", [cluster, lambda: with_guard("deny")])
def test_checks_leave_the_cluster_as_it_is(install: Callable[[], Store]) -> None:
    found = install()
    before = dict(found.objects)

    for name in ("injects", "injects-default", "guard-answers"):
        found_by(name, StoreApi(found))

    assert found.objects == before
