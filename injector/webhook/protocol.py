"""One connection: uvicorn's HTTP protocol with the deadlines, limits and fast path that an admission webhook needs.

uvicorn has no timer before the first response, reads bodies only as fast as the app receives them, and starts a task
per request. Here a request is first read completely, up to a limit and a deadline. A path that never waits (in
`sync_routes`) is then answered by a plain function, in the callback that received the last byte. uvicorn answers all
other paths in a task, with an empty body: no other route reads a body.

A deadline costs one attribute per request: every connection has the time of its next deadline, and the listener checks
all connections ten times per second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from injector.frames import frames
from injector.telemetry.logs import LOGGER, RateLimitedLog
from injector.webhook.endpoint import BODY_TOO_LARGE, INTERNAL, OVERLOADED, ErrorResponse, HTTPRequest
from injector.webhook.slots import Slots
from injector.webhook.unread import UnreadAnswers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from uvicorn._types import HTTPScope
    from uvicorn.config import Config

    from injector.webhook.endpoint import HTTPResponse
    from injector.webhook.metrics import RequestMetrics
    from injector.webhook.overload import LoopMonitor
    from injector.webhook.slots import Queue

logger = logging.getLogger(f"{LOGGER}.http")

# Maximum bytes of a request before its body. An API server sends a few hundred; the parser itself has no limit. The
# same limit applies to the framing between two parts of a body, and to the bytes after its last part.
MAX_HEAD: Final = 64 * 1024
# Not a limit of Kubernetes: an API server sends about 8 headers. A header takes about 150 bytes more than its text.
MAX_HEADERS: Final = 100
# Bytes. Not a limit of Kubernetes: an API server sends about 30. Parts of the target are kept as long as the connection
# is open.
MAX_TARGET: Final = 8 * 1024
# The limit of connections bounds the memory of bodies up to this size, `max_bodies` that of larger ones.
LARGE_BODY: Final = 64 * 1024
# Maximum size of a chunked body including its framing, as a multiple of the limit for bodies.
_FRAMING: Final = 2
# Bytes that are parsed at once: enough for a complete small request.
_SLICE: Final = LARGE_BODY + 1024
# Parts of a body below this size are joined to blocks, because each Python object takes about 50 additional bytes.
_PIECE: Final = 16 * 1024
_BLOCK: Final = 64 * 1024
# Bytes of a response that are passed to the transport at once. The rest is kept here until the client has read these.
_ANSWER_PIECE: Final = 16 * 1024
# Additional bytes that count for a client that does not read: the bytes of its responses in the transport (up to 64 KiB
# and one part), and the requests that the client sent in the meantime.
_IN_TRANSPORT: Final = 128 * 1024
# Bytes that the transport keeps before it calls `pause_writing`. This is more than TLS itself sends after a handshake:
# if these bytes paused the transport, it would never send them.
_WRITE_AHEAD: Final = 4 * 1024
# Bytes that TLS reads from a client that does not read its response.
_READ_AHEAD: Final = 16 * 1024
# Seconds for closing a connection: to send the remaining bytes, and to wait until the client has closed its side.
CLOSE_TIMEOUT: Final = 2.0
# Seconds between the TLS close notification to an evicted idle connection and its end.
_CLOSE_NOTIFY_DELAY: Final = 0.01

MALFORMED: Final = ErrorResponse.of(400, "malformed-http", "The request is not HTTP/1.0 or HTTP/1.1.")
HEAD_TOO_LARGE: Final = ErrorResponse.of(431, "headers-too-large", "The request line or headers exceed the size limit.")
BODY_LATE: Final = ErrorResponse.of(408, "body-timeout", "The body did not arrive in time.")


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes."""

    headers_timeout: float
    body_timeout: float
    keep_alive_timeout: float
    max_body_bytes: int
    max_bodies: int


@dataclass(slots=True, eq=False)
class Port:
    """State that all connections of one port share."""

    # Paths with a synchronous function; the app serves all others.
    sync_routes: Mapping[str, Callable[[HTTPRequest], HTTPResponse]]
    limits: Limits
    monitor: LoopMonitor
    metrics: RequestMetrics
    config: Config
    state: ServerState = field(default_factory=ServerState)
    slots: Slots = field(default_factory=lambda: Slots(by_history=False))
    unread: UnreadAnswers = field(default_factory=UnreadAnswers)
    overloaded: ErrorResponse = OVERLOADED
    draining: bool = False
    large_bodies: int = 0
    limited: RateLimitedLog = field(default_factory=lambda: RateLimitedLog(logger))
    small: int = field(init=False)  # bytes of a body up to which no limit is checked
    limit_digits: int = field(init=False)  # of `max_body_bytes`

    def __post_init__(self) -> None:
        self.small = min(LARGE_BODY, self.limits.max_body_bytes)
        self.limit_digits = len(str(self.limits.max_body_bytes))


class Stage(Enum):
    """State of a connection."""

    FRESH = "nothing has arrived yet"
    IDLE = "between requests"
    HEAD = "headers are arriving"
    BODY = "a body is arriving"
    EXCESS = "a body is arriving; its response will be 503"
    ANSWER = "a task creates the response"
    UNREAD = "the client has not read its response; nothing more is read from it"
    CLOSED = "the connection is being closed; incoming data is dropped"


# Python 3.11 takes 0.25 us to look up an enum member in its class, and each request needs 20 of these look-ups.
_FRESH, _IDLE, _HEAD, _BODY, _EXCESS, _ANSWER, _UNREAD, _CLOSED = Stage


class Connection(HttpToolsProtocol):
    """One connection, with or without TLS. The listener calls `expire` after `deadline`."""

    # Slots are faster: together with those of its base class, the connection has too many attributes for a fast look-up
    # by name.
    __slots__ = (
        "_answer", "_arrived", "_began", "_content_type", "_in_request", "_is_large", "_keep_alive",
        "_length", "_method", "_parts", "_path", "_progress", "_query", "_read", "_size", "_tail", "_target",
        "_uncertain", "_unsent", "deadline", "handshake", "opened", "port", "queue", "stage",
    )  # fmt: skip

    def __init__(self, port: Port, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(port.config, port.state, {}, loop)
        self.port = port
        self.stage = _FRESH
        self.deadline = _NEVER  # in the monitor's time
        self.opened = False  # if true, the event loop will call `connection_lost`
        self.handshake: asyncio.Task[None] | None = None  # the task that opens the connection
        self.queue: Queue | None = None  # see `slots`
        # Bytes received of the current head or body. If another request ended in the same slice, up to `_uncertain` of
        # a head's bytes may belong to that request.
        self._size = self._uncertain = 0
        self._read = 0  # bytes of the current slice
        self._progress = 0  # `_size` when the last part of the body arrived
        # The body: its parts, and a block of joined small parts.
        self._parts: list[bytes] = []
        self._tail = bytearray()
        self._length = 0
        self._in_request = self._is_large = False
        self._method = b""
        self._path = ""
        self._target = self._query = b""
        self._content_type: bytes | None = None
        self._answer: Callable[[HTTPRequest], HTTPResponse] | None = None
        self._began = self._arrived = 0.0
        self._keep_alive = True
        self._unsent = memoryview(b"")  # rest of a response that the client reads slowly or not at all

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the first deadline, after the TLS handshake if there is one.

        With TLS it is the keep-alive timeout, because an API server opens spare connections and uses them later.
        Closing one while the API server sends on it would lose the request. Without TLS it is the timeout for headers.
        """
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn narrows the type, too
        self.opened = True
        self.transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        if self._is_tls:
            # Maximum that TLS reads from the socket while reading is paused.
            self.transport.set_read_buffer_limits(high=_READ_AHEAD)  # type: ignore[attr-defined] # only transports with TLS have this method
        limits = self.port.limits
        self.deadline = self.port.monitor.now + (limits.keep_alive_timeout if self._is_tls else limits.headers_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything after the client or this process has closed the connection."""
        self._leave_request()
        self._drop_answer()
        self.stage = _CLOSED
        self.deadline = _NEVER
        super().connection_lost(exc)

    def data_received(self, data: bytes | memoryview) -> None:
        """Parse the received data; the parser calls the methods below."""
        if len(data) <= _SLICE:
            self._parse(data)
            return
        # The parser keeps an incomplete header of any length. So limits are checked between slices.
        for start in range(0, len(data), _SLICE):
            if not self._parse(data[start : start + _SLICE]):
                return

    def _parse(self, data: bytes | memoryview) -> bool:
        """Parse a slice; return False if the following slices must not be parsed."""
        stage = self.stage
        self._read = size = len(data)
        if stage is _IDLE or stage is _FRESH:
            self._size, self._uncertain = size, 0
        elif stage is _UNREAD:
            self._keep_alive = False  # drop data that arrived before the last response was read: see `on_message_begin`
            return False
        elif stage is _CLOSED:
            return False
        else:
            self._size += size
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__)
        except httptools.HttpParserUpgrade:
            # The request is answered as usual. The data after it would be of a protocol that is not supported.
            self._end()
            return False
        except httptools.HttpParserError:
            self.refuse(MALFORMED)
        else:
            if self._size > MAX_HEAD:
                self._check_size()
        return self.stage is not _CLOSED

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its responses."""
        super().pause_writing()
        self.flow.pause_reading()
        self.port.slots.stall(self)

    def resume_writing(self) -> None:
        """Send the rest of the response; continue with the next request when all of it is sent."""
        super().resume_writing()
        self._send_rest()
        if not self.flow.write_paused:
            self.flow.resume_reading()
        if self.stage is _UNREAD:
            self._answered()

    # --- called by the parser; each method ignores its data in other stages than its own ---

    def on_message_begin(self) -> None:
        """Handle the first byte of a request."""
        stage = self.stage
        if stage is _IDLE or stage is _FRESH:
            port = self.port
            monitor = port.monitor
            self.stage = _HEAD
            self.deadline = monitor.now + port.limits.headers_timeout
            self._began = time.monotonic()
            self._arrived = monitor.before
            self.url = b""
            self.headers = []
        elif stage is _ANSWER:
            # The client did not wait for the last response. API servers always wait; other clients must retry on a new
            # connection.
            self.cycle.keep_alive = False
        elif stage is _UNREAD:
            self._keep_alive = False

    def on_url(self, url: bytes) -> None:
        """Keep a part of the request target."""
        if self.stage is _HEAD:
            self.url += url
            if len(self.url) > MAX_TARGET:
                self.refuse(HEAD_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; ignore trailers of a chunked body."""
        if self.stage is _HEAD:
            self.headers.append((name.lower(), value))
            if len(self.headers) > MAX_HEADERS:  # at once: one read may bring thousands
                self.refuse(HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Check the complete head, reject a request that is too large, and prepare for the body."""
        if self.stage is not _HEAD:
            return
        parser, port = self.parser, self.port
        version = parser.get_http_version()
        self._keep_alive = version == "1.1" and parser.should_keep_alive()
        self._method = parser.get_method()
        if self._size > MAX_HEAD and self._head_size() > MAX_HEAD:
            self.refuse(HEAD_TOO_LARGE)
            return
        if version not in _VERSIONS or not self._find_path():
            self.refuse(MALFORMED)
            return
        if self._answer is not None:
            self._in_request = True
            port.metrics.in_flight += 1
        limits = port.limits
        self.stage = _BODY
        self.deadline = port.monitor.now + limits.body_timeout
        self._length = self._size = self._progress = 0
        headers = dict(self.headers)
        self._content_type = headers.get(b"content-type")
        length = headers.get(b"content-length", b"")
        # A number with fewer characters than the limit is below it.
        if len(length) >= port.limit_digits and _is_above(length, limits.max_body_bytes):
            self.refuse(BODY_TOO_LARGE)
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._answer is not None:
            self.headers = []  # nothing reads them any more

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._progress = self._size
        if self.stage is not _BODY:
            return
        self._length = length = self._length + len(body)
        if length > self.port.small and not self._may_go_on():
            return
        if self._parts:
            self._add(body)
        else:
            self._parts = [body]

    def on_message_complete(self) -> None:
        """Answer the complete request."""
        if self.stage is _BODY:
            if self._answer is None:
                self._answer_in_task()
            else:
                self._serve(self._answer)
        elif self.stage is _EXCESS:
            self._write(self.port.overloaded.response)

    def on_response_complete(self) -> None:
        """Continue after a task has written its response (called by uvicorn's cycle)."""
        self._leave_request()
        if self.transport.is_closing():
            self._closing()
        elif self.stage is _ANSWER:
            self._answered()

    # --- called by the listener ---

    def expire(self) -> None:
        """End the request or the connection, because its deadline has passed."""
        stage, self.deadline = self.stage, _NEVER
        if stage is _IDLE or (stage is _FRESH and self._is_tls):
            self._end()
        elif stage is _BODY or stage is _EXCESS:
            self.refuse(BODY_LATE)
        elif stage is _CLOSED:
            self.transport.abort()
        else:
            is_answer = stage is _ANSWER or stage is _UNREAD
            self.port.metrics.failed("response-timeout" if is_answer else "headers-timeout")
            self._abort()

    @property
    def is_busy(self) -> bool:
        """Whether eviction would lose a request in progress.

        An incomplete request counts only if the connection has served reviews before. Otherwise a client could keep a
        slot by sending half of its first request.
        """
        stage, slots = self.stage, self.port.slots
        if stage is _ANSWER:
            return not self.flow.write_paused
        is_partial = stage is _HEAD or stage is _BODY or stage is _EXCESS
        return is_partial and self.queue is slots.served and slots.served is not slots.silent

    def evict(self) -> None:
        """Close to make room for another connection, without waiting for the client."""
        is_idle, self.stage = self.stage is _IDLE, _CLOSED
        self.deadline = _NEVER
        self._drop_body()
        self._drop_answer()
        if not self.opened:
            if self.handshake is not None:
                self.handshake.cancel()
        elif is_idle and self._is_tls:
            # Notifies a client that keeps the connection for later use.
            self.transport.close()
            self.loop.call_later(_CLOSE_NOTIFY_DELAY, self.transport.abort)
        else:
            self.transport.abort()

    def refuse(self, error: ErrorResponse) -> None:
        """Reject a request and close. Reading continues for a short time, so that the client receives the response."""
        self.port.metrics.failed(error.error)
        self.port.limited(logging.WARNING, "request rejected", error.error, {"error": error.error})
        self._keep_alive = False
        if self.stage is _ANSWER or self.stage is _UNREAD:
            self._abort()
        else:
            self._write(error.response)

    def abort_unread(self) -> None:
        """End the connection, because the responses that clients do not read take too much memory."""
        self.port.metrics.evicted["unread"] += 1
        self._abort()

    def close_if_idle(self) -> None:
        """End the connection unless a request is in progress."""
        if self.stage is _IDLE or self.stage is _FRESH:
            self._end()

    # --- internal ---

    @property
    def _is_tls(self) -> bool:
        return self.scheme == "https"

    def _find_path(self) -> bool:
        """Split the target and find the function for its path; return False if the target is invalid."""
        self._target, _, self._query = self.url.partition(b"?")
        self._path = path = self._target.decode("latin-1")  # which decodes any bytes; all routes are ASCII
        self._answer = answer = self.port.sync_routes.get(path)
        if answer is not None:
            return True
        try:
            parsed = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            return False
        self._target, self._query = parsed.path or b"/", parsed.query or b""
        self._path = unquote_to_bytes(self._target).decode("utf-8", "replace")
        self._answer = self.port.sync_routes.get(self._path)
        return True

    def _head_size(self) -> int:
        """Return the bytes of the parsed head, without optional white space."""
        request_line = len(self._method) + len(self.url) + len(b"  HTTP/1.1\r\n")
        return (
            request_line + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers) + len(b"\r\n")
        )

    def _add(self, body: bytes) -> None:
        """Keep a part of the body, with little memory in addition to its own bytes even if it is small."""
        tail = self._tail
        if len(body) < _PIECE:
            tail += body
            if len(tail) < _BLOCK:
                return
            body = b""
        if tail:
            self._parts.append(bytes(tail))
            tail.clear()
        if body:
            self._parts.append(body)

    def _drop_body(self) -> None:
        self._parts = []
        if self._tail:
            self._tail.clear()

    def _take_body(self) -> bytes:
        """Return the complete body, and drop its parts."""
        parts = self._parts
        if len(parts) == 1 and not self._tail:
            return parts[0]
        whole = b"".join((*parts, self._tail))
        self._drop_body()
        return whole

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self.parser.get_http_version(),
            "method": self._method.decode("ascii"),
            "scheme": self.scheme,
            "path": self._path,
            "raw_path": self._target,
            "query_string": self._query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": {},
        }

    def _check_size(self) -> None:
        """Reject a request of more than `MAX_HEAD` bytes whose headers, or framing of the body, exceed the limits."""
        size, stage = self._size, self.stage
        if stage is _HEAD:
            if size - self._uncertain > MAX_HEAD:
                self.refuse(HEAD_TOO_LARGE)
        elif (stage is _BODY or stage is _EXCESS) and (
            size - self._progress > MAX_HEAD or size > MAX_HEAD + _FRAMING * self.port.limits.max_body_bytes
        ):
            self.refuse(BODY_TOO_LARGE)

    def _may_go_on(self) -> bool:
        """Whether to continue reading a large body: it and the number of large bodies must be within the limits."""
        port = self.port
        if self._length > port.limits.max_body_bytes:
            self.refuse(BODY_TOO_LARGE)
            return False
        if not self._is_large and port.large_bodies >= port.limits.max_bodies:
            port.metrics.shed["bodies"] += 1
            self._drop_body()
            self.stage = _EXCESS
            return False
        if not self._is_large:
            self._is_large = True
            port.large_bodies += 1
        return True

    def _answer_in_task(self) -> None:
        self.stage = _ANSWER
        # Routes never wait themselves, but a client that does not read its responses makes them wait.
        self.deadline = self.port.monitor.now + self.port.limits.body_timeout
        self.cycle = RequestResponseCycle(
            scope=cast("HTTPScope", self._scope()),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self._keep_alive and not self.port.draining,
            on_response=self.on_response_complete,
        )
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self._start_asgi_task(self.cycle, self.config.loaded_app)

    def _serve(self, answer: Callable[[HTTPRequest], HTTPResponse]) -> None:
        """Answer a request on a path in `sync_routes`."""
        port = self.port
        response = answer(
            HTTPRequest(
                self._method,
                self._path,
                self._query,
                self._content_type,
                self._take_body(),
                self._began,
                self._arrived,
                port.monitor.now,
            )
        )
        self._write(response)
        served = port.slots.served
        if self.queue is not served and self.stage is _IDLE and response[0].startswith(_OK):
            port.slots.rest(self, served, port.monitor.now)

    def _write(self, response: HTTPResponse) -> None:
        """Send a complete response, then continue with the next request or close."""
        head, body = response
        if self._method == b"HEAD":
            body = b""
        self._keep_alive = keep = self._keep_alive and not self.port.draining
        answer = b"".join((head, b"\r\n" if keep else b"connection: close\r\n\r\n", body))
        if len(answer) <= _ANSWER_PIECE:
            self.transport.write(answer)
        else:
            self._unsent = memoryview(answer)
            self._send_rest()
        self._leave_request()
        self._answered()

    def _send_rest(self) -> None:
        """Send as much of a long response as the client reads now."""
        while self._unsent and not self.flow.write_paused and not self.transport.is_closing():
            self.transport.write(self._unsent[:_ANSWER_PIECE])
            self._unsent = self._unsent[_ANSWER_PIECE:]

    def _drop_answer(self) -> None:
        self._unsent = memoryview(b"")
        self.port.unread.drop(self)

    def _answered(self) -> None:
        """After a response is written and read by the client, continue with the next request or close."""
        if self.flow.write_paused:
            self._wait_for_reader()
            return
        if self.stage is _UNREAD:
            self.port.unread.drop(self)
        if self._keep_alive:
            self._rest()
        else:
            self._close()

    def _wait_for_reader(self) -> None:
        """Keep the rest of a response until the client has read what was sent."""
        port = self.port
        if self.stage is _UNREAD:
            port.unread.progressed(self)
            return
        self.stage = _UNREAD
        self.deadline = port.monitor.now + port.limits.body_timeout
        self._unsent = memoryview(bytes(self._unsent))  # a copy, so that the sent part is released
        port.unread.keep(self, _IN_TRANSPORT + len(self._unsent))

    def _rest(self) -> None:
        """Wait for the next request."""
        port = self.port
        self.stage = _IDLE
        now = port.monitor.now
        self.deadline = now + port.limits.keep_alive_timeout
        # The same slice may contain the start of another request.
        self._size = self._uncertain = self._read
        self._drop_body()
        slots = port.slots
        queue = self.queue
        slots.rest(self, queue if queue is slots.served else slots.idle, now)

    def _leave_request(self) -> None:
        if self._in_request:
            self._in_request = False
            self.port.metrics.in_flight -= 1
        if self._is_large:
            self._is_large = False
            self.port.large_bodies -= 1

    def _end(self) -> None:
        """Close gracefully: send the rest of the response, and drop incoming data."""
        if self.stage is _ANSWER:
            self.cycle.keep_alive = False
        elif self.stage is _UNREAD:
            self._keep_alive = False
        else:
            self._close()

    def _close(self) -> None:
        self._closing()
        self.transport.close()

    def _closing(self) -> None:
        self.stage = _CLOSED
        self.deadline = self.port.monitor.now + CLOSE_TIMEOUT
        self._drop_body()
        # The parser keeps an unfinished header or trailer, and nothing is parsed any more.
        self.parser = None  # type: ignore[assignment] # as in uvicorn
        self.port.slots.close(self)

    def _abort(self) -> None:
        self.stage = _CLOSED
        self.deadline = _NEVER
        self._drop_answer()
        self.transport.abort()

    def _fail(self, cause: BaseException | None) -> None:
        """Log type and location of an internal error in a callback, and end the connection."""
        kind, places = type(cause).__qualname__, frames(cause.__traceback__ if cause else None)
        fields = {"exception": kind, "frames": places}
        self.port.limited(logging.ERROR, "connection failed", f"{kind} {places[-1:]}", fields)
        self.port.metrics.failed(INTERNAL.error)
        self._abort()


def _is_above(digits: bytes, limit: int) -> bool:
    """Whether a `Content-Length` exceeds the limit. It may have any number of digits and leading zeros."""
    digits = digits.strip().lstrip(b"0")
    return len(digits) > _MOST_DIGITS or int(digits or b"0") > limit


_MOST_DIGITS: Final = 18
_VERSIONS: Final = ("1.1", "1.0")
_OK: Final = b"HTTP/1.1 200 "
_NEVER: Final = float("inf")
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
