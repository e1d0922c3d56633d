"""A connection without sockets: what no peer can bring about at will, and what no test should wait for."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn.config import Config

from injector.webhook.metrics import RequestMetrics
from injector.webhook.overload import LoopMonitor
from injector.webhook.protocol import (
    CLOSE_TIMEOUT,
    LARGE_BODY,
    MALFORMED,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_TARGET,
    Connection,
    Limits,
    Port,
    Stage,
)
from injector.webhook.slots import Slots
from injector.webhook.unread import MAX_UNREAD
from tests.unit.webhook.test_unread import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from injector.webhook.endpoint import HTTPRequest, HTTPResponse

LIMITS = Limits(headers_timeout=1, body_timeout=2, keep_alive_timeout=3, max_body_bytes=LARGE_BODY * 2, max_bodies=1)
GET = b"GET /mutate HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that records writes."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__({"sslcontext": object()} if tls else {})
        self.written = b""
        self.ended = ""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert 0 < high < LARGE_BODY
        assert low is None

    def set_read_buffer_limits(self, high: int) -> None:
        assert 0 < high < LARGE_BODY

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.written.decode().split("HTTP/1.1 ")[1:]]


def answer_ok(_: HTTPRequest) -> HTTPResponse:
    return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", b"ok"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers ok; on /slow, after a turn of the loop."""
    if scope["path"] == "/slow":
        await asyncio.sleep(0)
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Line:
    """A connection with a wire instead of a socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: ASGIApp = answer,
        instant: Callable[[HTTPRequest], HTTPResponse] = answer_ok,
        *,
        tls: bool = False,
    ) -> None:
        self.loop = loop
        config = Config(app, http="httptools", ws="none", lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        self.metrics = RequestMetrics()
        self.port = Port({"/mutate": instant}, LIMITS, LoopMonitor(), self.metrics, config)
        self.wire = Wire(tls=tls)
        self.connection = Connection(self.port, loop)
        self.connection.connection_made(self.wire)

    def send(self, *pieces: bytes) -> list[int]:
        """Deliver bytes, run all tasks, and return the statuses written so far."""
        for piece in pieces:
            self.connection.data_received(piece)
        self.run_tasks()
        return self.wire.statuses()

    def run_tasks(self) -> None:
        async def end() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(end())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def line(loop: asyncio.AbstractEventLoop) -> Line:
    return Line(loop)


def test_an_instant_path_is_answered_before_the_callback_returns(line: Line) -> None:
    line.connection.data_received(GET)
    assert line.wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    assert (line.connection.stage, line.metrics.in_flight) == (Stage.IDLE, 0)


def test_request_in_single_bytes_has_the_same_answer(line: Line) -> None:
    assert line.send(*(GET[i : i + 1] for i in range(len(GET)))) == [200]


def test_other_paths_are_answered_in_a_task(line: Line) -> None:
    line.connection.data_received(SLOW)
    assert line.wire.written == b""
    assert line.send() == [200]
    assert line.connection.stage is Stage.IDLE
    assert line.send(GET) == [200, 200]


def test_pipelined_request_is_dropped_and_the_connection_closed(line: Line) -> None:
    assert line.send(SLOW + GET + GET) == [200]
    assert line.wire.ended == "closed"
    assert line.connection.stage is Stage.CLOSED
    assert line.send(GET) == [200]


def test_upgrade_during_a_task_closes_the_connection_after_it(line: Line) -> None:
    assert line.send(SLOW + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n") == [200]
    assert line.wire.ended == "closed"


@pytest.mark.parametrize(
    ("received", "statuses", "ended", "error"),
    [
        (b"", [], "aborted", "headers-timeout"),
        (b"POST /mu", [], "aborted", "headers-timeout"),
        (b"POST /mutate HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", [408], "closed", "body-timeout"),
        (GET, [200], "closed", None),
    ],
    ids=["silent", "headers", "body", "idle"],
)
def test_deadline_closes_the_connection(
    line: Line, received: bytes, statuses: list[int], ended: str, error: str | None
) -> None:
    if received:
        line.connection.data_received(received)
    assert line.connection.deadline < float("inf")
    line.connection.expire()
    assert (line.wire.statuses(), line.wire.ended) == (statuses, ended)
    assert [name for name, count in line.metrics.errors.items() if count] == ([error] if error else [])


def test_silent_tls_connection_is_not_an_error(loop: asyncio.AbstractEventLoop) -> None:
    line = Line(loop, tls=True)
    assert line.connection.deadline == line.port.monitor.now + LIMITS.keep_alive_timeout
    line.connection.expire()
    assert (line.wire.ended, sum(line.metrics.errors.values())) == ("closed", 0)


def test_each_stage_has_its_own_deadline(line: Line) -> None:
    now = line.port.monitor.now
    assert line.connection.deadline == now + LIMITS.headers_timeout
    line.send(b"POST /mutate HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
    assert line.connection.deadline == now + LIMITS.body_timeout
    line.send(b"cde")
    assert line.connection.deadline == now + LIMITS.keep_alive_timeout
    line.connection.data_received(SLOW)
    assert line.connection.deadline == now + LIMITS.body_timeout
    line.run_tasks()


def test_close_if_idle_keeps_a_running_request(line: Line) -> None:
    line.connection.data_received(SLOW)
    line.connection.close_if_idle()
    assert line.wire.ended == ""
    line.run_tasks()
    line.connection.close_if_idle()
    assert line.wire.ended == "closed"


def test_draining_port_closes_after_each_answer(loop: asyncio.AbstractEventLoop) -> None:
    for request in (GET, SLOW):
        line = Line(loop)
        line.port.draining = True
        assert line.send(request) == [200]
        assert b"connection: close\r\n" in line.wire.written
        assert line.wire.ended == "closed"


def test_http_1_0_connection_is_closed_after_the_answer(line: Line) -> None:
    assert line.send(b"GET /mutate HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == [200]
    assert line.wire.ended == "closed"


def test_body_with_more_framing_than_content_is_rejected(line: Line) -> None:
    frame = b"1;" + b"x" * 200 + b"\r\na\r\n"
    head = b"POST /mutate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    statuses = line.send(head, *([frame * 100] * 20))
    assert statuses == [413]
    assert line.metrics.errors["body-too-large"] == 1


def test_limit_below_a_small_body_is_enforced(loop: asyncio.AbstractEventLoop) -> None:
    line = Line(loop)
    line.port.small = 10
    line.port.limits = dataclasses.replace(LIMITS, max_body_bytes=10)
    assert line.send(b"POST /mutate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n" + b"x" * 11 + b"\r\n") == [413]


def test_trailers_are_not_headers(line: Line) -> None:
    head = b"POST /mutate HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n"
    assert line.send(head + b"0\r\nx-a: b\r\n\r\n") == [200]


def test_headers_over_the_limit_in_pieces_are_rejected(line: Line) -> None:
    pieces = [b"x-a: " + b"b" * 1000 + b"\r\n"] * (MAX_HEAD // 1000 + 1)
    assert line.send(b"GET /mutate HTTP/1.1\r\n", *pieces) == [431]


def test_reading_pauses_while_the_peer_does_not_read(line: Line) -> None:
    line.connection.pause_writing()
    assert not line.wire.reading
    line.connection.resume_writing()
    assert line.wire.reading


LONG = b"z" * 100_000


class SlowReader(Line):
    """A connection of a client that takes 40,000 bytes at once, and long answers for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, instant=lambda _: (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n", LONG))
        self.room = 40_000
        self.wire.write = self._write  # type: ignore[method-assign] # a wire that pauses

    def read(self) -> None:
        """Take what was written, and read again."""
        self.room += 40_000
        self.connection.resume_writing()

    def _write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        Wire.write(self.wire, data)
        if len(self.wire.written) > self.room and not self.connection.flow.write_paused:
            self.connection.pause_writing()


@pytest.fixture
def slow(loop: asyncio.AbstractEventLoop) -> SlowReader:
    return SlowReader(loop)


def test_long_answer_is_sent_as_it_is_read(slow: SlowReader) -> None:
    slow.connection.data_received(GET)
    assert (slow.connection.stage, slow.wire.reading) == (Stage.UNREAD, False)
    assert 40_000 < len(slow.wire.written) < 80_000
    unsent = len(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + LONG) - len(slow.wire.written)
    assert unsent < slow.port.unread.total < unsent + 256 * 1024
    assert slow.connection.deadline == slow.port.monitor.now + LIMITS.body_timeout
    while slow.connection.stage is Stage.UNREAD:
        slow.read()
    assert slow.wire.written.endswith(b"\r\n\r\n" + LONG)
    assert (slow.connection.stage, slow.wire.reading, slow.port.unread.total) == (Stage.IDLE, True, 0)
    slow.room = 10**6
    assert slow.send(GET) == [200, 200]


@pytest.mark.parametrize("pieces", [(GET + GET,), (GET, GET), (GET * 4000,), (GET + GET[:5],)])
def test_request_before_the_last_answer_is_read_ends_the_connection(
    slow: SlowReader, pieces: tuple[bytes, ...]
) -> None:
    for piece in pieces:
        slow.connection.data_received(piece)
    assert slow.wire.ended == ""
    while slow.connection.stage is Stage.UNREAD:
        slow.read()
    assert (slow.wire.statuses(), slow.wire.ended) == ([200], "closed")


def test_answer_that_is_never_read_ends_the_connection(slow: SlowReader) -> None:
    slow.connection.data_received(GET)
    slow.connection.expire()
    assert (slow.wire.ended, slow.metrics.errors["response-timeout"], slow.port.unread.total) == ("aborted", 1, 0)


def test_unread_answer_is_dropped_with_its_connection(loop: asyncio.AbstractEventLoop) -> None:
    def evict(slow: SlowReader) -> None:
        slow.connection.evict()

    def lose(slow: SlowReader) -> None:
        slow.connection.connection_lost(None)

    def refuse(slow: SlowReader) -> None:
        slow.connection.refuse(MALFORMED)

    def overflow(slow: SlowReader) -> None:
        slow.port.unread.keep(Client(), MAX_UNREAD - 1000)

    evicted = 0
    for end in (evict, lose, refuse, overflow):
        slow = SlowReader(loop)
        slow.connection.data_received(GET)
        assert slow.port.unread.total > 0
        end(slow)
        assert slow.port.unread.total in {0, MAX_UNREAD - 1000}
        assert (len(slow.connection._unsent), slow.connection.stage) == (0, Stage.CLOSED)
        evicted += slow.metrics.evicted["unread"]
    assert evicted == 1


def test_upgrade_or_draining_ends_the_connection_after_its_unread_answer(loop: asyncio.AbstractEventLoop) -> None:
    upgrade = b"GET /mutate HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    for request, draining in ((upgrade, False), (GET, True)):
        slow = SlowReader(loop)
        slow.port.draining = draining
        slow.connection.data_received(request)
        assert (slow.wire.ended, slow.connection.stage) == ("", Stage.UNREAD)
        while slow.connection.stage is Stage.UNREAD:
            slow.read()
        assert (slow.wire.statuses(), slow.wire.ended) == ([200], "closed")


def test_answer_of_a_task_that_is_not_read_is_kept_to_the_deadline(line: Line) -> None:
    line.connection.data_received(SLOW)
    write = line.wire.write

    def pausing(data: bytes | bytearray | memoryview[Any]) -> None:
        write(data)
        line.connection.pause_writing()

    line.wire.write = pausing  # type: ignore[method-assign] # a wire that pauses
    line.run_tasks()
    line.connection.resume_writing()
    line.run_tasks()
    assert (line.wire.statuses(), line.connection.stage) == ([200], Stage.UNREAD)
    line.connection.resume_writing()
    assert line.connection.stage is Stage.IDLE


def test_a_peer_that_leaves_gives_back_what_it_held(line: Line) -> None:
    line.send(b"POST /mutate HTTP/1.1\r\nContent-Length: 99999\r\n\r\n" + b"x" * (LARGE_BODY + 1))
    assert (line.metrics.in_flight, line.port.large_bodies) == (1, 1)
    line.connection.connection_lost(None)
    assert (line.metrics.in_flight, line.port.large_bodies) == (0, 0)


def test_internal_error_on_an_instant_path_closes_the_connection(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(_: HTTPRequest) -> HTTPResponse:
        raise ValueError("hunter2")

    line = Line(loop, instant=failing)
    assert line.send(GET) == []
    assert line.wire.ended == "aborted"
    assert line.metrics.errors["internal"] == 1
    assert caplog.records[0].__dict__["fields"]["exception"] == "ValueError"
    assert "hunter2" not in str(caplog.records[0].__dict__["fields"])


def test_rejection_during_a_task_closes_the_connection(line: Line) -> None:
    line.connection.data_received(SLOW)
    line.connection.data_received(b"\x00\x01\x02")
    assert line.wire.ended == "aborted"
    line.run_tasks()


def test_task_that_ends_after_the_connection_is_not_an_error(line: Line) -> None:
    line.connection.data_received(SLOW)
    line.wire.close()
    line.run_tasks()
    assert line.connection.stage is Stage.CLOSED


POST = b"POST /mutate HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        (b"9" * 5000, b"", 400),  # rejected by the parser
        (b"9" * 18, b"", 413),
        (b"0" * 5000 + b"2", b"{}", 200),
        (b"0" * 5000 + b"999999", b"", 413),
        (b"0" * 5000, b"", 200),
    ],
)
def test_content_length_of_any_number_of_digits_is_a_client_error(
    line: Line, length: bytes, body: bytes, status: int
) -> None:
    assert line.send(POST + b"Content-Length: " + length + b"\r\n\r\n" + body) == [status]
    assert line.metrics.errors["internal"] == 0


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"1.2", b"3.0"])
@pytest.mark.parametrize("path", [b"/mutate", b"/slow"])
def test_other_versions_of_http_are_rejected(line: Line, path: bytes, version: bytes) -> None:
    assert line.send(b"POST " + path + b" HTTP/" + version + b"\r\nHost: x\r\n\r\n") == [400]
    assert line.wire.ended == "closed"


def test_http2_preface_matches_no_route(line: Line) -> None:
    assert 200 not in line.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert line.wire.ended == "closed"


def head_of(size: int) -> bytes:
    """A complete head of so many bytes."""
    return POST + b"X: " + b"y" * (size - len(POST) - len(b"X: \r\n\r\n")) + b"\r\n\r\n"


@pytest.mark.parametrize("before", [b"", GET, GET * 100])
def test_head_over_the_limit_in_one_read_is_rejected(line: Line, before: bytes) -> None:
    answers = [200] * (len(before) // len(GET))
    assert line.send(before + head_of(MAX_HEAD)) == [*answers, 200]
    assert line.send(before + head_of(MAX_HEAD + 1)) == [*answers, 200, *answers, 431]
    assert line.metrics.errors["headers-too-large"] == 1


def test_all_small_requests_of_a_full_read_are_answered(line: Line) -> None:
    number = 3 * MAX_HEAD // len(GET)
    assert line.send(GET * number + GET[:-1], GET[-1:]) == [200] * (number + 1)


def test_oversized_head_that_starts_in_a_full_read_is_rejected(line: Line) -> None:
    number = MAX_HEAD // len(GET)
    statuses = line.send(GET * number + POST + b"X: ", *[b"y" * 1000] * (2 * MAX_HEAD // 1000 + 2))
    assert statuses == [200] * number + [431]


def test_number_of_headers_is_bounded(line: Line) -> None:
    headers = b"a: b\r\n" * (MAX_HEADERS - 1)
    assert line.send(POST + headers + b"\r\n", POST + b"a: b\r\n" + headers + b"\r\n") == [200, 431]


def test_long_target_is_rejected_before_its_head_is_complete(line: Line) -> None:
    at_limit = b"GET /mutate?" + b"a" * (MAX_TARGET - len(b"/mutate?")) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert line.send(at_limit) == [200]
    assert line.send(b"GET /mutate?" + b"a" * MAX_TARGET) == [200, 431]


@pytest.mark.parametrize("end", [b"0\r\nx: ", b"1;"])
@pytest.mark.parametrize("length", [0, LARGE_BODY + 1], ids=["small body", "shed body"])
def test_endless_framing_is_rejected(line: Line, end: bytes, length: int) -> None:
    line.port.large_bodies = line.port.limits.max_bodies
    body = b"%x\r\n%b\r\n" % (length, b"x" * length) if length else b""
    head = b"POST /mutate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert line.send(head + body + end, *[b"y" * 1000] * (3 * MAX_HEAD // 1000)) == [413]


def test_body_in_pieces_of_any_size_is_put_together(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[bytes] = []

    def keep(posted: HTTPRequest) -> HTTPResponse:
        seen.append(posted.body)
        return answer_ok(posted)

    line = Line(loop, instant=keep)
    for size in (4, 100, 16 * 1024 - 1, 16 * 1024, 50_000):
        body = bytes(index % 251 for index in range(100_000))
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        line.send(POST + b"Content-Length: %d\r\n\r\n" % len(body), *pieces)
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        line.send(POST + b"Transfer-Encoding: chunked\r\n\r\n", framed + b"0\r\n\r\n")
        assert seen == [body, body]
        seen.clear()
    assert not line.connection._parts
    assert not line.connection._tail


def test_rejections_and_internal_errors_are_logged_once_a_minute(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(_: HTTPRequest) -> HTTPResponse:
        raise ValueError("hunter2")

    line = Line(loop, instant=failing)
    for request in (b"junk\r\n\r\n", GET):
        for _ in range(3):
            line.connection = Connection(line.port, loop)
            line.connection.connection_made(line.wire)
            line.connection.data_received(request)
    assert [record.message for record in caplog.records] == ["request rejected", "connection failed"]


def test_connection_not_closed_in_time_is_aborted(line: Line) -> None:
    line.wire.close = lambda: None  # type: ignore[method-assign] # the peer does not read the pending bytes
    assert line.send(b"junk\r\n\r\n") == [400]
    assert line.connection.deadline == line.port.monitor.now + CLOSE_TIMEOUT
    line.connection.expire()
    assert line.wire.ended == "aborted"


def test_answer_not_read_in_time_closes_the_connection(loop: asyncio.AbstractEventLoop) -> None:
    line = Line(loop)
    line.connection.data_received(SLOW)
    line.connection.pause_writing()
    line.run_tasks()
    assert (line.connection.stage, line.wire.written) == (Stage.ANSWER, b"")
    line.connection.expire()
    assert (line.wire.ended, line.metrics.errors["response-timeout"]) == ("aborted", 1)
    line.connection.connection_lost(None)
    line.run_tasks()


@pytest.mark.parametrize(
    ("sent", "ended"), [(b"", "aborted"), (GET[:5], "aborted"), (POST + b"Content-Length: 9\r\n\r\n{", "aborted"),
                       (GET, "closed")],
    ids=["silent", "head", "body", "idle"],
)  # fmt: skip
def test_evicted_connection_closes_in_any_state(loop: asyncio.AbstractEventLoop, sent: bytes, ended: str) -> None:
    line = Line(loop, tls=True)
    line.port.slots.enter(line.connection, 0.0)
    if sent:
        line.connection.data_received(sent)
    assert not line.connection.is_busy
    victim = line.port.slots.victim(0.0, 1)
    assert victim is not None
    line.port.slots.evict(victim)
    assert (line.wire.ended, line.connection.stage) == (ended, Stage.CLOSED)
    before = line.wire.written
    line.connection.data_received(GET)
    assert line.wire.written == before
    line.connection.connection_lost(None)
    assert (line.port.slots.count, line.metrics.in_flight) == (0, 0)


def test_connection_is_busy_during_a_task_while_its_peer_reads(line: Line) -> None:
    busy: list[bool] = []
    for step in (
        functools.partial(line.connection.data_received, SLOW),
        line.connection.pause_writing,
        line.connection.resume_writing,
        line.run_tasks,
    ):
        step()
        busy.append(line.connection.is_busy)
    assert busy == [True, False, True, False]


def test_incomplete_request_is_busy_only_after_a_served_review(loop: asyncio.AbstractEventLoop) -> None:
    for by_history, first, busy in ((True, GET, True), (True, SLOW, False), (False, GET, False)):
        line = Line(loop)
        line.port.slots = Slots(by_history=by_history)
        line.port.slots.enter(line.connection, 0.0)
        line.send(first)
        line.connection.data_received(POST)
        assert line.connection.is_busy is busy
