"""The pipeline: a review's bytes in, an answer's bytes out. The webhook and the offline commands share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from injector.core import decision, names, patch, review
from injector.core.decision import Deny, Inject, Skip
from injector.core.messages import warning
from injector.core.model import (
    AdmissionResponse,
    NamedMeta,
    Pod,
    Reason,
    ReviewedWorkload,
    SealMode,
    Status,
    Value,
    Verdict,
    write_status,
)
from injector.core.plan import without_record

if TYPE_CHECKING:
    from injector.core.decision import Decision
    from injector.core.model import EncodedPatch, Endpoint, Policy, Review
    from injector.core.plan import Plan


class Admission(Value, frozen=True, gc=False):
    """An answer with the facts that logs and metrics need. `body` is the AdmissionReview to send."""

    body: bytes
    verdict: Verdict
    reason: Reason
    uid: str
    namespace: str
    owner: str  # "ReplicaSet/web-7d9", or the object's name or generateName; "" when it has none
    warnings: int


def admit(body: bytes | bytearray, *, endpoint: Endpoint, policy: Policy) -> Admission:
    """Answer one review.

    Raises:
        ReviewError: `body` is not an AdmissionReview that can be answered (HTTP 400).
        PolicyGapError: `endpoint` needs a default Secret and the Policy has none (HTTP 500).
    """
    question, decoded = review.read(body, endpoint, to_seal=_may_be_sealed(body, policy))
    request = question.request
    decided = fit_annotation_limit(_decided(question, endpoint, policy, decoded), decoded)
    found = request.object
    return Admission(
        body=review.encode(question, respond(request.uid, decided)),
        verdict=VERDICTS[type(decided)],
        reason=decided.reason,
        uid=request.uid,
        namespace=request.namespace or "",
        owner=_owner(found.metadata) if isinstance(found, _OWNED) else "",
        warnings=len(decided.warnings),
    )


def _decided(question: Review, endpoint: Endpoint, policy: Policy, decoded: bytes | bytearray) -> Decision:
    return decision.decide(
        question,
        endpoint,
        policy,
        lambda: review.sealing_spec(decoded, endpoint, question),
        is_small=len(decoded) <= _SMALL,
    )


_SMALL: Final = 16 * 1024  # bytes; the review of a Pod of a Deployment has 6 to 9 KB, including the sidecar


def _may_be_sealed(body: bytes | bytearray, policy: Policy) -> bool:
    """Whether to decode the fields for sealing at once: a guess, because the name can be in any text, or escaped."""
    if policy.seal_image is None or policy.seal is SealMode.OFF:
        return False
    return policy.seal is SealMode.ALWAYS or body.rfind(_SEAL, 0, _NEAR) >= 0


_SEAL: Final = names.SEAL.encode()
_NEAR: Final = 4096  # bytes; an API server writes annotations before managed fields and spec


def fit_annotation_limit(decided: Decision, body: bytes | bytearray) -> Decision:
    """The decision, without the record if the annotations of the Pod in `body` would exceed the API server's limit.

    The variables matter more than the record, and a Pod that the API server accepts must not be rejected because of
    the record. The annotations cannot be larger than the body, so few Pods have to be measured.
    """
    if not isinstance(decided, Inject):
        return decided
    record, pull_secrets = decided.plan.record, decided.plan.pull_secrets
    if len(body) + (len(record) + len(pull_secrets)) * names.MAX_RECORD_ENTRY <= names.MAX_ANNOTATIONS:
        return decided
    # The text of a very long record is not built: this is its minimum length.
    if len(record) * names.MIN_RECORD_ENTRY <= names.MAX_ANNOTATIONS:
        size = review.annotations_size(body) + len(names.STATUS) + len(write_status(record, pull_secrets).encode())
        if size <= names.MAX_ANNOTATIONS:
            return decided
    omitted = warning(f"{names.STATUS} was not written: annotations would exceed {names.MAX_ANNOTATIONS} bytes")
    return Inject(without_record(decided.plan), decided.reason, (omitted, *decided.warnings))


def respond(uid: str, decided: Decision) -> AdmissionResponse:
    """The decision as an AdmissionResponse."""
    if isinstance(decided, Inject):
        operations, notes = _rendered(decided)
        return AdmissionResponse(uid, True, "JSONPatch", operations, decided.warnings, notes)
    match decided:
        case Skip(warnings=warnings):
            return AdmissionResponse(uid, allowed=True, warnings=warnings, auditAnnotations=decision.audit(decided))
        case _:
            code = _FORBIDDEN if decided.reason is Reason.SECRET_NOT_ALLOWED else _UNPROCESSABLE
            status = Status(decided.message, decided.reason.value, code)
            notes = decision.audit(decided)
            return AdmissionResponse(
                uid, allowed=False, warnings=decided.warnings, auditAnnotations=notes, status=status
            )


def _rendered(decided: Inject) -> tuple[EncodedPatch, dict[str, str]]:
    """Patch and audit annotations of a plan, kept for as long as the plan itself is cached."""
    found = _memo.get(decided.plan)
    if found is None:
        found = review.encode_patch(patch.build(decided.plan)), decision.audit(decided)
        _memo[decided.plan] = found
    return found


_memo: Final[WeakKeyDictionary[Plan, tuple[EncodedPatch, dict[str, str]]]] = WeakKeyDictionary()


VERDICTS: Final = {Inject: Verdict.INJECT, Skip: Verdict.SKIP, Deny: Verdict.DENY}
# HTTP codes that the API server returns to the client that created the Pod.
_FORBIDDEN: Final = 403
_UNPROCESSABLE: Final = 422


_OWNED: Final = (Pod, ReviewedWorkload)


def _owner(metadata: NamedMeta | None) -> str:
    if metadata is None:
        return ""
    for owner in metadata.ownerReferences or ():
        if owner.controller:
            return f"{owner.kind}/{owner.name}"
    return metadata.name or metadata.generateName or ""
