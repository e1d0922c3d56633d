"""Decode an AdmissionReview from bytes, and encode the answer. Only this module knows the wire format.

A review is decoded in one pass, with its object as the type that the endpoint expects. If that fails, the review is
decoded again without its object: a review of another kind that arrived by mistake can still be answered. A review that
is nested too deeply for the codec is cut to the levels that rules read, and decoded again.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from injector.core import names
from injector.core.depth import decode_any_depth, shallow
from injector.core.errors import MalformedJSONError, MalformedObjectError, NotAReviewError
from injector.core.model import (
    POD,
    WORKLOADS,
    AdmissionRequest,
    AdmissionReview,
    Annotations,
    AnsweredReview,
    Endpoint,
    NamedMeta,
    ObjectMeta,
    OpaqueReview,
    Pod,
    PodReview,
    PodSpec,
    Quiet,
    WorkloadReview,
)
from injector.core.seal import NOT_SEALABLE, SealingSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.core.model import AdmissionResponse, EncodedPatch, PatchOp, Review


class _AnyMeta(Quiet, frozen=True, gc=False):
    annotations: dict[str, object] | None = None


class _AllAnnotations(Quiet, frozen=True, gc=False):
    metadata: _AnyMeta | None = None


class _SealingPod(Pod, frozen=True, gc=False):
    spec: SealingSpec | None = None


class _SealingTemplate(Quiet, frozen=True, gc=False):
    spec: SealingSpec | None = None


class _SealingJob(Quiet, frozen=True, gc=False):
    spec: _SealingJobSpec | None = None


class _SealingJobSpec(Quiet, frozen=True, gc=False):
    template: _SealingTemplate | None = None


class _SealingWorkloadSpec(_SealingJobSpec, frozen=True, gc=False):
    jobTemplate: _SealingJob | None = None  # noqa: N815 - Kubernetes' own spelling


class _SealingWorkload(Quiet, frozen=True, gc=False):
    spec: _SealingWorkloadSpec | None = None

    @property
    def template(self) -> _SealingTemplate | None:
        spec: _SealingJobSpec | None = self.spec
        if self.spec is not None and self.spec.jobTemplate is not None:
            spec = self.spec.jobTemplate.spec
        return None if spec is None else spec.template


class _LargeMeta(NamedMeta, frozen=True, gc=False):
    annotations: Raw = Raw()


class _LargePod(Quiet, frozen=True, gc=False):
    metadata: _LargeMeta | None = None
    spec: PodSpec | None = None


_sealing_pod: Final = msgspec.json.Decoder(AdmissionReview[_SealingPod])
_sealing_workload: Final = msgspec.json.Decoder(AdmissionReview[_SealingWorkload])
_pod_review: Final = msgspec.json.Decoder(PodReview)
_large_review: Final = msgspec.json.Decoder(AdmissionReview[_LargePod])
_annotations: Final = msgspec.json.Decoder(Annotations | None)
_workload_review: Final = msgspec.json.Decoder(WorkloadReview)
_opaque_review: Final = msgspec.json.Decoder(OpaqueReview)
_sizing_review: Final = msgspec.json.Decoder(AdmissionReview[_AllAnnotations])
_encoder: Final = msgspec.json.Encoder()


def decode(body: bytes | bytearray, endpoint: Endpoint) -> Review:
    """The review in `body`. Raises the errors of `read`."""
    return read(body, endpoint)[0]


def read(body: bytes | bytearray, endpoint: Endpoint, *, to_seal: bool = False) -> tuple[Review, bytes | bytearray]:
    """The review in `body`, and a text for `annotations_size`: `body`, its cut text, or a review of annotations alone.

    If `to_seal`, a Pod has the fields for sealing, unless one of them is malformed; `sealing_spec` reads no other.

    Raises:
        MalformedJSONError: `body` is not JSON.
        NotAReviewError: JSON, but not a v1 or v1beta1 AdmissionReview with a uid, a kind and an operation.
        MalformedObjectError: Its object does not match its kind.
    """
    try:
        if to_seal and endpoint is not _WARN:
            return _sealing_pod.decode(body), body  # type: ignore[return-value] # nothing writes the object
        return _decode(body, endpoint)
    except msgspec.ValidationError:
        return read(body, endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The codec's own message may contain parts of the body.
        raise MalformedJSONError(_NOT_JSON) from None
    except RecursionError:
        return _read_deep(body, endpoint)


def annotations_size(body: bytes | bytearray) -> int:
    """The size in bytes of the annotations of the object under review, as the API server counts them.

    Our annotation is not counted, because it will be replaced; nor are values that are not text, which no API server
    stores.

    Raises:
        MalformedJSONError: An annotation is not Unicode.
    """
    try:
        found = decode_any_depth(_sizing_review.decode, body).request.object
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError(_NOT_JSON) from None
    metadata = found.metadata if found is not None else None
    annotations = (metadata.annotations if metadata is not None else None) or {}
    return sum(
        len(key.encode()) + len(value.encode())
        for key, value in annotations.items()
        if key != names.STATUS and isinstance(value, str)
    )


def sealing_spec(body: bytes | bytearray, endpoint: Endpoint, question: Review | None = None) -> SealingSpec:
    """The spec of the Pod or Pod template in `body`, a review that was read before, with all fields for sealing.

    It is that of `question`, which was read from `body`, if that has the fields.

    Raises:
        MalformedObjectError: A field that only sealing reads is malformed.
    """
    known: object = question.request.object if question is not None else None
    if isinstance(known, _SealingPod):
        return known.spec or SealingSpec()
    try:
        if endpoint is _WARN:
            workload = decode_any_depth(_sealing_workload.decode, body).request.object
            pod: _SealingTemplate | _SealingPod | None = workload.template if workload is not None else None
        else:
            pod = decode_any_depth(_sealing_pod.decode, body).request.object
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedObjectError(NOT_SEALABLE) from None
    return (pod.spec if pod is not None else None) or SealingSpec()


def encode_patch(operations: Sequence[PatchOp]) -> EncodedPatch:
    """A patch as a response has it, which is encoded once for all Pods that get it."""
    return Raw(b'"%b"' % b64encode(_encoder.encode(operations)))


def encode(question: Review, response: AdmissionResponse) -> bytes:
    """The answered review, with the version and kind of the question."""
    return _encoder.encode(AnsweredReview(question.apiVersion, question.kind, response))


_NOT_JSON: Final = "the body is not JSON"


def _decode(body: bytes | bytearray, endpoint: Endpoint) -> tuple[Review, bytes | bytearray]:
    try:
        if endpoint is _WARN:
            return _workload_review.decode(body), body
        return _decode_large(body) if len(body) > _LARGE else (_pod_review.decode(body), body)
    except msgspec.ValidationError:
        return _decode_opaque(body, endpoint), body


# Looking up an enum member in its class is slow in Python 3.11.
_WARN: Final = Endpoint.WARN
# Bytes. The annotations of smaller reviews are rarely measured.
_LARGE: Final = names.MAX_ANNOTATIONS // 2


def _decode_large(body: bytes | bytearray) -> tuple[PodReview, bytes]:
    """A review and its annotations, in one pass: most of the cost of a large review is to pass over its bytes."""
    large = _large_review.decode(body)
    request, annotations, pod = large.request, b"null", None
    if request.object is not None:
        own, meta = request.object.metadata, None
        if own is not None:
            annotations = bytes(own.annotations) or annotations
            meta = ObjectMeta(own.name, own.generateName, own.ownerReferences, _annotations.decode(annotations))
        pod = Pod(meta, request.object.spec)
    question = AdmissionRequest(
        request.uid, request.kind, request.operation, request.subResource, request.namespace, pod
    )
    return AdmissionReview(large.apiVersion, large.kind, question), _ONLY_ANNOTATIONS % annotations


_ONLY_ANNOTATIONS: Final = (
    b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",'
    b'"request":{"uid":"u","kind":{},"operation":"CREATE","object":{"metadata":{"annotations":%b}}}}'
)


def _read_deep(body: bytes | bytearray, endpoint: Endpoint) -> tuple[Review, bytes | bytearray]:
    cut = shallow(body)
    try:
        return _decode(cut, endpoint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError(_NOT_JSON) from None


def _decode_opaque(body: bytes | bytearray, endpoint: Endpoint) -> OpaqueReview:
    try:
        review = _opaque_review.decode(body)
    except msgspec.ValidationError:
        raise NotAReviewError(
            "the body is not an admission.k8s.io/v1 or v1beta1 AdmissionReview with a uid, a kind and an operation"
        ) from None
    kind = review.request.kind
    if kind in WORKLOADS if endpoint is Endpoint.WARN else kind == POD:
        raise MalformedObjectError("the object under review does not match its kind")
    return review
