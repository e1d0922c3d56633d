"""No output contains a part of a token pasted anywhere in a review, except the reference itself."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from injector.core.admit import Admission, respond
from injector.core.decision import Deny, Skip
from injector.core.env import env_of
from injector.core.errors import NotAReviewError, PolicyGapError, ReviewError
from injector.core.messages import redact
from injector.core.model import (
    AnsweredReview,
    Container,
    Endpoint,
    Pod,
    Policy,
    Problem,
    Reason,
    StatusRecord,
    Verdict,
    read_record,
)
from injector.core.request import RequestError, parse
from injector.core.review import decode
from tests.builders import Json, ask, encode, literal_env, review, sidecar, workload
from tests.property import strategies as some
from tests.property.leaks import (
    FORMS,
    PLACES,
    dressings,
    leaks,
    messages_of,
    places,
    planted,
    reprs,
    texts_of_exception,
    token_of,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = token_of("base64url", 1)
policies = (
    st.sampled_from(
        (
            Policy(default_secret="d"),
            Policy(default_secret="d", allowed_secrets=("dapr-*",)),
        )
    )
    | some.policies
)


@given(places, tokens, dressings, policies, some.endpoints, st.booleans())
def test_no_answer_contains_a_token(
    where: list[str],
    token: str,
    dressing: str,
    policy: Policy,
    endpoint: Endpoint,
    is_workload: bool,  # noqa: FBT001
) -> None:
    found = planted(where, dressing.replace("{}", token))
    question = review(workload(found) if is_workload else found)

    assert not leaks(token, _everything(encode(question), policy, endpoint))


@pytest.mark.parametrize("place", sorted(PLACES))
@pytest.mark.parametrize("form", sorted(FORMS))
def test_no_output_contains_a_token(place: str, form: str) -> None:
    token = token_of(form, place)
    found = planted([place], token)
    bodies = (encode(review(found)), encode(review(workload(found))))
    listed = Policy(default_secret="d", allowed_secrets=("dapr-*",))

    for policy in (Policy(default_secret="d"), listed, Policy(default_secret="d", shadow=True)):
        for endpoint in Endpoint:
            for body in bodies:
                assert not leaks(token, _everything(body, policy, endpoint))


@given(places, tokens, st.integers(0, 2000), st.binary(max_size=4), some.endpoints)
def test_no_error_of_a_damaged_body_contains_a_token(
    where: list[str], token: str, at: int, damage: bytes, endpoint: Endpoint
) -> None:
    body = bytearray(encode(review(planted(where, token))))
    at %= len(body)
    body[at : at + 3] = damage

    assert not leaks(token, _everything(bytes(body), Policy(default_secret="d"), endpoint))


@given(tokens, st.binary(max_size=20), some.endpoints)
def test_no_error_of_garbage_contains_a_token(token: str, noise: bytes, endpoint: Endpoint) -> None:
    policy = Policy(default_secret="d")
    wrong: Json = {
        "apiVersion": token,
        "kind": token,
        "request": {"uid": "1", "operation": token, "kind": {"kind": token}},
    }
    for body in (
        token.encode(),
        b'{"' + token.encode() + noise,
        noise + token.encode(),
        encode({token: token}),
        encode(wrong),
    ):
        assert not leaks(token, _everything(body, policy, endpoint))


@given(places, tokens, some.endpoints)
def test_no_repr_of_a_decoded_review_contains_a_token(where: list[str], token: str, endpoint: Endpoint) -> None:
    try:
        found = decode(encode(review(planted(where, token))), endpoint)
    except ReviewError:
        return
    assert not leaks(token, reprs(found))


@given(tokens)
def test_no_repr_of_variables_contains_a_literal(token: str) -> None:
    env = env_of(msgspec.json.decode(encode(sidecar(literal_env(token))), type=Container))

    assert env.api is not None
    assert not leaks(token, reprs(env))


@given(tokens)
def test_no_repr_of_a_record_contains_its_text(token: str) -> None:
    text = '{"v":1,"injected":[{"container":"TOKEN","env":"TOKEN","name":"TOKEN","key":"TOKEN"}]}'.replace(
        "TOKEN", token
    )

    assert read_record(text).injected
    assert not leaks(token, reprs(read_record(text).injected))
    assert not leaks(token, reprs(msgspec.json.decode(text, type=StatusRecord)))


@given(places, tokens, policies)
def test_no_error_about_annotations_contains_a_token(where: list[str], token: str, policy: Policy) -> None:
    try:
        found = msgspec.json.decode(encode(planted(where, token)), type=Pod)
    except msgspec.ValidationError:
        return
    assert found.metadata is not None
    assert found.metadata.annotations is not None
    try:
        parse(found.metadata.annotations, policy, use_default=True)
    except RequestError as error:
        assert not leaks(token, texts_of_exception(error))  # noqa: PT017 - no error is fine, too


@given(tokens, dressings)
def test_no_pasted_token_is_shown(token: str, dressing: str) -> None:
    assert not leaks(token, [redact(dressing.replace("{}", token))])


# --- the scan itself ---


def _leaking(channel: str) -> Admission:
    problem = Problem("a", Reason.INVALID_SECRET_NAME, TOKEN if channel == "message" else "m", "b")
    decided: Deny | Skip = Skip(Reason.KEPT)
    match channel:
        case "message":
            decided = Deny(Reason.INVALID_SECRET_NAME, (problem,))
        case "warning":
            decided = Skip(Reason.KEPT, (f"the value {TOKEN} was kept",))
        case "audit value":
            decided = Skip(Reason.KEPT, (), (("kept", TOKEN),))
        case "audit key":
            decided = Skip(Reason.KEPT, (), ((TOKEN, "x"),))
        case _:
            pass
    response = respond("uid", decided)
    patches: Json = {
        "patch's path": [{"op": "add", "path": f"/{TOKEN}", "value": {"name": "x", "valueFrom": {}}}],
        "patch's variable": [{"op": "add", "path": "/x", "value": {"name": TOKEN, "valueFrom": {}}}],
        "patch's reference": [
            {
                "op": "add",
                "path": "/x",
                "value": {"name": "x", "valueFrom": {"s": {"name": "s", "key": "k", "more": TOKEN}}},
            }
        ],
        "patch's record": [
            {"op": "add", "path": "/x", "value": f'{{"injected":[{{"container":"{TOKEN}","name":"s","key":"k"}}]}}'}
        ],
    }
    if channel in patches:
        response = msgspec.structs.replace(
            response, patchType="JSONPatch", patch=b64encode(encode(patches[channel])).decode()
        )
    body = msgspec.json.encode(AnsweredReview("admission.k8s.io/v1", "AdmissionReview", response))
    owner = TOKEN if channel == "log" else ""
    return Admission(body, Verdict.SKIP, Reason.KEPT, "uid", "shop", owner, 0)


@pytest.mark.parametrize(
    "channel",
    [
        "message",
        "warning",
        "audit value",
        "audit key",
        "patch's path",
        "patch's variable",
        "patch's reference",
        "patch's record",
        "log",
    ],
)
def test_scan_finds_a_deliberate_leak_in_an_answer(channel: str) -> None:
    assert leaks(TOKEN, messages_of(_leaking(channel)))


def test_scan_finds_nothing_without_a_leak() -> None:
    assert not leaks(TOKEN, messages_of(_leaking("nothing")))


def test_scan_finds_part_of_a_token() -> None:
    assert leaks(TOKEN, [f"... {TOKEN[10:16]} ..."])
    assert not leaks(TOKEN, [f"... {TOKEN[10:15]} ..."])


def _raise(error: Exception, cause: Exception | None) -> None:
    raise error from cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NotAReviewError(TOKEN), None),
        (NotAReviewError("x"), ValueError(TOKEN)),
        (RequestError((Problem("a", Reason.INVALID_SECRET_NAME, "m", TOKEN),)), None),
    ],
    ids=["message", "cause", "attribute"],
)
def test_scan_finds_a_deliberate_leak_in_an_exception(error: Exception, cause: Exception | None) -> None:
    with pytest.raises(type(error)) as caught:
        _raise(error, cause)

    assert leaks(TOKEN, texts_of_exception(caught.value))


def test_scan_finds_a_deliberate_leak_in_a_repr() -> None:
    class Loud(msgspec.Struct):
        inner: list[Container] | str

    assert leaks(TOKEN, reprs([Loud(TOKEN)]))


def _everything(body: bytes, policy: Policy, endpoint: Endpoint) -> Iterator[str]:
    try:
        admission = ask(body, policy, endpoint)
    except (ReviewError, PolicyGapError) as error:
        yield from texts_of_exception(error)
    else:
        yield from messages_of(admission)
