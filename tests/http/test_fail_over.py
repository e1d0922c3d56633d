"""With `--fail-over`, a shed request gets no Retry-After, so API servers call the next entry at once: row H10."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.controlplane.polling import wait_for
from tests.http.client import JSON, head
from tests.http.reviews import expensive_review, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Answer

CONNECTIONS = 12
CONTAINERS = 4000  # some tens of milliseconds of work for each review


def is_shed(answer: Answer) -> bool:
    """Whether an answer is a 503, which must not request a retry."""
    assert "retry-after" not in answer.headers
    return answer.status == 503 and answer.json()["error"] == "overloaded"


def test_h10_late_body_is_shed_without_retry_after(tmp_path: Path) -> None:
    body = review()
    with serving(tmp_path, "--fail-over") as server, server.connect() as connection:
        length = {**JSON, "Content-Length": str(len(body))}
        connection.socket.sendall(head("/mutate?timeout=1s", headers=length) + body[:-1])
        assert not connection.is_readable(1.2)
        connection.socket.sendall(body[-1:])
        assert is_shed(connection.answer())
        assert connection.request(body).status == 200


def test_excess_body_is_shed_without_retry_after(tmp_path: Path) -> None:
    body = review() + b" " * 200_000
    begin = head("/mutate", headers={**JSON, "Content-Length": str(len(body))})
    flags = ("--fail-over", "--max-bodies", "1")
    with serving(tmp_path, *flags) as server, server.connect() as first, server.connect() as second:
        first.socket.sendall(begin + body[:100_000])
        wait_for("the first body to be under way", lambda: server.sample("admission_in_flight") == 1)
        second.socket.sendall(begin + body)
        assert is_shed(second.answer())
        first.socket.sendall(body[100_000:])
        assert first.answer().status == 200


def test_overload_is_shed_without_retry_after(tmp_path: Path) -> None:
    with serving(tmp_path, "--fail-over", "--max-lag", "0.001") as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(CONNECTIONS)]
        body = expensive_review(CONTAINERS)
        request = head("/mutate?timeout=30s", headers={**JSON, "Content-Length": str(len(body))}) + body
        for connection in connections:
            connection.socket.sendall(request)
        answers = [connection.answer() for connection in connections]
        assert [answer.status for answer in answers if not is_shed(answer)].count(200) >= 1
        assert any(map(is_shed, answers))
        assert server.sample('admission_shed_total{cause="lag"}') >= 1
        wait_for("a served review", lambda: server.post(review()).status == 200)
