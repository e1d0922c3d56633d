"""The pipeline: a review's bytes in, an answer's bytes out. The webhook and the offline commands share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from injector.core.model import Endpoint, Policy, Reason, SecretFacts, Verdict


@dataclass(frozen=True, slots=True)
class Admission:
    """An answer, and what logs and metrics say of it. `body` is the AdmissionReview to send."""

    body: bytes
    verdict: Verdict
    reason: Reason
    uid: str
    namespace: str
    owner: str  # "ReplicaSet/web-7d9", or the Pod's name or generateName; "" when it has none
    warnings: int


def admit(body: bytes, *, endpoint: Endpoint, policy: Policy, facts: SecretFacts) -> Admission:
    """Answer one review.

    Raises:
        ReviewError: `body` is not an AdmissionReview with a request and a uid (HTTP 400).
        PolicyGapError: `endpoint` needs a default Secret and the Policy has none (HTTP 500).
    """
    raise NotImplementedError
