"""Every body is answered with a review or an InjectorError; properties of every answer."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from injector.core import names
from injector.core.errors import PolicyGapError, ReviewError
from injector.core.model import Endpoint, Policy
from injector.core.review import decode
from tests.builders import Json, ask, asking, encode, literal_env, pod, response_of, review, sidecar, workload
from tests.property import strategies as some

if TYPE_CHECKING:
    from injector.core.admit import Admission

AUDIT_KEYS = {
    "injected-sidecar",
    "injected-app",
    "kept",
    "kept-app",
    "denied",
    "would-inject",
    "would-inject-app",
    "would-deny",
}
DENIALS = {"invalid-secret-name", "invalid-secret-key", "secret-not-allowed", "too-many-containers"}
VALID = (
    encode(review(pod(asking(app_containers="*", status="{}"), [sidecar(literal_env("x")), sidecar()]))),
    encode(review(workload(pod()))),
    encode(review(workload(pod(), "CronJob"), version="v1beta1", operation="UPDATE")),
)
# Members whose types matter, by a path from the review's root.
TYPED = (
    ("apiVersion",),
    ("kind",),
    ("request",),
    ("request", "uid"),
    ("request", "kind"),
    ("request", "kind", "kind"),
    ("request", "operation"),
    ("request", "object"),
    ("request", "object", "metadata"),
    ("request", "object", "metadata", "annotations"),
    ("request", "object", "metadata", "annotations", names.API_TOKEN_SECRET),
    ("request", "object", "spec"),
    ("request", "object", "spec", "containers"),
    ("request", "object", "spec", "containers", 0),
    ("request", "object", "spec", "containers", 0, "env"),
    ("request", "object", "spec", "containers", 0, "env", 0),
    ("request", "object", "spec", "containers", 0, "env", 0, "name"),
    ("request", "object", "spec", "containers", 0, "env", 0, "valueFrom"),
)


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A valid body in which a few bytes were changed, dropped, doubled or swapped."""
    body = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.integers(0, 8))
        match draw(st.sampled_from(("change", "drop", "double", "insert"))):
            case "change":
                body[start:end] = draw(st.binary(max_size=8))
            case "drop":
                del body[start:end]
            case "double":
                body[start:start] = body[start:end]
            case _:
                body[start:start] = draw(st.sampled_from((b"{", b"[", b'"', b"\\u", b"\xff", b"1e999", b"null", b",")))
    return bytes(body)


@st.composite
def wrongly_typed(draw: st.DrawFn) -> bytes:
    """A valid body in which members that matter are of other types, or absent."""
    question: Json = json.loads(draw(st.sampled_from(VALID)))
    for path in draw(st.lists(st.sampled_from(TYPED), min_size=1, max_size=3)):
        parent: Any = question
        try:
            for step in path[:-1]:
                parent = parent[step]
            if draw(st.booleans()):
                parent[path[-1]] = draw(some.json_values)
            else:
                del parent[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change removed the member
    return encode(question)


bodies = nearly_valid() | wrongly_typed()


def answer(body: bytes, endpoint: Endpoint, policy: Policy = Policy()) -> Admission | None:  # noqa: B008 - frozen
    """The answer, or None for a body that is rejected; any other exception is a bug."""
    try:
        return ask(body, policy, endpoint)
    except (ReviewError, PolicyGapError):
        return None


@given(st.binary(max_size=200), some.endpoints)
@example(b"", Endpoint.MUTATE)
@example(b"\xef\xbb\xbf{}", Endpoint.MUTATE)
def test_any_bytes_are_decoded_or_rejected(body: bytes, endpoint: Endpoint) -> None:
    with suppress(ReviewError):
        decode(body, endpoint)


@given(bodies, some.endpoints)
def test_damaged_reviews_are_answered_or_rejected(body: bytes, endpoint: Endpoint) -> None:
    admission = answer(body, endpoint)

    if admission is not None:
        assert json.loads(admission.body)["response"]["uid"] == admission.uid


@given(some.reviews(), some.policies, some.endpoints)
def test_response_has_the_uid_of_the_request(question: Json, policy: Policy, endpoint: Endpoint) -> None:
    admission = answer(encode(question), endpoint, policy)

    if admission is not None:
        answered = json.loads(admission.body)
        assert answered["response"]["uid"] == question["request"]["uid"]
        assert answered["apiVersion"] == question["apiVersion"]
        assert answered["kind"] == question["kind"]


@given(some.reviews(), some.policies, some.endpoints)
def test_valid_reviews_are_always_answered(question: Json, policy: Policy, endpoint: Endpoint) -> None:
    ask(question, policy, endpoint)


@given(some.reviews(), some.policies, some.endpoints)
def test_messages_are_printable_and_short(question: Json, policy: Policy, endpoint: Endpoint) -> None:
    response = response_of(ask(question, policy, endpoint))

    warnings = response.get("warnings", [])
    assert len(warnings) <= names.MAX_WARNINGS + names.MAX_PROBLEMS
    for warning in warnings:
        assert warning
        assert warning.isascii()
        assert warning.isprintable()
        assert len(warning) < 120
    audit = response.get("auditAnnotations", {})
    assert set(audit) <= AUDIT_KEYS
    for value in audit.values():
        assert value
        assert len(value) <= names.MAX_AUDIT_VALUE
    if "status" in response:
        message = response["status"]["message"]
        assert message.isascii()
        assert message.isprintable()


@given(some.reviews(), some.policies, some.endpoints)
def test_only_documented_reasons_deny(question: Json, policy: Policy, endpoint: Endpoint) -> None:
    admission = ask(question, policy, endpoint)
    response = response_of(admission)

    denied = admission.verdict == "deny"
    assert response["allowed"] is not denied
    assert ("status" in response) is denied
    assert ("patch" in response) is (admission.verdict == "inject")
    if denied:
        assert admission.reason in DENIALS
        assert response["status"]["reason"] == admission.reason
        assert response["status"]["code"] == (403 if admission.reason == "secret-not-allowed" else 422)
        assert not policy.shadow
        assert endpoint is not Endpoint.WARN


@given(some.workloads, some.policies)
def test_workload_is_allowed_and_never_patched(found: Json, policy: Policy) -> None:
    admission = ask(review(found), policy, Endpoint.WARN)

    response = response_of(admission)
    assert response["allowed"] is True
    assert "patch" not in response
    assert "auditAnnotations" not in response
