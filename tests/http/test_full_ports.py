"""Ports that are full: who is closed, who gets in, and what the others notice."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.polling import wait_for
from tests.http.client import JSON, PATIENCE, Answer, Connection, head
from tests.http.holders import Holders, descriptors, held
from tests.http.reviews import review
from tests.http.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.http.serving import Serving

PROBES = 60
GET = head("/livez", "GET", {})
METRICS = head("/metrics", "GET", {})


def posted(body: bytes) -> bytes:
    """A review as it is sent."""
    return head("/mutate?timeout=30s", headers={**JSON, "Content-Length": str(len(body))}) + body


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    with descriptors(4096):
        yield


# --- the ops port ---


@pytest.mark.parametrize("number", [256, 1024])
def test_every_probe_is_answered_while_the_ops_port_is_full(server: Serving, number: int) -> None:
    with held(server.ops_port, number, GET) as holders:
        for _ in range(PROBES):
            assert server.ops("/livez").json() == {"status": "ok"}
        assert holders.opened >= number


@pytest.mark.parametrize("sends", [b"", GET[:10], GET + GET[:10], METRICS], ids=["nothing", "half", "more", "metrics"])
def test_probes_are_answered_whatever_holds_the_ops_port(server: Serving, sends: bytes) -> None:
    with held(server.ops_port, 400, sends):
        for path in ("/livez", "/readyz", "/metrics"):
            assert server.ops(path).status == 200


def test_idle_ops_connection_is_closed_soon(server: Serving) -> None:
    with socket.create_connection(("127.0.0.1", server.ops_port), PATIENCE) as plain:
        connection = Connection(plain)
        assert connection.request(b"", path="/livez", method="GET", headers={}).status == 200
        plain.settimeout(100)  # less than the two minutes of the admission port
        assert connection.is_ended()


def test_peers_that_read_no_answer_do_not_keep_the_ops_port(tmp_path: Path) -> None:
    with serving(tmp_path) as server, ExitStack() as stack:
        for _ in range(256):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(PATIENCE)
            deaf.connect(("127.0.0.1", server.ops_port))
            deaf.sendall(METRICS)
        for _ in range(5):
            assert server.ops("/livez").status == 200


# --- the admission port ---


@pytest.mark.parametrize("number", [1024])
@pytest.mark.parametrize("kind", ["no handshake", "silent", "half a review"])
def test_api_server_gets_in_while_others_hold_the_admission_port(server: Serving, number: int, kind: str) -> None:
    context = None if kind == "no handshake" else server.context
    with held(server.port, number, b"POST /mut" if kind == "half a review" else b"", context) as holders:
        for _ in range(5):
            assert server.post(review()).status == 200
        assert holders.opened >= number


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A process with 32 slots, of which four are reserved for new connections."""
    with serving(tmp_path_factory.mktemp("small"), "--max-connections", "32") as running:
        yield running


def serves(connection: Connection) -> bool:
    """Whether a connection still answers reviews."""
    with suppress(OSError):
        return connection.request(review()).status == 200
    return False


def test_connections_that_served_reviews_outlive_those_that_sent_nothing(small: Serving) -> None:
    with ExitStack() as stack:
        api_server = [stack.enter_context(small.connect()) for _ in range(16)]
        assert all(map(serves, api_server))
        silent = Holders(small.port, 64, context=small.context)
        silent.fill()
        for _ in range(3):
            silent.reopen()
            assert all(map(serves, api_server))
        silent.close()


def test_oldest_silent_connection_is_closed_first(small: Serving) -> None:
    with ExitStack() as stack:
        first, *others = [stack.enter_context(small.connect()) for _ in range(32)]
        wait_for("a full port", lambda: small.sample("connections") == 32)
        with small.connect() as late:
            assert serves(late)
            assert first.is_ended()
            assert not any(each.is_readable() for each in others)
        assert small.sample('connections_refused_total{cause="limit"}') == 0
        assert small.sample('connections_evicted_total{kind="silent"}') >= 1


def test_connection_without_reviews_is_closed_before_one_with(small: Serving) -> None:
    with ExitStack() as stack:
        api_server = [stack.enter_context(small.connect()) for _ in range(20)]
        assert all(map(serves, api_server))
        others = [stack.enter_context(small.connect()) for _ in range(12)]
        assert all(each.request(b"", path="/nothing").status == 404 for each in others)
        with small.connect() as late:
            assert serves(late)
            assert others[0].is_ended()
        assert all(map(serves, api_server))
        assert all(each.request(b"", path="/nothing").status == 404 for each in others[1:])


def test_connection_in_use_survives_clients_that_post_reviews(small: Serving) -> None:
    """The API server's connections where a client of the network posts reviews first, and so looks like one."""
    with small.connect() as used, small.connect() as idle, ExitStack() as stack:
        assert serves(used)
        assert serves(idle)
        for _ in range(10):
            for _ in range(8):
                flooding = stack.enter_context(small.connect())
                assert serves(flooding)
            assert serves(used)
        # The one that was not used is closed in good order, and a new connection gets in.
        assert idle.socket.recv(1) == b""
        assert small.post(review()).status == 200


def test_new_connection_is_refused_while_every_other_is_in_a_review(tmp_path: Path) -> None:
    body = review()
    with serving(tmp_path, "--max-connections", "4") as server, ExitStack() as stack:
        busy = [stack.enter_context(server.connect()) for _ in range(4)]
        assert all(map(serves, busy))
        for each in busy:
            each.socket.sendall(posted(body)[:-1])
        wait_for("four reviews in flight", lambda: server.sample("admission_in_flight") == 4)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as fifth:
            assert Connection(fifth).is_ended()
        assert server.sample('connections_refused_total{cause="limit"}') == 1
        for each in busy:
            each.socket.sendall(body[-1:])
        assert [each.answer().status for each in busy] == [200] * 4
        assert server.sample("connections") == 4
        busy[0].socket.close()
        wait_for("room for another", server.is_serving)


def test_peers_that_do_not_close_do_not_keep_their_slots(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-connections", "8") as server, ExitStack() as stack:
        for _ in range(8):
            refused = stack.enter_context(server.connect())
            refused.socket.sendall(b"no HTTP\r\n\r\n")
        for _ in range(8):
            answer: Answer = server.post(review())
            assert answer.status == 200
