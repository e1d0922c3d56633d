"""The admission endpoint: an ASGI callable that never waits for anything but its request.

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

from injector.core.errors import InjectorError, PolicyGapError, ReviewError
from injector.core.model import Endpoint, SecretFacts
from injector.telemetry import LOGGER

if TYPE_CHECKING:
    from injector.core.admit import Admission
    from injector.core.model import Policy
    from injector.telemetry import AdmissionLog, Metrics
    from injector.webhook.overload import Clock, Shedder

logger = logging.getLogger(f"{LOGGER}.webhook")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Key of the server's timing in a scope's extensions: (began, arrived, heard), all in seconds of the endpoint's clock.
TIMING: Final = "dapr-token-injector.timing"

ENDPOINTS: Final[dict[str, Endpoint]] = {endpoint.value: endpoint for endpoint in Endpoint}


class Admit(Protocol):
    """`injector.core.admit.admit`."""

    def __call__(self, body: bytes, *, endpoint: Endpoint, policy: Policy, facts: SecretFacts) -> Admission:
        """Answer one review."""
        ...


_JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A fixed answer to what is no review to decide."""

    status: int
    error: str
    body: bytes
    headers: Headers

    @classmethod
    def of(cls, status: int, error: str, message: str, *extra: tuple[bytes, bytes]) -> Refusal:
        """The answer with `error` as its stable word and `message` as its one sentence."""
        body = msgspec.json.encode({"error": error, "message": message})
        return cls(status, error, body, [_JSON, (b"content-length", b"%d" % len(body)), *extra])


NOT_FOUND: Final = Refusal.of(404, "not-found", "There is nothing under this path.")
METHOD_NOT_ALLOWED: Final = Refusal.of(405, "method-not-allowed", "Send reviews with POST.", (b"allow", b"POST"))
BODY_TOO_LARGE: Final = Refusal.of(413, "body-too-large", "The body is larger than this server takes.")
UNSUPPORTED: Final = Refusal.of(415, "unsupported-media-type", "Send reviews as application/json.")
INTERNAL: Final = Refusal.of(500, "internal", "The review could not be decided; the fault is the webhook's.")
# 1 and not 0: the API server makes at most ten retries, at the pace that it is told.
OVERLOADED: Final = Refusal.of(503, "overloaded", "Too busy to answer in time; try again.", (b"retry-after", b"1"))


class AdmissionEndpoint:
    """Answers reviews under the three admission paths; knows no other path."""

    def __init__(  # noqa: PLR0913 - collaborators, all of them named at the one call
        self,
        admit: Admit,
        *,
        policy: Policy,
        shedder: Shedder,
        metrics: Metrics,
        log: AdmissionLog,
        max_body_bytes: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._admit = admit
        self._policy = policy
        self._facts = SecretFacts()
        self._shedder = shedder
        self._metrics = metrics
        self._log = log
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._grumble = _Grumble(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request on an admission path."""
        refusal = _unfit(scope)
        if refusal is not None:
            await self._refuse(refusal, send)
            return
        body = await self._body(receive)
        if body is None:
            await self._refuse(BODY_TOO_LARGE, send)
            return
        now = self._clock()
        began, arrived, heard = scope.get("extensions", _NOTHING).get(TIMING) or (now, now, now)
        timeout = caller_timeout(scope["query_string"])
        cause = self._shedder.cause(now=now, arrived=arrived, heard=heard, timeout=timeout)
        if cause is not None:
            self._metrics.shed[cause] += 1
            await _send(OVERLOADED.status, OVERLOADED.headers, OVERLOADED.body, send)
            return
        await self._decide(body, ENDPOINTS[scope["path"]], began, send)

    async def _decide(self, body: bytes, endpoint: Endpoint, began: float, send: Send) -> None:
        try:
            admission = self._admit(body, endpoint=endpoint, policy=self._policy, facts=self._facts)
        except ReviewError as error:
            await self._refuse(_of_error(400, error), send)
        except PolicyGapError as error:
            await self._refuse(_of_error(500, error), send)
        except Exception:
            # The one boundary. The handler writes types and places only, for an exception's words may quote the body.
            logger.exception("review failed")
            await self._refuse(INTERNAL, send)
        else:
            answer = admission.body
            await _send(200, [_JSON, (b"content-length", b"%d" % len(answer))], answer, send)
            seconds = self._clock() - began
            self._metrics.answered(admission.verdict, admission.reason, seconds)
            self._log(admission, seconds)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None when it is too large."""
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body") and len(body) <= self._max_body_bytes:
            message = await receive()
            body += message.get("body", b"")
        return body if len(body) <= self._max_body_bytes else None

    async def _refuse(self, refusal: Refusal, send: Send) -> None:
        self._metrics.failed(refusal.error)
        self._grumble(refusal.error)
        await _send(refusal.status, refusal.headers, refusal.body, send)


class AdmissionFront:
    """What the admission port serves: the endpoint on its paths, `rest` on the paths in `public`, nothing else.

    Health and metrics stay off this port: whoever can reach the webhook need not read them.
    """

    def __init__(self, endpoint: ASGIApp, rest: ASGIApp, public: frozenset[str], metrics: Metrics) -> None:
        self._endpoint = endpoint
        self._rest = rest
        self._public = public
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path in ENDPOINTS:
            await self._endpoint(scope, receive, send)
        elif path in self._public:
            await self._rest(scope, receive, send)
        else:
            self._metrics.failed("not-found")
            await _send(NOT_FOUND.status, NOT_FOUND.headers, NOT_FOUND.body, send)


async def _send(status: int, headers: Headers, body: bytes, send: Send) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_NOTHING: Final[dict[str, Any]] = {}


def _unfit(scope: Scope) -> Refusal | None:
    """What is wrong with a request before its body is looked at."""
    if scope["method"] != "POST":
        return METHOD_NOT_ALLOWED
    for name, value in scope["headers"]:
        if name == b"content-type":
            return None if value == b"application/json" or _is_json(value) else UNSUPPORTED
    return UNSUPPORTED


@functools.lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


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


class _Grumble:
    """Logs errors of callers, each class at most once a minute: nobody sees their answers, and a flood helps no one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}

    def __call__(self, error: str) -> None:
        now = self._clock()
        if now < self._next.get(error, now):
            self._kept_back[error] = self._kept_back.get(error, 0) + 1
            return
        self._next[error] = now + _GRUMBLE_EVERY
        fields = {"error": error, "not_logged_before": self._kept_back.pop(error, 0)}
        logger.warning("request refused", extra={"fields": fields})


_GRUMBLE_EVERY: Final = 60.0  # seconds
