"""The admission endpoint: a function from a whole request to a whole answer, which the connection calls at once.

It holds no rule. It turns away what is no review (4xx with one sentence), sheds what is too late (503), hands the rest
to `admit`, and is the boundary where an exception becomes a 500 whose words are fixed: nothing of a body is in any
answer, log line or metric. Three exits of the same hot path, so headers and bodies that never change are made once.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from injector.core.errors import InjectorError, PolicyGapError, ReviewError
from injector.core.model import Endpoint, SecretFacts
from injector.frames import frames
from injector.telemetry.logs import LOGGER, RateLimitedLog
from injector.webhook.overload import RETRY_AFTER

if TYPE_CHECKING:
    from injector.core.admit import Admission
    from injector.core.model import Policy
    from injector.telemetry.logs import AdmissionLog
    from injector.webhook.metrics import RequestMetrics
    from injector.webhook.overload import Clock, Shedder

logger = logging.getLogger(f"{LOGGER}.webhook")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

ENDPOINTS: Final[dict[str, Endpoint]] = {endpoint.value: endpoint for endpoint in Endpoint}


class Admit(Protocol):
    """`injector.core.admit.admit`."""

    def __call__(self, body: bytes, *, endpoint: Endpoint, policy: Policy, facts: SecretFacts) -> Admission:
        """Answer one review."""
        ...


class Posted(msgspec.Struct, frozen=True, gc=False):
    """A request on an admission path, read whole. Times are in seconds of the endpoint's clock."""

    method: bytes
    path: str
    query: bytes
    content_type: bytes | None
    body: bytes
    began: float  # the first byte was seen
    arrived: float  # the earliest moment at which the first byte can have reached us
    turn: float  # the event loop's turn that read the last byte began here, or a little before

    def __repr__(self) -> str:
        return "Posted(...)"


# Status line and headers, each line ended, without the connection's own headers and the empty line; then the body.
Reply = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A fixed answer to what is no review to decide."""

    status: int
    error: str
    headers: Headers
    reply: Reply

    @classmethod
    def of(cls, status: int, error: str, message: str, *extra: tuple[bytes, bytes]) -> Refusal:
        """The answer with `error` as its stable word and `message` as its one sentence."""
        body = msgspec.json.encode({"error": error, "message": message})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
        head = STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)
        return cls(status, error, headers, (head, body))


NOT_FOUND: Final = Refusal.of(404, "not-found", "There is nothing under this path.")
METHOD_NOT_ALLOWED: Final = Refusal.of(405, "method-not-allowed", "Send reviews with POST.", (b"allow", b"POST"))
BODY_TOO_LARGE: Final = Refusal.of(413, "body-too-large", "The body is larger than this server takes.")
UNSUPPORTED: Final = Refusal.of(415, "unsupported-media-type", "Send reviews as application/json.")
INTERNAL: Final = Refusal.of(500, "internal", "The review could not be decided; the fault is the webhook's.")
OVERLOADED: Final = Refusal.of(
    503, "overloaded", "Too busy to answer in time; try again.", (b"retry-after", b"%d" % RETRY_AFTER)
)


class AdmissionEndpoint:
    """Answers reviews under the three admission paths; knows no other path."""

    def __init__(
        self,
        admit: Admit,
        *,
        policy: Policy,
        shedder: Shedder,
        metrics: RequestMetrics,
        log: AdmissionLog,
        clock: Clock = time.monotonic,
    ) -> None:
        self._admit = admit
        self._policy = policy
        self._facts = SecretFacts()
        self._shedder = shedder
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._limited = RateLimitedLog(logger, clock)

    def answer(self, posted: Posted) -> Reply:
        """Answer one request on an admission path."""
        if posted.method != b"POST":
            return self._refuse(METHOD_NOT_ALLOWED)
        if posted.content_type != b"application/json" and not _is_json(posted.content_type):
            return self._refuse(UNSUPPORTED)
        cause = self._shedder.cause(
            now=self._clock(),
            arrived=posted.arrived,
            turn=posted.turn,
            timeout=caller_timeout(posted.query),
            body=posted.body,
        )
        if cause is not None:
            self._metrics.shed[cause] += 1
            return OVERLOADED.reply
        try:
            admission = self._admit(
                posted.body, endpoint=ENDPOINTS[posted.path], policy=self._policy, facts=self._facts
            )
        except ReviewError as error:
            return self._refuse(_of_error(400, error))
        except PolicyGapError as error:
            # A configuration error: a 5xx, so that the caller's `failurePolicy` decides; counted apart from `internal`.
            return self._refuse(_of_error(500, error))
        except Exception as error:  # noqa: BLE001 - the one boundary
            return self._internal(error)
        seconds = self._clock() - posted.began
        self._metrics.answered(admission.verdict, admission.reason, seconds)
        self._log(admission, seconds)
        return _ADMITTED % len(admission.body), admission.body

    def _refuse(self, refusal: Refusal) -> Reply:
        self._metrics.failed(refusal.error)
        self._limited(logging.WARNING, "request refused", refusal.error, {"error": refusal.error})
        return refusal.reply

    def _internal(self, error: Exception) -> Reply:
        """Answer with 500. Only types and places are logged, because an exception's message may quote the body."""
        places = frames(error.__traceback__)
        kind = type(error).__qualname__
        self._metrics.failed(INTERNAL.error)
        self._limited(logging.ERROR, "review failed", f"{kind} {places[-1]}", {"exception": kind, "frames": places})
        return INTERNAL.reply


_ADMITTED: Final = STATUS_LINE[200] + b"content-type: application/json\r\ncontent-length: %d\r\n"


class AdmissionFront:
    """What the admission port serves besides reviews: the paths in `public` are handed to `rest`, all others are a 404.

    Health and metrics stay off this port: whoever can reach the webhook need not read them.
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
        await send({"type": "http.response.body", "body": NOT_FOUND.reply[1]})


@functools.lru_cache(maxsize=64)
def _is_json(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.partition(b";")[0].strip().lower() == b"application/json"


def _of_error(status: int, error: InjectorError) -> Refusal:
    sentence = str(error)
    return Refusal.of(status, error.reason, f"{sentence[:1].upper()}{sentence[1:]}.")


# https://pkg.go.dev/time#ParseDuration, which is what the API server writes.
_DURATION: Final = re.compile(rb"(?:^|&)timeout=((?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|\xc2\xb5s|ms|s|m|h))+)(?:&|$)")
_PART: Final = re.compile(rb"([\d.]+)(ns|us|\xc2\xb5s|ms|s|m|h)")
_UNITS: Final = {b"ns": 1e-9, b"us": 1e-6, b"\xc2\xb5s": 1e-6, b"ms": 1e-3, b"s": 1.0, b"m": 60.0, b"h": 3600.0}
# Kubernetes' own default and upper bound of a webhook's timeoutSeconds.
_DEFAULT_TIMEOUT: Final = 10.0
_MAX_TIMEOUT: Final = 30.0


@functools.lru_cache(maxsize=64)
def caller_timeout(query: bytes) -> float:
    """Seconds that the caller waits, from `?timeout=`; Kubernetes' default when it does not say."""
    found = _DURATION.search(query)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(found[1])) if found else 0.0
    return min(seconds, _MAX_TIMEOUT) if seconds > 0 else _DEFAULT_TIMEOUT
