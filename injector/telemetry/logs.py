"""Log lines in a bounded buffer that never blocks the event loop.

Lines are written in parts that a pipe accepts without blocking, and dropped and counted if they are not read. Names in
a review are logged only if they are valid names. Exceptions are logged by type and code locations, without message.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from injector.core.model import Reason, Verdict
from injector.frames import frames

if TYPE_CHECKING:
    from injector.core.admit import Admission

Clock = Callable[[], float]

LOGGER: Final = "injector"

# Bytes that a writable pipe accepts without blocking (POSIX: PIPE_BUF).
_PIECE: Final = 4096
# Bytes of lines that are joined before they are written in parts.
_TOGETHER: Final = 32 * 1024


class LogSink:
    """A bounded buffer in front of a file descriptor; `flush` writes what fits without blocking.

    The descriptor stays in blocking mode: the parent process shares it, and its terminal must not change.
    """

    def __init__(self, descriptor: int, *, limit: int = 1024 * 1024) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._limit = limit  # bytes
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._piece = memoryview(b"")  # the unwritten rest of the joined lines
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @property
    def pending(self) -> bool:
        """True if there is something to write."""
        return bool(self._size)

    def put(self, line: bytes) -> None:
        """Add a line (with its newline); drop and count it if the buffer is full."""
        if self._size + len(line) > self._limit:
            self.dropped += 1
            return
        self._size += len(line)
        self._lines.append(line)

    def flush(self) -> None:
        """Write as much as possible without blocking."""
        while self._size and self._writable(0):
            if not self._piece:
                self._piece = memoryview(self._taken())
            try:
                written = os.write(self._descriptor, self._piece[:_PIECE])
            except OSError:
                # The reader has closed its end: the line is lost.
                written = len(self._piece)
            self._piece = self._piece[written:]
            self._size -= written

    def close(self, patience: float = 1.0) -> None:
        """Write the rest; wait at most `patience` seconds for a slow reader."""
        until = time.monotonic() + patience
        self.flush()
        while self._size and self._writable(max(0.0, until - time.monotonic())):
            self.flush()

    def _taken(self) -> bytes:
        """Return the next lines, joined, up to a limit, so that a slow reader does not need large blocks."""
        taken: list[bytes] = []
        size = 0
        while self._lines and size < _TOGETHER:
            line = self._lines.popleft()
            size += len(line)
            taken.append(line)
        return b"".join(taken)

    def _writable(self, seconds: float) -> bool:
        return any(event & (select.POLLOUT | select.POLLERR) for _, event in self._poll.poll(seconds * 1000))


# A uid, a namespace, a Pod's name or generateName, an owner as `Kind/name`: lower-case names, as in Kubernetes.
# Anything else is not shown: it could contain a line break, or a token that was pasted into the wrong field.
_NAME: Final = re.compile(r"(?:[A-Z][A-Za-z]{0,62}/)?[a-z0-9][-a-z0-9.]{0,252}")
_UNSHOWN: Final = "(not a name)"


def shown_name(text: str) -> str:
    """Return a text for a log line: unchanged if it is a valid name, otherwise a placeholder."""
    return text if not text or _NAME.fullmatch(text) else _UNSHOWN


# Namespaces and owners repeat, uids do not.
_remembered: Final = functools.lru_cache(maxsize=1024)(shown_name)
_LONGEST_REMEMBERED: Final = 128  # characters


def _often(text: str) -> str:
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else shown_name(text)


class _Stamp:
    """Formats the time of log lines, once per millisecond; the part up to the second once per second."""

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
_WOULD_INJECT: Final = Reason.WOULD_INJECT
_WOULD_DENY: Final = Reason.WOULD_DENY


class AdmissionLog:
    """One line per mutation or denial, also of shadow mode; other skips only at debug level."""

    def __init__(self, sink: LogSink, *, as_json: bool, debug: bool, clock: Clock = time.time) -> None:
        self._put = sink.put
        self._stamp = _Stamp(clock)
        self._as_json = as_json
        self._skips = debug

    def __call__(self, admission: Admission, seconds: float) -> None:
        """Log one answered review."""
        if admission.verdict is _SKIP and not self._skips:
            reason = admission.reason
            if reason is not _WOULD_INJECT and reason is not _WOULD_DENY:
                return
        # Every value is a valid name, a constant or a number, so nothing needs to be escaped.
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
    """Handles records of the standard library; fields are in `extra={"fields": {...}}`.

    Exceptions are logged by type and code locations only: their messages may quote a body.
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
        # Arguments are not merged in: those of a library may contain any value.
        message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        if self._as_json:
            content = {"time": self._stamp(), "level": level, "message": message.strip(), **fields}
            self._sink.put(msgspec.json.encode(content) + b"\n")
        else:
            words = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
            self._sink.put(f"{self._stamp()} {level.upper():7} {message.strip()} {words}".rstrip().encode() + b"\n")


def _word(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    bare = text.strip('"')
    return bare if re.fullmatch(r"[^\s\"\\]+", bare) else text


def set_up_logging(sink: LogSink, level: str, *, as_json: bool) -> logging.Logger:
    """Send all loggers of the process to `sink`; the only change of the library's global state."""
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
