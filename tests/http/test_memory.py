"""What hostile framing costs in memory: no more than the bound in docs/explanation/threat-model.md."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import struct
import termios
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.polling import wait_for
from tests.http.client import JSON, PATIENCE, Connection, head
from tests.http.holders import descriptors
from tests.http.reviews import expensive_review, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
LIMIT = 2 * MIB  # of a body here
SMALL = 64 * KIB  # up to which a body does not count as large
# The documented bound: for each connection, a small body included; and for each large body, its limit.
PER_CONNECTION = 256 * KIB
UNREAD = 32 * MIB  # for all answers together that are not read
CHUNKED = head("/mutate", headers={**JSON, "Transfer-Encoding": "chunked"})
# Nothing is closed or rejected because of time: the machine may be busy with others.
PATIENT = ("--headers-timeout", "300", "--body-timeout", "300", "--handshake-timeout", "300")


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    with descriptors(4096):
        yield


def chunks(size: int, chunk: int) -> Iterator[bytes]:
    """A body of `size` bytes in chunks of so many, without the last one."""
    framed = b"%x\r\n%b\r\n" % (chunk, b"x" * chunk)
    left, parallel = size // chunk, MIB // len(framed)
    while left:
        yield framed * min(left, parallel)
        left -= min(left, parallel)


def is_taken(connection: Connection) -> bool:
    """Whether the server's kernel has all that was sent; the server reads on until its own buffer is empty."""
    try:
        unsent = fcntl.ioctl(connection.socket.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return True
    return unsent == struct.pack("i", 0)


@pytest.mark.parametrize(
    ("connections", "sent", "bodies"),
    [
        (30, (CHUNKED, *chunks(LIMIT - 64, 32)), 30),
        (150, (CHUNKED, *chunks(SMALL - 64, 2)), 0),
        (150, (CHUNKED, *chunks(SMALL - 64, 1)), 0),
        (150, (CHUNKED, b"4;" + b"e" * (60 * KIB)), 0),
        (150, (CHUNKED, *chunks(1000, 2), b"0\r\nx-trailer: " + b"y" * (60 * KIB)), 0),
        (150, (CHUNKED, b"0\r\nx-trailer: " + b"y" * (4 * MIB)), 0),
        (150, (b"POST /mutate HTTP/1.1\r\n" + b"a:b\r\n" * (12 * KIB),), 0),
        (150, (b"POST /mutate HTTP/1.1\r\nx-long: " + b"y" * (63 * KIB),), 0),
        (150, (b"POST /mutate?" + b"y" * (63 * KIB),), 0),
        (150, (b"POST /mutate HTTP/1.1\r\nHost: x\r\n" + b"\r\n" * 2 * MIB,), 0),
    ],
    ids=[
        "large bodies in chunks of 32 bytes",
        "small bodies in chunks of 2 bytes",
        "small bodies in chunks of 1 byte",
        "a long chunk extension",
        "a long trailer",
        "an endless trailer",
        "many headers",
        "a long header",
        "a long target",
        "empty lines",
    ],
)
def test_hostile_framing_takes_bounded_memory(
    tmp_path: Path, connections: int, sent: tuple[bytes, ...], bodies: int
) -> None:
    flags = ("--max-body-bytes", str(LIMIT), "--max-bodies", str(bodies or 1))
    with serving(tmp_path, *PATIENT, *flags, from_nothing=True) as server, ExitStack() as stack:
        for _ in range(3):
            assert server.post(review()).status == 200
        before = server.peak_memory()
        hostile = [stack.enter_context(server.connect()) for _ in range(connections)]
        for connection in hostile:
            _send(connection, sent)
        for connection in hostile:
            wait_for("the server to take it", functools.partial(is_taken, connection), timeout_seconds=PATIENCE)
        # Others are served all the while, and by then what was taken has been parsed.
        for _ in range(3):
            assert server.post(review()).status == 200
        assert server.peak_memory() - before <= connections * PER_CONNECTION + bodies * LIMIT


@pytest.mark.parametrize("parallel", [1, 4], ids=["one by one", "pipelined"])
def test_unread_answers_take_bounded_memory(tmp_path: Path, parallel: int) -> None:
    body = expensive_review(1000)
    request = head("/mutate", headers={**JSON, "Content-Length": str(len(body))}) + body
    with serving(tmp_path, *PATIENT, from_nothing=True) as server, ExitStack() as stack:
        for _ in range(3):
            assert len(server.post(body).body) > 20 * len(body)
        before = server.peak_memory()
        hostile = [stack.enter_context(server.connect()) for _ in range(200)]
        for connection in hostile:
            connection.socket.setblocking(False)
        for _ in range(32 // parallel):
            for connection in hostile:
                _send_what_fits(connection, request * parallel)
            wait_for("others to be served", server.is_serving, timeout_seconds=PATIENCE)
        assert server.peak_memory() - before <= 200 * PER_CONNECTION + UNREAD
        assert server.sample('connections_evicted_total{kind="unread"}') > 0


def _send_what_fits(connection: Connection, data: bytes) -> None:
    """Send as if nothing was ever to be read: what the server does not take is given up."""
    with contextlib.suppress(OSError):
        connection.socket.send(data)


def _send(connection: Connection, pieces: tuple[bytes, ...]) -> None:
    for piece in pieces:
        try:
            connection.socket.sendall(piece)
        except OSError:  # refused
            return


def test_body_in_tiny_chunks_is_read_whole(tmp_path: Path) -> None:
    body = review() + b" " * (300 * KIB)
    with serving(tmp_path) as server, server.connect() as connection:
        for chunk in (3, 40, 20_000):
            pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            connection.socket.sendall(CHUNKED + framed + b"0\r\n\r\n")
            answer = connection.answer()
            if answer.status == 503:  # shed once where the machine is busy
                connection.socket.sendall(CHUNKED + framed + b"0\r\n\r\n")
                answer = connection.answer()
            assert answer.status == 200
