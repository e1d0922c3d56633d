"""Connections that take their time, and bodies that are too many: rows H9 and H10."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.polling import wait_for
from tests.http.client import JSON, PATIENCE, Connection, head
from tests.http.reviews import review
from tests.http.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.http.serving import Serving

SHORT = "0.4"  # seconds


@pytest.fixture
def hasty(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serving]:
    """A process with one short deadline: a slow test must not meet another one first."""
    with serving(tmp_path, f"--{request.param}-timeout", SHORT) as running:
        yield running


def hurried(deadline: str) -> pytest.MarkDecorator:
    """The short one."""
    return pytest.mark.parametrize("hasty", [deadline], indirect=True)


def drip(server: Serving, connection: Connection, data: bytes) -> bool:
    """Send one byte at a time until the peer ends it; others are served in the meantime. False when all was sent."""
    for index in range(len(data)):
        if connection.is_readable(0.02):
            return True
        try:
            connection.socket.sendall(data[index : index + 1])
        except OSError:
            return True
        if index % 10 == 0:  # on a busy machine another caller may itself be late once
            wait_for("another caller to be served", server.is_serving)
    return False


@hurried("keep-alive")
def test_h9_silent_connection_is_closed(hasty: Serving) -> None:
    with hasty.connect() as connection:
        assert connection.is_ended()


def test_connection_made_in_advance_is_kept_as_long_as_an_idle_one(tmp_path: Path) -> None:
    with serving(tmp_path, "--headers-timeout", "0.1") as server, server.connect() as spare:
        with server.connect() as dripping:
            dripping.socket.sendall(b"POST /mutate")
            assert dripping.is_ended()  # so more than that time has passed
        assert spare.request(review()).status == 200


@hurried("handshake")
def test_h9_silent_handshake_is_ended(hasty: Serving) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), PATIENCE) as plain:
        assert Connection(plain).is_ended()
    wait_for("refusal counted", lambda: hasty.sample('connections_refused_total{cause="handshake"}') >= 1)


@hurried("handshake")
def test_h9_handshake_that_drips_is_ended(hasty: Serving) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), PATIENCE) as plain:
        assert drip(hasty, Connection(plain), b"\x16\x03\x01\x02\x00\x01" + b"\x00" * 500)


@hurried("headers")
def test_h9_headers_that_drip_are_ended(hasty: Serving) -> None:
    with hasty.connect() as connection:
        assert drip(hasty, connection, head("/mutate", headers={**JSON, "X-Filler": "y" * 500}))


@hurried("body")
def test_h9_body_that_drips_is_ended_with_408(hasty: Serving) -> None:
    body = review()
    with hasty.connect() as connection:
        connection.socket.sendall(head("/mutate?timeout=30s", headers={**JSON, "Content-Length": str(len(body))}))
        assert drip(hasty, connection, body)
        answer = connection.answer()
        assert (answer.status, answer.json()["error"]) == (408, "body-timeout")
        assert connection.is_ended()


@hurried("keep-alive")
def test_h9_idle_connection_is_closed_at_deadline(hasty: Serving) -> None:
    def attempt() -> bool:
        with contextlib.suppress(OSError), hasty.connect() as connection:  # it ends before a request that is late
            return connection.request(review()).status == 200 and connection.is_ended()
        return False

    wait_for("a connection that is served and then ended", attempt)


def test_h10_body_later_than_the_callers_timeout_is_shed(tmp_path: Path) -> None:
    body = review()
    with serving(tmp_path) as server, server.connect() as connection:
        length = {**JSON, "Content-Length": str(len(body))}
        connection.socket.sendall(head("/mutate?timeout=1s", headers=length) + body[:-1])
        assert not connection.is_readable(1.2)
        connection.socket.sendall(body[-1:])
        answer = connection.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert server.sample('admission_shed_total{cause="timeout"}') == 1
        assert server.sample("admission_duration_seconds_count") == 0
        # The connection lives on, and what is in time is served.
        connection.socket.sendall(head("/mutate?timeout=10s", headers=length) + body[:-1])
        connection.socket.sendall(body[-1:])
        assert connection.answer().status == 200


def test_large_bodies_over_the_number_allowed_are_shed(tmp_path: Path) -> None:
    body = review() + b" " * 200_000
    part, rest = body[:100_000], body[100_000:]
    begin = head("/mutate", headers={**JSON, "Content-Length": str(len(body))})
    with serving(tmp_path, "--max-bodies", "1") as server, server.connect() as first, server.connect() as second:
        first.socket.sendall(begin + part)
        wait_for("the first body to be under way", lambda: server.sample("admission_in_flight") == 1)
        second.socket.sendall(begin + body)
        answer = second.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        # A small one is not counted, and both connections are as good as before.
        assert second.request(review()).status == 200
        first.socket.sendall(rest)
        assert first.answer().status == 200
        assert second.request(body).status == 200
        assert server.sample('admission_shed_total{cause="bodies"}') == 1


def test_caller_that_leaves_is_forgotten(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with server.connect() as connection:
            connection.socket.sendall(head("/mutate", headers={**JSON, "Content-Length": "200000"}) + b"x" * 100_000)
            wait_for("the body to be under way", lambda: server.sample("admission_in_flight") == 1)
        wait_for("nothing under way", lambda: server.sample("admission_in_flight") == 0)
        wait_for("no connection", lambda: server.sample("connections") == 0)
