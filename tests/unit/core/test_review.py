"""Decoding a review from any bytes, and encoding the answer."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from msgspec import Raw

from injector.core import names
from injector.core.errors import MalformedJSONError, MalformedObjectError, NotAReviewError
from injector.core.model import AdmissionResponse, Endpoint, OpaqueRequest, PatchOp, Pod, ReviewedWorkload, Status
from injector.core.review import annotations_size, decode, encode, encode_patch, read
from tests.builders import UID, Json, pod, review, workload
from tests.builders import encode as as_json

MUTATE, WARN = Endpoint.MUTATE, Endpoint.WARN


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_pod_is_decoded(version: str) -> None:
    found = decode(as_json(review(pod(), version=version)), MUTATE)

    assert found.apiVersion == f"admission.k8s.io/{version}"
    assert found.request.uid == UID
    assert isinstance(found.request.object, Pod)


def test_workload_is_decoded_at_warn() -> None:
    assert isinstance(decode(as_json(review(workload(pod()))), WARN).request.object, ReviewedWorkload)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"not JSON",
        b"apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n",
        b"{}trailing",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"apiVersion":NaN}',
        b'{"apiVersion":"\xff"}',
        b'{"apiVersion":"\\ud800"}',
        b'{"request":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"x":' + b"[" * 10_000,
        # Of the wrong shape at first, and then no JSON.
        b'{"apiVersion":5,',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"object":{"spec":5},"uid":"\xff"}}',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("endpoint", [MUTATE, WARN])
def test_invalid_json_is_rejected(body: bytes, endpoint: Endpoint) -> None:
    with pytest.raises((MalformedJSONError, NotAReviewError)) as failed:
        decode(body, endpoint)

    assert str(failed.value) in {
        "the body is not JSON",
        "the body is not an admission.k8s.io/v1 or v1beta1 AdmissionReview with a uid, a kind and an operation",
    }


def _without(*path: str) -> Json:
    question = review(pod())
    parent = question
    for step in path[:-1]:
        parent = parent[step]
    del parent[path[-1]]
    return question


@pytest.mark.parametrize(
    "question",
    [
        [],
        5,
        None,
        {},
        pod(),
        {**review(pod()), "apiVersion": "admission.k8s.io/v2"},
        {**review(pod()), "apiVersion": None},
        {**review(pod()), "kind": "AdmissionReviewList"},
        {**review(pod()), "request": None},
        {**review(pod()), "request": []},
        review(pod(), uid=""),
        review(pod(), uid=None),
        review(pod(), uid=5),
        review(pod(), kind="Pod"),
        review(pod(), operation=None),
        _without("apiVersion"),
        _without("kind"),
        _without("request"),
        _without("request", "uid"),
    ],
)
@pytest.mark.parametrize("endpoint", [MUTATE, WARN])
def test_json_other_than_a_review_is_rejected(question: object, endpoint: Endpoint) -> None:
    with pytest.raises(NotAReviewError):
        decode(as_json(question), endpoint)


def test_invalid_review_with_invalid_json_is_reported_as_json() -> None:
    with pytest.raises(MalformedJSONError, match=r"^the body is not JSON$"):
        decode(as_json(review({"kind": "Pod", "apiVersion": "v1", "spec": 5}))[:-1], MUTATE)


@pytest.mark.parametrize(
    ("found", "endpoint"),
    [
        ({**pod(), "spec": 5}, MUTATE),
        ({**pod(), "metadata": []}, MUTATE),
        (pod({"dapr.io/enabled": 5}), MUTATE),
        ({**workload(pod()), "spec": "x"}, WARN),
    ],
)
def test_malformed_object_of_a_known_kind_is_rejected(found: Json, endpoint: Endpoint) -> None:
    with pytest.raises(MalformedObjectError, match="does not match its kind"):
        decode(as_json(review(found)), endpoint)


@pytest.mark.parametrize(
    ("found", "endpoint"),
    [
        ({"apiVersion": "x/v1", "kind": "Pod", "spec": 5}, MUTATE),
        ({**workload(pod()), "spec": "x"}, MUTATE),
        ({**pod(), "spec": 5}, WARN),
        ({"apiVersion": "apps/v2", "kind": "Deployment", "spec": 5}, WARN),
    ],
)
def test_object_of_another_kind_can_have_any_shape(found: Json, endpoint: Endpoint) -> None:
    request = decode(as_json(review(found)), endpoint).request

    assert isinstance(request, OpaqueRequest)
    assert request.object is None
    assert request.uid == UID


def test_last_of_duplicate_members_is_used() -> None:
    body = as_json(review(pod())).replace(b'"uid":', b'"uid":"first","uid":')

    assert decode(body, MUTATE).request.uid == UID


def test_numbers_beyond_the_float_range_are_skipped() -> None:
    body = as_json(review({**pod(), "more": 0})).replace(b'"more":0', b'"more":[1e999,-1E-999,' + b"9" * 5000 + b"]")

    assert isinstance(decode(body, MUTATE).request.object, Pod)


def test_patch_is_compact_json() -> None:
    encoded = encode_patch([PatchOp("add", "/a~1b", [{"name": "ü"}])])

    assert b64decode(json.loads(bytes(encoded))) == '[{"op":"add","path":"/a~1b","value":[{"name":"ü"}]}]'.encode()


def test_answer_echoes_the_request_and_omits_empty_fields() -> None:
    question = decode(as_json(review(pod(), version="v1beta1")), MUTATE)

    assert json.loads(encode(question, AdmissionResponse("u", allowed=True))) == {
        "apiVersion": "admission.k8s.io/v1beta1",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True},
    }


def test_answer_has_all_fields_of_the_decision() -> None:
    question = decode(as_json(review(pod())), MUTATE)
    response = AdmissionResponse("u", False, "JSONPatch", Raw(b'"W10="'), ("w",), {"k": "v"}, Status("m", "r", 403))

    assert json.loads(encode(question, response))["response"] == {
        "uid": "u",
        "allowed": False,
        "patchType": "JSONPatch",
        "patch": "W10=",
        "warnings": ["w"],
        "auditAnnotations": {"k": "v"},
        "status": {"message": "m", "reason": "r", "code": 403},
    }


def test_deep_review_is_decoded_after_truncation() -> None:
    deep = as_json(review(pod())).replace(b'"name":"web"', b'"managedFields":' + b"[" * 100_000 + b"]" * 100_000, 1)

    found, decoded = read(deep, MUTATE)

    assert isinstance(found.request.object, Pod)
    assert len(decoded) < 1000
    assert annotations_size(deep) == annotations_size(decoded)


BLANKS = b" " * names.MAX_ANNOTATIONS


@pytest.mark.parametrize(
    "body",
    [
        as_json(review(pod({"a": "é", "dapr.io/enabled": "true"}))),
        as_json(review(pod(None))),
        as_json(review({"metadata": {"name": "p"}, "spec": {}})),
        as_json(review({"metadata": None})),
        as_json(review(None)),
    ],
)
def test_large_review_is_decoded_as_a_small_one(body: bytes) -> None:
    small, text = read(body, MUTATE)
    large, annotations = read(body + BLANKS, MUTATE)

    assert large == small
    assert len(annotations) < len(text)
    assert annotations_size(annotations) == annotations_size(text)


@pytest.mark.parametrize("annotations", [5, "x", {"dapr.io/enabled": True}])
def test_large_review_with_malformed_annotations_is_rejected(annotations: object) -> None:
    body = as_json(review({"metadata": {"annotations": annotations}})) + BLANKS

    with pytest.raises(MalformedObjectError):
        read(body, MUTATE)


def test_shallow_review_is_decoded_unchanged() -> None:
    body = as_json(review(pod()))

    assert read(body, MUTATE)[1] is body
