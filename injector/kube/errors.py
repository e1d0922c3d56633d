"""The errors of calls to the API server.

KubeError
├── KubeconfigError      no usable kubeconfig or ServiceAccount
│   └── UnknownContextError
├── UnauthorizedError    401: the API server does not accept the credentials
├── ForbiddenError       403: a permission is missing
├── DeniedError          any status: a quota, a policy, a webhook or another admission rule denied the request
├── NotFoundError        404
├── AlreadyExistsError   409 of a create
├── ConflictError        409 of everything else: another client changed the object
├── GoneError            410: the resource version is too old
├── InvalidError         400, 422: the API server rejects the object
├── RedirectedError      3xx: the answer is a redirect, which is not followed
├── UnconfirmedWriteError   the answer to a write is not the object that was written
└── UnavailableError     no answer, 429 or 5xx: a retry may help

A message names the operation and quotes the API server, whose words may contain parts of the object. Of an answer to a
request with a Secret, only known sentences of a refusal are quoted, and none with a part of a value (`api_messages`).
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
    """An answer with an error status. `message` is that of the API server, empty if it must not be shown.

    `is_denial`: an admission rule denied the request, whatever the status.
    """

    status: int
    reason: str = ""  # https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
    message: str = ""
    retry_after_seconds: float | None = None
    is_denial: bool = False


class KubeError(InjectorError):
    """The base class. `operation` is what failed, as in `update secrets/x in namespace y`."""

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
    """There is no kubeconfig, or it cannot be used."""

    reason = "bad-kubeconfig"
    because = "no usable kubeconfig"


class UnknownContextError(KubeconfigError):
    """The kubeconfig does not have the context."""

    def __init__(self, operation: str, why: str, known: Iterable[str]) -> None:
        super().__init__(operation, why=f"{why}; known contexts: {', '.join(sorted(known))}")


class UnauthorizedError(KubeError):
    """The API server does not accept the credentials."""

    reason = "unauthorized"
    because = "the API server does not accept the credentials"


class ForbiddenError(KubeError):
    """A permission is missing."""

    reason = "forbidden"
    because = "not allowed"


class DeniedError(KubeError):
    """An admission rule denied the request: a quota, a policy, a webhook. No permission is missing."""

    reason = "denied"
    because = "denied by a rule of the cluster"

    @staticmethod
    def _message(refusal: Refusal | None) -> str:
        return strip_object_name(refusal.message) if refusal is not None else ""


class NotFoundError(KubeError):
    """The object does not exist."""

    reason = "not-found"
    because = "not found"


class AlreadyExistsError(KubeError):
    """An object with that name exists."""

    reason = "already-exists"
    because = "already exists"


class ConflictError(KubeError):
    """The object has changed since it was read, or another manager owns the field."""

    reason = "conflict"
    because = "another client changed it at the same time"


class GoneError(KubeError):
    """The API server no longer has the requested resource version; list again."""

    reason = "gone"
    because = "the resource version is too old"


class InvalidError(KubeError):
    """The API server rejects the object."""

    reason = "invalid"
    because = "the API server rejects the object"


class RedirectedError(KubeError):
    """The answer is a redirect, which is not followed."""

    reason = "redirected"
    because = "the server redirects"


class UnconfirmedWriteError(KubeError):
    """The answer to a write is not the object that was written, so the write does not count as done."""

    reason = "unconfirmed"
    because = "the answer is not the object that was written"


class UnavailableError(KubeError):
    """The API server did not answer in time, or requests a later retry."""

    reason = "unavailable"
    because = "the API server does not answer"


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
    """Return the error for an answer with an error status."""
    if refusal.is_denial:
        return DeniedError(operation, refusal)
    if refusal.reason == "AlreadyExists":
        return AlreadyExistsError(operation, refusal)
    if refusal.status in _BY_STATUS:
        return _BY_STATUS[refusal.status](operation, refusal)
    return UnavailableError(operation, refusal, why=f"the API server answers with status {refusal.status}")
