"""Metrics of the two ports: requests, connections and the event loop."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from injector.core import errors
from injector.core.model import Reason, Verdict
from injector.telemetry.metrics import PREFIX, counter, gauge, keyed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from injector.telemetry.metrics import Family

# Seconds. A decision takes about 50 us; the largest common timeout is 5 s.
BUCKETS: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip

# Reasons of each decision: the fixed set of label values.
_DENIALS: Final = (
    Reason.INVALID_SECRET_NAME,
    Reason.INVALID_SECRET_KEY,
    Reason.SECRET_NOT_ALLOWED,
    Reason.TOO_MANY_CONTAINERS,
)
DECISIONS: Final = tuple(
    (
        Verdict.INJECT if reason is Reason.INJECTED else Verdict.DENY if reason in _DENIALS else Verdict.SKIP,
        reason,
    )
    for reason in Reason
)

INTERNAL_ERROR: Final = "internal"
ERRORS: Final[Mapping[str, str]] = {
    errors.MalformedJSONError.reason: "the body is not JSON",
    errors.NotAReviewError.reason: "the body is not a valid AdmissionReview",
    errors.MalformedObjectError.reason: "the object under review does not match the schema of its kind",
    errors.ReviewError.reason: "another error in a review",
    errors.PolicyGapError.reason: (
        "a configuration error: /mutate/default was called and the Policy has no default Secret"
    ),
    INTERNAL_ERROR: "an internal error of the webhook",
    "not-found": "the admission port does not serve this path",
    "method-not-allowed": "the method is not POST",
    "unsupported-media-type": "the content type is not JSON",
    "body-too-large": "the body exceeds the limit",
    "headers-too-large": "the request line, the headers or the number of headers exceed the limit",
    "malformed-http": "the request is not HTTP/1.0 or HTTP/1.1",
    "headers-timeout": "the headers did not arrive in time",
    "body-timeout": "the body did not arrive in time",
    "response-timeout": "the client did not read the response in time",
}
SHED_CAUSES: Final[Mapping[str, str]] = {
    "lag": "the event loop was busy with other requests for too long",
    "timeout": "the timeout of the request had passed",
    "bodies": "too many large bodies were being read",
}
REFUSALS: Final[Mapping[str, str]] = {
    "limit": "the port was full, and every connection had a request in flight",
    "handshake": "the TLS handshake failed or took too long",
}
# Kinds of `injector.webhook.slots`, and of `injector.webhook.unread`.
EVICTIONS: Final[Mapping[str, str]] = {
    "closing": "was being closed, and the client had not closed its side yet",
    "silent": "had not completed a request (admission port)",
    "idle": "was idle and had served no review, or any idle connection of the ops port",
    "served": "was idle and had served reviews (admission port)",
    "unread": "did not read its response, and unread responses took 32 MiB",
}


class RequestMetrics(Collector):
    """Counters of requests and connections; the code that counts increments a plain integer."""

    def __init__(self) -> None:
        self.requests: dict[tuple[Verdict, Reason], int] = dict.fromkeys(DECISIONS, 0)
        self.errors: dict[str, int] = dict.fromkeys(ERRORS, 0)
        self.shed: dict[str, int] = dict.fromkeys(SHED_CAUSES, 0)
        self.refused: dict[str, int] = dict.fromkeys(REFUSALS, 0)
        self.evicted: dict[str, int] = dict.fromkeys(EVICTIONS, 0)
        self.in_flight = 0
        self._durations = [0] * (len(BUCKETS) + 1)
        self._duration_sum = 0.0

    def answered(self, verdict: Verdict, reason: Reason, seconds: float) -> None:
        """Count one decided review."""
        self.requests[verdict, reason] += 1
        self._durations[bisect_left(BUCKETS, seconds)] += 1
        self._duration_sum += seconds

    def failed(self, error: str) -> None:
        """Count one error. An unknown class counts as `internal`, so that the set of labels stays fixed."""
        self.errors[error if error in self.errors else INTERNAL_ERROR] += 1

    def collect(self) -> Iterator[Family]:
        """All samples."""
        yield counter("admission_requests", "Reviews decided.", ("decision", "reason"), self.requests)
        yield self._histogram()
        yield counter(
            "admission_errors", "Requests that were rejected before a decision.", ("error",), keyed(self.errors)
        )
        yield counter("admission_shed", "Requests rejected with 503 because of overload.", ("cause",), keyed(self.shed))
        yield gauge("admission_in_flight", "Requests in progress.", self.in_flight)
        yield counter(
            "connections_refused", "Connections closed before their first request.", ("cause",), keyed(self.refused)
        )
        yield counter(
            "connections_evicted", "Connections closed to make room for a new one.", ("kind",), keyed(self.evicted)
        )

    def _histogram(self) -> HistogramMetricFamily:
        total, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._durations, strict=True):
            total += count
            buckets.append((bound, total))
        name = f"{PREFIX}_admission_duration_seconds"
        help_ = "Time from the first byte of a review to its response."
        return HistogramMetricFamily(name, help_, buckets=buckets, sum_value=self._duration_sum)


class ServerMetrics(Collector):
    """Gauges of the server, read at each scrape."""

    def __init__(self, connections: Callable[[], int], loop_lag: Callable[[], float]) -> None:
        self._connections = connections
        self._loop_lag = loop_lag  # seconds

    def collect(self) -> Iterator[Family]:
        """All samples."""
        yield gauge("connections", "Open connections of the admission port.", self._connections())
        yield gauge("event_loop_lag_seconds", "Delay of the last iteration of the event loop.", self._loop_lag())
