"""What can go wrong between us and the API server.

KubeError
├── KubeconfigError      there is no usable way to a cluster
│   └── UnknownContextError
├── UnauthorizedError    401: the API server does not know who asks
├── ForbiddenError       403: a right is missing
├── DeniedError          any status: a quota, a policy, a webhook or another rule of admission said no
├── NotFoundError        404
├── AlreadyExistsError   409 of a create
├── ConflictError        409 of everything else: somebody else was faster
├── GoneError            410: the resource version is too old
├── InvalidError         400, 422: the API server does not take the object
├── RedirectedError      3xx: the answer sends us elsewhere, and is not followed
├── UnconfirmedWriteError   the answer to a write is not the object that was written
└── UnavailableError     no answer, 429 or 5xx: trying again may help

A message says what was being done and what the API server said of it. Its words may hold parts of the object: of an
answer to a request that carried a Secret, only sentences of a refusal are quoted, and none with a part of a value
(`api_messages`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from injector.core.errors import InjectorError
from injector.kube.api_messages import strip_object_name

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that was no success. `message` is the API server's sentence, empty where it must not be shown.

    `is_denial`: a rule of admission said no, whatever the status.
    """

    status: int
    reason: str = ""  # https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
    message: str = ""
    retry_after_seconds: float | None = None
    is_denial: bool = False


class KubeError(InjectorError):
    """Base of them; `operation` says what was tried, as in `update secrets/x in namespace y`."""

    reason: ClassVar[str] = "kubernetes"
    because: ClassVar[str] = "failed"

    def __init__(self, operation: str, refusal: Refusal | None = None, *, why: str = "") -> None:
        super().__init__(
            ": ".join(part for part in (f"cannot {operation}", why or self.because, self._message(refusal)) if part)
        )
        self.operation = operation
        self.refusal = refusal

    @staticmethod
    def _message(refusal: Refusal | None) -> str:
        return refusal.message if refusal is not None else ""


class KubeconfigError(KubeError):
    """There is no kubeconfig, or not one that leads to a cluster."""

    reason = "bad-kubeconfig"
    because = "no usable kubeconfig"


class UnknownContextError(KubeconfigError):
    """The kubeconfig has other contexts."""

    def __init__(self, operation: str, why: str, known: Iterable[str]) -> None:
        super().__init__(operation, why=f"{why}; known are: {', '.join(sorted(known))}")


class UnauthorizedError(KubeError):
    """The API server does not know who asks."""

    reason = "unauthorized"
    because = "the API server does not accept the credentials"


class ForbiddenError(KubeError):
    """A right is missing."""

    reason = "forbidden"
    because = "not allowed"


class DeniedError(KubeError):
    """A rule of admission said no: a quota, a policy, a webhook. No right is missing."""

    reason = "denied"
    because = "denied by a rule of the cluster"

    @staticmethod
    def _message(refusal: Refusal | None) -> str:
        return strip_object_name(refusal.message) if refusal is not None else ""


class NotFoundError(KubeError):
    """There is no such object."""

    reason = "not-found"
    because = "not found"


class AlreadyExistsError(KubeError):
    """An object of that name is there already."""

    reason = "already-exists"
    because = "it exists already"


class ConflictError(KubeError):
    """The object has changed since it was read, or somebody else owns the field."""

    reason = "conflict"
    because = "somebody else changed it at the same time"


class GoneError(KubeError):
    """The resource version asked for is no longer kept: list anew."""

    reason = "gone"
    because = "the resource version is too old"


class InvalidError(KubeError):
    """The API server does not take the object."""

    reason = "invalid"
    because = "the API server refuses the object"


class RedirectedError(KubeError):
    """The answer is a redirect, which is not followed."""

    reason = "redirected"
    because = "the server redirects"


class UnconfirmedWriteError(KubeError):
    """The answer to a write is not the object that was written, so the write does not count as done."""

    reason = "unconfirmed"
    because = "the answer is not the object that was written"


class UnavailableError(KubeError):
    """No answer in time, or one that says to come back later."""

    reason = "unavailable"
    because = "the API server gives no answer"


_BY_STATUS = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def error_from_status(operation: str, refusal: Refusal) -> KubeError:
    """The error for an answer that was no success."""
    if refusal.is_denial:
        return DeniedError(operation, refusal)
    if refusal.reason == "AlreadyExists":
        return AlreadyExistsError(operation, refusal)
    if refusal.status in _BY_STATUS:
        return _BY_STATUS[refusal.status](operation, refusal)
    return UnavailableError(operation, refusal, why=f"the API server answers with status {refusal.status}")
