from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from injector.core.admit import Admission
from injector.core.model import Reason, Verdict
from injector.frames import frames
from injector.telemetry.logs import AdmissionLog, LogSink, SinkHandler, set_up_logging, shown_name

if TYPE_CHECKING:
    from collections.abc import Iterator

AT = 1_780_000_000.25
INJECTED = Admission(b"", Verdict.INJECT, Reason.INJECTED, "0df28fbd", "shop", "ReplicaSet/web", 2)
SKIPPED = Admission(b"", Verdict.SKIP, Reason.UP_TO_DATE, "0df28fbd", "shop", "web", 0)


class Pipe:
    """A pipe that is read on request."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def read(self) -> bytes:
        found = b""
        while True:
            try:
                piece = os.read(self.reading, 65536)
            except BlockingIOError:
                return found
            if not piece:
                return found
            found += piece

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


class Lines:
    """A sink that keeps what it is given."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.sink = LogSink(pipe.writing)

    def json(self) -> list[dict[str, Any]]:
        self.sink.flush()
        return [json.loads(line) for line in self.pipe.read().splitlines()]

    def text(self) -> str:
        self.sink.flush()
        return self.pipe.read().decode()


@pytest.fixture
def lines(pipe: Pipe) -> Lines:
    return Lines(pipe)


def test_lines_are_written_when_flushed(pipe: Pipe) -> None:
    sink = LogSink(pipe.writing)
    sink.put(b"one\n")
    sink.put(b"two\n")
    assert pipe.read() == b""
    sink.flush()
    assert pipe.read() == b"one\ntwo\n"
    assert not sink.pending


def test_slow_reader_loses_lines_and_does_not_block(pipe: Pipe) -> None:
    sink = LogSink(pipe.writing, limit=200_000)
    line = b"x" * 99 + b"\n"
    for _ in range(4000):
        sink.put(line)
        sink.flush()
    assert sink.dropped > 0
    # What was taken arrives whole and in order once the reader reads.
    found = b""
    while sink.pending:
        found += pipe.read()
        sink.flush()
    found += pipe.read()
    assert found == line * (4000 - sink.dropped)


def test_closed_reader_is_not_an_error(pipe: Pipe) -> None:
    sink = LogSink(pipe.writing)
    os.close(pipe.reading)
    sink.put(b"one\n")
    sink.flush()
    assert not sink.pending


def test_close_waits_for_slow_reader_up_to_limit(pipe: Pipe) -> None:
    sink = LogSink(pipe.writing, limit=500_000)
    for _ in range(4000):
        sink.put(b"x" * 99 + b"\n")
    sink.close(patience=0.05)
    assert sink.pending
    pipe.read()
    sink.close()


def test_mutation_as_json(lines: Lines) -> None:
    AdmissionLog(lines.sink, as_json=True, debug=False, clock=lambda: AT)(INJECTED, 0.000123)
    assert lines.json() == [
        {
            "time": "2026-05-28T20:26:40.250Z",
            "level": "info",
            "message": "review answered",
            "uid": "0df28fbd",
            "namespace": "shop",
            "owner": "ReplicaSet/web",
            "decision": "inject",
            "reason": "injected",
            "warnings": 2,
            "duration_ms": 0.123,
        }
    ]


def test_mutation_as_text(lines: Lines) -> None:
    AdmissionLog(lines.sink, as_json=False, debug=False, clock=lambda: AT)(INJECTED, 0.000123)
    assert lines.text() == (
        "2026-05-28T20:26:40.250Z INFO    review answered uid=0df28fbd namespace=shop owner=ReplicaSet/web "
        "decision=inject reason=injected warnings=2 duration_ms=0.123\n"
    )


@pytest.mark.parametrize(("debug", "count"), [(False, 0), (True, 1)])
def test_skips_are_logged_at_debug_level_only(lines: Lines, debug: bool, count: int) -> None:  # noqa: FBT001 - a case
    AdmissionLog(lines.sink, as_json=True, debug=debug)(SKIPPED, 0.0)
    assert len(lines.json()) == count


@pytest.mark.parametrize("reason", [Reason.WOULD_INJECT, Reason.WOULD_DENY])
def test_decisions_of_shadow_mode_are_logged_at_info_level(lines: Lines, reason: Reason) -> None:
    AdmissionLog(lines.sink, as_json=True, debug=False)(replace(SKIPPED, reason=reason), 0.0)
    (line,) = lines.json()
    assert (line["level"], line["decision"], line["reason"]) == ("info", "skip", reason.value)


@pytest.mark.parametrize("name", ["", "web", "web-7d9f-", "ReplicaSet/web-7d9f", "0df28fbd-5f5f", "a.b.c", "a" * 253])
def test_names_are_shown(name: str) -> None:
    assert shown_name(name) == name


@pytest.mark.parametrize(
    "text",
    ['a"b', "a\nb", "a b", "\x1b[31m", "eyJhbGciOi", "A1b2C3", "ä", "a" * 400, "/web", "Kind/", "K2/x", "{}", "a/b"],
)
def test_invalid_name_is_not_shown(text: str) -> None:
    assert shown_name(text) == "(not a name)"


def failing(secret: str) -> None:
    raise ValueError(f"could not read {secret}")


@pytest.mark.parametrize("as_json", [True, False])
def test_exception_is_logged_by_type_and_location_only(lines: Lines, as_json: bool) -> None:  # noqa: FBT001
    handler = SinkHandler(lines.sink, as_json=as_json)
    try:
        failing("hunter2")
    except ValueError:
        handler.emit(logging.LogRecord("x", logging.ERROR, __file__, 1, "it failed: %s", ("hunter2",), sys.exc_info()))
    message = lines.text()
    assert "ValueError" in message
    assert "test_logs.py" in message
    assert "failing" in message
    assert "hunter2" not in message


def test_fields_are_logged_in_both_formats(lines: Lines) -> None:
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "bad pair", (), None)
    record.fields = {"problem": "two words\n", "port": 1, "names": ["a"]}
    SinkHandler(lines.sink, as_json=False, clock=lambda: AT).emit(record)
    assert lines.text() == '2026-05-28T20:26:40.250Z WARNING bad pair problem="two words\\n" port=1 names=["a"]\n'
    SinkHandler(lines.sink, as_json=True, clock=lambda: AT).emit(record)
    assert lines.json()[0]["problem"] == "two words\n"


def test_message_that_is_an_object_is_logged_by_type(lines: Lines) -> None:
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, ValueError("hunter2"), (), (None, None, None))
    SinkHandler(lines.sink, as_json=True).emit(record)
    assert lines.json()[0]["message"] == "ValueError"


def test_missing_traceback_has_no_frames() -> None:
    assert frames(None) == []


def test_all_loggers_of_the_process_write_into_the_sink(lines: Lines) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logger = set_up_logging(lines.sink, "info", as_json=True)
        logger.info("ours")
        logger.debug("too fine")
        logging.getLogger("uvicorn.error").warning("theirs")
        logging.getLogger("uvicorn.error").info("too fine")
        assert [line["message"] for line in lines.json()] == ["ours", "theirs"]
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
