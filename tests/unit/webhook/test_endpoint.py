from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from injector.core.admit import Admission, admit
from injector.core.errors import ReviewError
from injector.core.model import Endpoint, Policy, Reason, Verdict
from injector.telemetry.logs import AdmissionLog, LogSink, SinkHandler
from injector.webhook.endpoint import (
    FAIL_OVER,
    OVERLOADED,
    AdmissionEndpoint,
    AdmissionPortApp,
    HTTPRequest,
    caller_timeout,
)
from injector.webhook.metrics import RequestMetrics
from injector.webhook.overload import LoadShedder
from tests.http.reviews import review
from tests.unit.webhook.asgi import call

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from injector.webhook.endpoint import Admit, HTTPResponse

ANSWER = Admission(b"{}", Verdict.INJECT, Reason.INJECTED, "uid", "shop", "web", 0)


class Bench:
    """An endpoint with everything around it."""

    def __init__(self, decide: Admit = admit, *, policy: Policy | None = None, fail_over: bool = False) -> None:
        self.now = 100.0
        self.metrics = RequestMetrics()
        self.sink = LogSink(os.open(os.devnull, os.O_WRONLY))
        self.endpoint = AdmissionEndpoint(
            decide,
            policy=policy or Policy(),
            shedder=LoadShedder(0.25, fail_over=fail_over),
            overloaded=FAIL_OVER if fail_over else OVERLOADED,
            metrics=self.metrics,
            log=AdmissionLog(self.sink, as_json=True, debug=False),
            clock=lambda: self.now,
        )

    def post(
        self,
        body: bytes,
        path: str = "/mutate",
        *,
        query: bytes = b"",
        timing: tuple[float, float, float] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        times = timing or (self.now, self.now, self.now)
        return parts_of(self.endpoint.answer(HTTPRequest(b"POST", path, query, b"application/json", body, *times)))


def parts_of(reply: HTTPResponse) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a reply."""
    first, *lines = reply[0].decode().splitlines()
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), reply[1]


def test_answer_of_the_core_is_sent_unchanged() -> None:
    asked: list[tuple[bytes, Endpoint, Policy]] = []

    def decide(body: bytes, *, endpoint: Endpoint, policy: Policy) -> Admission:
        asked.append((body, endpoint, policy))
        return ANSWER

    policy = Policy(shadow=True)
    bench = Bench(decide, policy=policy)
    for path in ("/mutate", "/mutate/default", "/warn"):
        status, headers, body = bench.post(b"question", path)
        assert (status, headers, body) == (200, {"content-type": "application/json", "content-length": "2"}, b"{}")
    assert asked == [(b"question", endpoint, policy) for endpoint in Endpoint]
    assert bench.metrics.requests[Verdict.INJECT, Reason.INJECTED] == 3
    assert bench.sink.pending


@pytest.mark.parametrize(
    ("method", "content_type", "status"),
    [
        (b"GET", b"application/json", 405),
        (b"POST", b"text/plain", 415),
        (b"POST", None, 415),
        (b"POST", b"Application/JSON; charset=utf-8", 200),
    ],
)
def test_only_json_post_requests_are_decoded(method: bytes, content_type: bytes | None, status: int) -> None:
    bench = Bench(lambda *_, **__: ANSWER)
    posted = HTTPRequest(method, "/mutate", b"", content_type, b"", 100.0, 100.0, 100.0)
    assert parts_of(bench.endpoint.answer(posted))[0] == status
    assert "HTTPRequest(...)" in repr(posted)


def test_invalid_review_is_a_400() -> None:
    bench = Bench()
    status, _, body = bench.post(b"{")
    assert (status, json.loads(body)) == (400, {"error": "malformed-json", "message": "The body is not JSON."})
    assert bench.metrics.errors["malformed-json"] == 1


def test_unknown_review_error_is_a_400() -> None:
    def decide(*_: object, **__: object) -> Admission:
        raise ReviewError("words of ours")

    assert Bench(decide).post(b"")[0] == 400


def test_default_endpoint_without_a_default_is_a_500() -> None:
    status, _, body = Bench().post(review(), "/mutate/default")
    assert (status, json.loads(body)["error"]) == (500, "policy-gap")


@pytest.mark.parametrize("kind", [ValueError, RecursionError, MemoryError, KeyError])
def test_internal_error_is_a_500_without_details(kind: type[Exception], capfd: pytest.CaptureFixture[str]) -> None:
    def decide(*_: object, **__: object) -> Admission:
        raise kind("hunter2")

    bench = Bench(decide)
    handler = SinkHandler(LogSink(2), as_json=True)
    logger = logging.getLogger("injector")
    logger.addHandler(handler)
    try:
        status, _, body = bench.post(b"hunter2")
        handler._sink.flush()
    finally:
        logger.removeHandler(handler)
    assert (status, json.loads(body)["error"]) == (500, "internal")
    record = json.loads(capfd.readouterr().err.splitlines()[0])
    assert (record["message"], record["exception"]) == ("review failed", kind.__name__)
    assert any("decide" in frame for frame in record["frames"])
    assert "hunter2" not in json.dumps(record)
    assert "hunter2" not in body.decode()
    assert bench.metrics.errors["internal"] == 1


def test_late_request_is_shed_without_decoding() -> None:
    def decide(*_: object, **__: object) -> Admission:
        raise AssertionError("a late request must not be decided")

    bench = Bench(decide)
    for cause, timing in (("timeout", (97.8, 97.8, 100.0)), ("lag", (99.0, 99.0, 99.0))):
        status, headers, body = bench.post(b"", query=b"timeout=2100ms", timing=timing)
        assert (status, headers["retry-after"], json.loads(body)["error"]) == (503, "1", "overloaded")
        assert bench.metrics.shed[cause] == 1


def test_late_request_fails_over_without_retry_after() -> None:
    bench = Bench(fail_over=True)
    # A timeout of one second leaves no time for a retry. Without fail-over such a review is decided, however late.
    for cause, timing in (("timeout", (98.8, 98.8, 100.0)), ("lag", (99.5, 99.5, 99.5))):
        status, headers, body = bench.post(b"", query=b"timeout=1s", timing=timing)
        assert (status, json.loads(body)["error"]) == (503, "overloaded")
        assert "retry-after" not in headers
        assert bench.metrics.shed[cause] == 1


def test_duration_starts_with_the_first_byte() -> None:
    bench = Bench()
    bench.post(review(), timing=(99.0, 100.0, 100.0))
    assert bench.metrics._duration_sum == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        (b"timeout=5s", 5.0),
        (b"timeout=1m", 30.0),
        (b"timeout=1.5s", 1.5),
        (b"timeout=2s500ms", 2.5),
        (b"a=b&timeout=3s&c=d", 3.0),
        (b"timeout=250ms", 0.25),
        (b"", 10.0),
        (b"timeout=0s", 10.0),
        (b"timeout=5", 10.0),
        (b"timeout=-5s", 10.0),
        (b"timeout=1e9s", 10.0),
        (b"timeout=" + b"9" * 400 + b"s", 10.0),
        (b"xtimeout=5s", 10.0),
    ],
)
def test_caller_timeout_is_parsed_as_go_duration(query: bytes, seconds: float) -> None:
    assert caller_timeout(query) == pytest.approx(seconds)


def test_rejections_are_logged_once_a_minute_per_class(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.WARNING, "injector.webhook"):
        for _ in range(3):
            bench.post(b"{")
        bench.post(b"{}")
        bench.now += 61
        bench.post(b"{")
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert [(field["error"], field["not_logged_before"]) for field in fields] == [
        ("malformed-json", 0),
        ("not-a-review", 0),
        ("malformed-json", 2),
    ]


def test_front_forwards_public_paths_only() -> None:
    handed_on: list[str] = []

    async def rest(scope: Scope, _: Receive, send: Send) -> None:
        handed_on.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    bench = Bench()
    front = AdmissionPortApp(rest, frozenset({"/docs"}), bench.metrics)
    assert call(front, "/docs")[0] == 204
    assert call(front, "/metrics")[0] == 404
    assert handed_on == ["/docs"]
    assert bench.metrics.errors["not-found"] == 1
