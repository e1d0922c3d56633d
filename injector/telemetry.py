"""What the process says of itself: log lines and metrics. Made once, passed in; nothing here is global.

Neither may ever hold the loop up or hold a body's contents. So lines go to a bounded buffer that is written in pieces a
pipe takes without blocking, and are dropped and counted when nobody reads them; names out of a review are logged only
when they look like names; a traceback is told by types and places, never by an exception's words. Counters are plain
integers that a collector turns into samples when somebody scrapes, and every label is one of a set fixed in this
module.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import re
import select
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from injector import __version__
from injector.core.model import Reason, Verdict
from injector.frames import frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from injector.core.admit import Admission

Clock = Callable[[], float]

LOGGER: Final = "injector"


# --- log lines ---

# A pipe that polls as writable has room for this much (POSIX: PIPE_BUF), so a write of it does not block.
_PIECE: Final = 4096
# Bytes that are put together before they are written piece by piece.
_TOGETHER: Final = 32 * 1024


class LogSink:
    """A bounded buffer in front of a file descriptor; `flush` writes what fits without blocking.

    The descriptor stays in blocking mode: it is shared with whoever started us, and their terminal must not change.
    """

    def __init__(self, descriptor: int, *, limit: int = 1024 * 1024) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._limit = limit  # bytes
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._piece = memoryview(b"")  # what is left of the lines that were last put together
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @property
    def pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self._size)

    def put(self, line: bytes) -> None:
        """Take a line (with its newline); drop and count it when the buffer is full."""
        if self._size + len(line) > self._limit:
            self.dropped += 1
            return
        self._size += len(line)
        self._lines.append(line)

    def flush(self) -> None:
        """Write as much as the reader takes now."""
        while self._size and self._writable(0):
            if not self._piece:
                self._piece = memoryview(self._taken())
            try:
                written = os.write(self._descriptor, self._piece[:_PIECE])
            except OSError:
                # The reader is gone: there is nobody to tell.
                written = len(self._piece)
            self._piece = self._piece[written:]
            self._size -= written

    def close(self, patience: float = 1.0) -> None:
        """Write the rest, waiting at most `patience` seconds for a slow reader."""
        until = time.monotonic() + patience
        self.flush()
        while self._size and self._writable(max(0.0, until - time.monotonic())):
            self.flush()

    def _taken(self) -> bytes:
        """The next lines, together; of a long queue only some, so that a slow reader does not cost large blocks."""
        taken: list[bytes] = []
        size = 0
        while self._lines and size < _TOGETHER:
            line = self._lines.popleft()
            size += len(line)
            taken.append(line)
        return b"".join(taken)

    def _writable(self, seconds: float) -> bool:
        return any(event & (select.POLLOUT | select.POLLERR) for _, event in self._poll.poll(seconds * 1000))


# A uid, a namespace, a Pod's name or generateName, an owner as `Kind/name`: lower-case names, as Kubernetes has them.
# Anything else is not shown. It could be whatever its sender likes: a line break, or a token that was pasted into the
# wrong place.
_NAME: Final = re.compile(r"(?:[A-Z][A-Za-z]{0,62}/)?[a-z0-9][-a-z0-9.]{0,252}")
_UNSHOWN: Final = "(not a name)"


def shown_name(text: str) -> str:
    """`text` as a log line may show it: itself when it looks like a name, a fixed phrase otherwise."""
    return text if not text or _NAME.fullmatch(text) else _UNSHOWN


# Namespaces and owners come again and again, uids never do.
_remembered: Final = functools.lru_cache(maxsize=1024)(shown_name)
_LONGEST_REMEMBERED: Final = 128  # characters


def _often(text: str) -> str:
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else shown_name(text)


class _Stamp:
    """Times of log lines; formatted once a millisecond, and the part up to the second once a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = self._millisecond = -1
        self._prefix = self._text = ""

    def __call__(self) -> str:
        millisecond = int(self._clock() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._text = f"{self._prefix}{rest:03d}Z"
        return self._text


_SKIP: Final = Verdict.SKIP


class AdmissionLog:
    """One line per mutation or denial; skips only at debug level."""

    def __init__(self, sink: LogSink, *, as_json: bool, debug: bool, clock: Clock = time.time) -> None:
        self._put = sink.put
        self._stamp = _Stamp(clock)
        self._as_json = as_json
        self._skips = debug

    def __call__(self, admission: Admission, seconds: float) -> None:
        """Tell of one answered review."""
        if admission.verdict is _SKIP and not self._skips:
            return
        # Every value is a name, a word of ours or a number, so nothing needs escaping in either format.
        uid, namespace, owner = shown_name(admission.uid), _often(admission.namespace), _often(admission.owner)
        if self._as_json:
            line = (
                f'{{"time":"{self._stamp()}","level":"info","message":"review answered","uid":"{uid}",'
                f'"namespace":"{namespace}","owner":"{owner}","decision":"{admission.verdict}",'
                f'"reason":"{admission.reason}","warnings":{admission.warnings},'
                f'"duration_ms":{seconds * 1000:.3f}}}\n'
            )
        else:
            line = (
                f"{self._stamp()} INFO    review answered uid={uid} namespace={namespace} owner={owner} "
                f"decision={admission.verdict} reason={admission.reason} warnings={admission.warnings} "
                f"duration_ms={seconds * 1000:.3f}\n"
            )
        self._put(line.encode())


class SinkHandler(logging.Handler):
    """Takes the standard library's records; fields come in `extra={"fields": {...}}`.

    An exception is told by type and places only: its words may quote a body.
    """

    def __init__(self, sink: LogSink, *, as_json: bool, clock: Clock = time.time) -> None:
        super().__init__()
        self._sink = sink
        self._stamp = _Stamp(clock)
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record into the sink."""
        fields: dict[str, object] = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            fields |= {"exception": kind.__qualname__, "frames": frames(trace)}
        level = record.levelname.lower()
        # Arguments are not merged in: a library could hand us anything.
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        if self._as_json:
            told = {"time": self._stamp(), "level": level, "message": message.strip(), **fields}
            self._sink.put(msgspec.json.encode(told) + b"\n")
        else:
            words = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
            self._sink.put(f"{self._stamp()} {level.upper():7} {message.strip()} {words}".rstrip().encode() + b"\n")


def _word(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    bare = text.strip('"')
    return bare if re.fullmatch(r"[^\s\"\\]+", bare) else text


def set_up_logging(sink: LogSink, level: str, *, as_json: bool) -> logging.Logger:
    """Send every logger of the process to `sink`; the only place that touches the library's global state."""
    root = logging.getLogger()
    root.handlers[:] = [SinkHandler(sink, as_json=as_json)]
    root.setLevel(logging.WARNING)
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level.upper())
    return logger


class RateLimitedLog:
    """Logs each kind of event at most once a minute, with the number of events that were not logged before it.

    For events that a caller can repeat at will. The kinds must come from a bounded set.
    """

    def __init__(self, logger: logging.Logger, clock: Clock = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._next: dict[str, float] = {}
        self._not_logged: dict[str, int] = {}

    def __call__(self, level: int, message: str, kind: str, fields: Mapping[str, object]) -> None:
        """Log one event of this kind, or count it for the next line."""
        now = self._clock()
        if now < self._next.get(kind, now):
            self._not_logged[kind] = self._not_logged.get(kind, 0) + 1
            return
        self._next[kind] = now + _LOG_INTERVAL
        self._logger.log(
            level, message, extra={"fields": {**fields, "not_logged_before": self._not_logged.pop(kind, 0)}}
        )


_LOG_INTERVAL: Final = 60.0  # seconds


# --- metrics ---

PREFIX: Final = "dapr_token_injector"

# Seconds. A decision takes about 50 us; the largest timeout that people use is 5 s.
BUCKETS: Final = (
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip

# Reasons that go with each decision: the bounded set of label values.
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

ERRORS: Final[Mapping[str, str]] = {
    "malformed-json": "the body is not JSON",
    "not-a-review": "the body is no AdmissionReview that can be answered",
    "malformed-object": "the object under review is not shaped as its kind is",
    "bad-review": "another fault of a review",
    "policy-gap": "a configuration error: /mutate/default was called and the Policy has no default Secret",
    "internal": "an internal error of the webhook",
    "not-found": "no such path on the admission port",
    "method-not-allowed": "anything but POST",
    "unsupported-media-type": "anything but JSON",
    "body-too-large": "a body above the limit",
    "headers-too-large": "a request line, headers or number of headers above the limit",
    "malformed-http": "not HTTP/1.0 or HTTP/1.1",
    "headers-timeout": "headers came too slowly",
    "body-timeout": "the body came too slowly",
    "response-timeout": "the caller did not read its answer in time",
}
SHED_CAUSES: Final[Mapping[str, str]] = {
    "lag": "the event loop had worked on others for too long",
    "timeout": "the request's own timeout had passed",
    "bodies": "too many large bodies were being read",
}
REFUSALS: Final[Mapping[str, str]] = {
    "limit": "the port was full, and every connection had a request in flight",
    "handshake": "the TLS handshake failed or took too long",
}
# Kinds of `injector.webhook.slots`, and of `injector.webhook.unread`.
EVICTIONS: Final[Mapping[str, str]] = {
    "closing": "was being closed, and its peer took its time",
    "silent": "had not completed a request (admission port)",
    "idle": "was idle and had served no review, or any idle connection of the ops port",
    "served": "was idle and had served reviews (admission port)",
    "unread": "did not read its answer, and unread answers took 32 MiB",
}
RELOADS: Final = ("loaded", "rejected")
CA_PHASES: Final[Mapping[str, str]] = {
    "none": "there is no authority yet, or none that can be read",
    "steady": "one authority signs, and no other is trusted",
    "publishing": "the next authority is on its way into the bundles",
    "settling": "it is in every bundle, and API servers take notice",
    "retiring": "it signs; the one before is trusted until nothing that it signed can live",
}
CA_STEPS: Final[Mapping[str, str]] = {
    "create": "the first authority was made",
    "restore": "somebody emptied the Secret, and what was remembered went back into it",
    "replace": "the authority had run out, and another took its place",
    "add": "the next authority was made",
    "seen": "every bundle was seen to hold it",
    "withdraw": "a bundle lost it again, and the wait began anew",
    "promote": "it began to sign",
    "prune": "the one before is trusted no more",
}
CA_BUNDLE_WRITES: Final[Mapping[str, str]] = {
    "published": "the Secret's authorities had changed",
    "healed": "somebody else had changed a bundle",
}
# Reasons of `injector.kube.errors`, and what the API said.
KUBE_ERRORS: Final[Mapping[str, str]] = {
    "bad-kubeconfig": "there is no usable way to the cluster",
    "unauthorized": "the API server does not know who asks",
    "forbidden": "a right is missing",
    "denied": "a quota, a policy, a webhook or another rule of admission said no",
    "not-found": "an object does not exist",
    "already-exists": "an object exists already",
    "conflict": "another replica, or somebody else, was faster",
    "gone": "a version was too old to be watched from",
    "invalid": "the API server does not take an object",
    "redirected": "the answer was a redirect, which is never followed",
    "unconfirmed": "the answer to a write was not the object that was written",
    "unavailable": "no answer in time, or a connection broke",
    "kubernetes": "anything else",
}


class Metrics(Collector):
    """All counters of the process; whoever counts increments a plain integer."""

    def __init__(self) -> None:
        self.requests: dict[tuple[Verdict, Reason], int] = dict.fromkeys(DECISIONS, 0)
        self.errors: dict[str, int] = dict.fromkeys(ERRORS, 0)
        self.shed: dict[str, int] = dict.fromkeys(SHED_CAUSES, 0)
        self.refused: dict[str, int] = dict.fromkeys(REFUSALS, 0)
        self.evicted: dict[str, int] = dict.fromkeys(EVICTIONS, 0)
        self.reloads: dict[str, int] = dict.fromkeys(RELOADS, 0)
        self.in_flight = 0
        self.certificate_expiry = 0.0  # Unix time; 0 before the first pair
        self.ca_expiry = 0.0  # Unix time; 0 unless the certificates are our own
        self.ca_phase: dict[str, int] = dict.fromkeys(CA_PHASES, 0)
        self.ca_steps: dict[str, int] = dict.fromkeys(CA_STEPS, 0)
        self.ca_bundle_writes: dict[str, int] = dict.fromkeys(CA_BUNDLE_WRITES, 0)
        self.ca_bundle_trusted = 0
        self.kube_errors: dict[str, int] = dict.fromkeys(KUBE_ERRORS, 0)
        self.kube_silence: Callable[[], float] = lambda: 0.0  # seconds
        self.kube_clock_skew = 0.0  # seconds
        self.connections: Callable[[], int] = lambda: 0
        self.loop_lag: Callable[[], float] = lambda: 0.0  # seconds
        self.logs_dropped: Callable[[], int] = lambda: 0
        self._durations = [0] * (len(BUCKETS) + 1)
        self._duration_sum = 0.0
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(namespace=PREFIX, registry=self.registry)

    def answered(self, verdict: Verdict, reason: Reason, seconds: float) -> None:
        """Count one decided review."""
        self.requests[verdict, reason] += 1
        self._durations[bisect_left(BUCKETS, seconds)] += 1
        self._duration_sum += seconds

    def failed(self, error: str) -> None:
        """Count one error; a class that nobody registered counts as `internal`, so that labels stay bounded."""
        self.errors[error if error in self.errors else "internal"] += 1

    def kube_failed(self, reason: str) -> None:
        """Count one call to the API server that failed."""
        self.kube_errors[reason if reason in self.kube_errors else "kubernetes"] += 1

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """All samples, for the registry."""
        yield _counter("admission_requests", "Reviews decided.", ("decision", "reason"), self.requests)
        yield self._histogram()
        yield _counter("admission_errors", "Requests that were no review to decide.", ("error",), _keyed(self.errors))
        yield _counter("admission_shed", "Requests answered with 503 to stay in time.", ("cause",), _keyed(self.shed))
        yield _gauge("admission_in_flight", "Requests whose answer is not written yet.", self.in_flight)
        yield _gauge("connections", "Open connections of the admission port.", self.connections())
        yield _counter("connections_refused", "Connections ended before a request.", ("cause",), _keyed(self.refused))
        yield _counter(
            "connections_evicted", "Connections closed to make room for a new one.", ("kind",), _keyed(self.evicted)
        )
        yield _gauge("event_loop_lag_seconds", "How late the event loop was at its last turn.", self.loop_lag())
        yield _gauge(
            "certificate_expiry_timestamp_seconds",
            "When the serving certificate ends, in Unix time.",
            self.certificate_expiry,
        )
        yield _counter("certificate_reloads", "New serving pairs seen.", ("outcome",), _keyed(self.reloads))
        yield from self._authority()
        yield _counter("logs_dropped", "Log lines that nobody read in time.", (), {(): self.logs_dropped()})
        build = GaugeMetricFamily(f"{PREFIX}_build_info", "What is running.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build

    def _authority(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What is zero unless the certificates are our own."""
        yield _gauge("ca_expiry_timestamp_seconds", "When the signing authority ends, in Unix time.", self.ca_expiry)
        phases = GaugeMetricFamily(f"{PREFIX}_ca_phase", "1 for the phase of the authority's life.", labels=("phase",))
        for phase, value in self.ca_phase.items():
            phases.add_metric((phase,), value)
        yield phases
        yield _counter(
            "ca_steps", "Steps of the authority's life that this replica took.", ("step",), _keyed(self.ca_steps)
        )
        yield _counter(
            "ca_bundle_writes", "Bundles that this replica wrote.", ("cause",), _keyed(self.ca_bundle_writes)
        )
        yield _gauge(
            "ca_bundle_trusted", "1 while every registered bundle trusts what is served.", self.ca_bundle_trusted
        )
        yield _counter("kube_errors", "Calls to the API server that failed.", ("reason",), _keyed(self.kube_errors))
        yield _gauge(
            "kube_silence_seconds",
            "How long the API server has said nothing of one of the objects that are watched.",
            self.kube_silence(),
        )
        yield _gauge(
            "kube_clock_skew_seconds",
            "How far the API server's clock is ahead of ours; less than two seconds are told as none.",
            self.kube_clock_skew,
        )

    def _histogram(self) -> HistogramMetricFamily:
        total, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._durations, strict=True):
            total += count
            buckets.append((bound, total))
        name = f"{PREFIX}_admission_duration_seconds"
        help_ = "From a review's first byte read to its answer written."
        return HistogramMetricFamily(name, help_, buckets=buckets, sum_value=self._duration_sum)


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(key,): count for key, count in counts.items()}


def _counter(name: str, help_: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{PREFIX}_{name}", help_, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", help_, value=value)
