"""The admission endpoint: a function from a complete request to a complete response. The connection calls it directly.

It has no rules about Pods. It rejects invalid requests (4xx with one sentence) and requests that are too late (503),
and passes all others to `admit`. It turns an exception into a 500 with a fixed message, so that no error response, log
line or metric contains a part of a body. Constant headers and bodies are built once, because this is the hot path.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from injector.core.errors import InjectorError, PolicyGapError, ReviewError
from injector.core.model import Endpoint
from injector.frames import frames
from injector.telemetry.logs import LOGGER, RateLimitedLog
from injector.webhook.metrics import INTERNAL_ERROR
from injector.webhook.overload import RETRY_AFTER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from injector.core.admit import Admission
    from injector.core.model import Policy
    from injector.telemetry.logs import AdmissionLog
    from injector.webhook.metrics import RequestMetrics
    from injector.webhook.overload import Clock, LoadShedder

logger = logging.getLogger(f"{LOGGER}.webhook")

ENDPOINTS: Final[dict[str, Endpoint]] = {endpoint.value: endpoint for endpoint in Endpoint}


class Admit(Protocol):
    """`injector.core.admit.admit`."""

    def __call__(self, body: bytes, *, endpoint: Endpoint, policy: Policy) -> Admission:
        """Decide one review."""


class HTTPRequest(msgspec.Struct, frozen=True, gc=False):
    """A complete request on an admission path. Times are in seconds of the endpoint's clock."""

    method: bytes
    path: str
    query: bytes
    content_type: bytes | None
    body: bytes
    began: float  # when the first byte was read
    arrived: float  # the earliest time at which the first byte can have arrived
    turn: float  # start of the event loop iteration that read the last byte, or shortly before it

    def __repr__(self) -> str:
        return "HTTPRequest(...)"


# First the status line and headers, each with its line end, without the connection's headers and the empty line. Then
# the body.
HTTPResponse = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """A constant response to a request that is not decided."""

    status: int
    error: str
    headers: list[tuple[bytes, bytes]]
    response: HTTPResponse

    @classmethod
    def of(cls, status: int, error: str, message: str, *extra: tuple[bytes, bytes]) -> ErrorResponse:
        """Return the response with the error class `error` and the sentence `message`."""
        body = msgspec.json.encode({"error": error, "message": message})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
        head = STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)
        return cls(status, error, headers, (head, body))


NOT_FOUND: Final = ErrorResponse.of(404, "not-found", "This path does not exist.")
METHOD_NOT_ALLOWED: Final = ErrorResponse.of(405, "method-not-allowed", "Send reviews with POST.", (b"allow", b"POST"))
BODY_TOO_LARGE: Final = ErrorResponse.of(413, "body-too-large", "The body exceeds the size limit.")
UNSUPPORTED: Final = ErrorResponse.of(415, "unsupported-media-type", "Send reviews as application/json.")
INTERNAL: Final = ErrorResponse.of(500, INTERNAL_ERROR, "Internal error: the webhook could not decide the review.")
OVERLOADED: Final = ErrorResponse.of(
    503, "overloaded", "The webhook is too busy to respond in time; retry.", (b"retry-after", b"%d" % RETRY_AFTER)
)
# Without Retry-After an API server does not retry, but calls the next entry:
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/client-go/rest/with_retry.go
FAIL_OVER: Final = ErrorResponse.of(503, "overloaded", "The webhook is too busy to respond in time.")


class AdmissionEndpoint:
    """Answers requests on the three admission paths."""

    def __init__(  # noqa: PLR0913 - collaborators, all passed by name
        self,
        admit: Admit,
        *,
        policy: Policy,
        shedder: LoadShedder,
        overloaded: ErrorResponse,
        metrics: RequestMetrics,
        log: AdmissionLog,
        clock: Clock = time.monotonic,
    ) -> None:
        self._admit = admit
        self._policy = policy
        self._shedder = shedder
        self._overloaded = overloaded
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._limited = RateLimitedLog(logger, clock)

    def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Return the response to one request on an admission path."""
        if request.method != b"POST":
            return self._refuse(METHOD_NOT_ALLOWED)
        if request.content_type != b"application/json" and not _is_json(request.content_type):
            return self._refuse(UNSUPPORTED)
        reason = self._shedder.reject_reason(
            now=self._clock(),
            arrived=request.arrived,
            turn=request.turn,
            timeout=caller_timeout(request.query),
            body=request.body,
        )
        if reason is not None:
            self._metrics.shed[reason] += 1
            return self._overloaded.response
        try:
            admission = self._admit(request.body, endpoint=ENDPOINTS[request.path], policy=self._policy)
        except ReviewError as error:
            return self._refuse(_error_response(400, error))
        except PolicyGapError as error:
            # A configuration error: a 5xx, so that the `failurePolicy` applies; counted separately from `internal`.
            return self._refuse(_error_response(500, error))
        except Exception as error:  # noqa: BLE001 - the only place that handles internal errors
            return self._internal(error)
        seconds = self._clock() - request.began
        self._metrics.answered(admission.verdict, admission.reason, seconds)
        self._log(admission, seconds)
        return _ADMITTED % len(admission.body), admission.body

    def _refuse(self, error: ErrorResponse) -> HTTPResponse:
        self._metrics.failed(error.error)
        self._limited(logging.WARNING, "request rejected", error.error, {"error": error.error})
        return error.response

    def _internal(self, error: Exception) -> HTTPResponse:
        """Return a 500. Only types and locations are logged, because the exception's message may quote the body."""
        places = frames(error.__traceback__)
        kind = type(error).__qualname__
        self._metrics.failed(INTERNAL.error)
        self._limited(logging.ERROR, "review failed", f"{kind} {places[-1]}", {"exception": kind, "frames": places})
        return INTERNAL.response


_ADMITTED: Final = STATUS_LINE[200] + b"content-type: application/json\r\ncontent-length: %d\r\n"


class AdmissionPortApp:
    """Serves the other paths of the admission port: passes those in `public` to `rest`, answers all others with 404.

    Health and metrics are not served on this port: clients that can reach the webhook do not need them.
    """

    def __init__(self, rest: ASGIApp, public: frozenset[str], metrics: RequestMetrics) -> None:
        self._rest = rest
        self._public = public
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] in self._public:
            await self._rest(scope, receive, send)
            return
        self._metrics.failed(NOT_FOUND.error)
        await send({"type": "http.response.start", "status": NOT_FOUND.status, "headers": NOT_FOUND.headers})
        await send({"type": "http.response.body", "body": NOT_FOUND.response[1]})


@functools.lru_cache(maxsize=64)
def _is_json(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.partition(b";")[0].strip().lower() == b"application/json"


def _error_response(status: int, error: InjectorError) -> ErrorResponse:
    sentence = str(error)
    return ErrorResponse.of(status, error.reason, f"{sentence[:1].upper()}{sentence[1:]}.")


# The API server sends a duration in the format of https://pkg.go.dev/time#ParseDuration.
_DURATION: Final = re.compile(rb"(?:^|&)timeout=((?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|\xc2\xb5s|ms|s|m|h))+)(?:&|$)")
_PART: Final = re.compile(rb"([\d.]+)(ns|us|\xc2\xb5s|ms|s|m|h)")
_UNITS: Final = {b"ns": 1e-9, b"us": 1e-6, b"\xc2\xb5s": 1e-6, b"ms": 1e-3, b"s": 1.0, b"m": 60.0, b"h": 3600.0}
# Default and maximum of a webhook's timeoutSeconds in Kubernetes.
_DEFAULT_TIMEOUT: Final = 10.0
_MAX_TIMEOUT: Final = 30.0


@functools.lru_cache(maxsize=64)
def caller_timeout(query: bytes) -> float:
    """Return the seconds that the client waits, from `?timeout=`; the default of Kubernetes if it is not set."""
    found = _DURATION.search(query)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(found[1])) if found else 0.0
    return min(seconds, _MAX_TIMEOUT) if seconds > 0 else _DEFAULT_TIMEOUT
