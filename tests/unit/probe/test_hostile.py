"""Servers that mean no good: each question ends, with a line, and the token stays here."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from injector.cli.main import main
from tests.controlplane.processes import free_port
from tests.unit.probe import http2
from tests.unit.probe.http2 import END_HEADERS, END_STREAM, HEADERS, fields, frame, grpc, head, message, tail
from tests.unit.probe.servers import MARKER, REFUSAL, page, saying, serving, silent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

OPEN: Final = page("200 OK", b'{"id":"shop","runtimeVersion":"1.16.0"}')
# Nothing of these tests takes that long; where it would, it is the server that never comes to an end.
LONG: Final = "120"


class Ask(Protocol):
    """Exit code and targets of a `probe` that was given the token."""

    def __call__(self, *arguments: str, timeout: str = LONG) -> tuple[int, list[dict[str, Any]]]:
        """Ask these targets."""


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], token: str) -> Ask:
    def asked(*arguments: str, timeout: str = LONG) -> tuple[int, list[dict[str, Any]]]:
        code = main(["probe", "-o", "json", "--timeout", timeout, "--token-file", token, *arguments])
        captured = capsys.readouterr()
        assert captured.err == ""
        assert "marker" not in captured.out
        return code, json.loads(captured.out)["targets"]

    return asked


def failure(targets: list[dict[str, Any]]) -> str:
    """Why the one port of the one target could not be asked."""
    (target,) = targets
    assert target["verdict"] == "unknown"
    ports = target["ports"]
    told = ports[0]["failure"] if ports else target["failure"]
    assert "\n" not in told
    return str(told)


def answers(target: dict[str, Any]) -> list[str]:
    ports = target["ports"]
    return [ports[0]["without"], ports[0]["wrong"], ports[0]["right"]]


def pouring(first: bytes, rest: bytes) -> Callable[[socket.socket], None]:
    """A server that begins and never ends."""

    def pour(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(first)
        while True:
            connection.sendall(rest)

    return pour


# --- HTTP ---


@pytest.mark.parametrize(
    ("first", "rest", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000, "not daprd (status 200"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536, "not daprd (status 200"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, "not daprd (status 200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000, "not daprd (status 200"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "does not come to an end"),
    ],
    ids=["headers", "one-header", "body", "chunks", "continue"],
)
def test_endless_answer_is_cut(first: bytes, rest: bytes, why: str, ask: Ask) -> None:
    with serving(pouring(first, rest)) as at:
        code, targets = ask(f"http://127.0.0.1:{at}")

    assert code == 2
    assert why in failure(targets)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_slow_answer_times_out(scheme: str, ask: Ask) -> None:
    end = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in itertools.cycle(REFUSAL):
            if end.wait(0.1):
                return
            connection.sendall(bytes((byte,)))

    with serving(drip) as at:
        try:
            code, targets = ask(f"{scheme}://127.0.0.1:{at}", timeout="0.5")
        finally:
            end.set()

    assert code == 2
    assert failure(targets) in {"no answer within 0.5 s", "what answers there does not speak gRPC"}


def test_connection_reset_is_reported(ask: Ask) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 18\r\n\r\ninval")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(reset) as at:
        code, targets = ask(f"http://127.0.0.1:{at}")

    assert code == 2
    assert failure(targets)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.0 401 Unauthorized\r\n\r\ninvalid api token\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n", REFUSAL),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + REFUSAL,),
    ],
    ids=["HTTP/1.0", "continue", "hints"],
)
def test_other_ways_to_refuse_are_refusals(pieces: tuple[bytes, ...], ask: Ask) -> None:
    with serving(saying(*pieces)) as at:
        code, (target,) = ask(f"http://127.0.0.1:{at}")

    assert (code, answers(target)) == (1, ["refused"] * 3)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_http_redirect_is_not_followed(status: str, ask: Ask) -> None:
    elsewhere: list[bytes] = []
    with serving(saying(OPEN, received=elsewhere)) as other:
        moved = f"HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{other}/v1.0/metadata\r\nContent-Length: 0\r\n\r\n"
        with serving(saying(moved.encode())) as at:
            code, targets = ask(f"http://127.0.0.1:{at}")

    assert code == 2
    told = f"the server redirects to http://127.0.0.1:{other}/v1.0/metadata (status {status[:3]})"
    assert failure(targets) == f"{told}, and no redirect is followed"
    assert elsewhere == []


def test_redirect_with_daprd_body_is_not_an_answer(ask: Ask) -> None:
    moved = page("307 Temporary Redirect\r\nLocation: /x", b'{"errorCode":"ERR_X","runtimeVersion":"1.16.0"}')
    with serving(saying(moved)) as at:
        code, targets = ask(f"http://127.0.0.1:{at}")

    assert code == 2
    assert f"redirects to http://127.0.0.1:{at}/x (status 307)" in failure(targets)


def test_redirect_of_one_path_does_not_make_the_port_public(ask: Ask) -> None:
    def answer(connection: socket.socket) -> None:
        asked = connection.recv(65536).split(b" ")[1]
        connection.sendall(OPEN if asked == b"/v1.0/metadata" else page("302 Found\r\nLocation: http://[", b""))

    with serving(answer) as at:
        code, (target,) = ask(f"http://127.0.0.1:{at}", "--accept", "metadata-port")

    assert (code, target["verdict"]) == (1, "open")
    assert "redirects to a target that is not a URL (status 302)" in target["ports"][0]["failure"]


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
def test_grpc_redirect_is_not_followed(status: str, ask: Ask) -> None:
    elsewhere: list[bytes] = []
    with serving(saying(OPEN, received=elsewhere)) as other:
        moved = fields((":status", status), ("location", f"http://127.0.0.1:{other}/there"))

        def answer(stream: int) -> list[bytes]:
            return [frame(HEADERS, END_HEADERS | END_STREAM, stream, moved)]

        with serving(grpc(answer, [])) as at:
            code, targets = ask(f"grpc://127.0.0.1:{at}")

    assert code == 2
    assert failure(targets) == f"the server redirects (status {status}), and no redirect is followed"
    assert elsewhere == []


def test_redirect_after_refusal_gets_no_token(ask: Ask) -> None:
    """The second answer sends us away: then the third question, with the right token, is not put."""
    received: list[bytes] = []
    turns = iter((REFUSAL, b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"))

    def answer(connection: socket.socket) -> None:
        received.append(connection.recv(65536))
        connection.sendall(next(turns))

    with serving(answer) as at:
        code, targets = ask(f"http://127.0.0.1:{at}")

    assert code == 2
    assert "status 302" in failure(targets)
    assert len(received) == 2
    assert not any(MARKER.encode() in request for request in received)


# --- an open API that looks like the public port ---


NOT_FOUND: Final = page("404 Not Found", b"404 page not found\n")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (b"/v1.0/dapr-token-injector-probe", page("403 Forbidden", b"")),
        (b"/v1.0/dapr-token-injector-probe", page("400 Bad Request", b'{"errorCode":"ERR_DIRECT_INVOKE"}')),
        (b"/v1.0/dapr-token-injector-probe", NOT_FOUND.replace(b"\r\n", b"\r\nvary: Accept, Origin\r\n", 1)),
        (b"/v1.0/state/", page("405 Method Not Allowed", b"")),
        (b"/v1.0/secrets/", page("500 Internal Server Error", b'{"errorCode":"ERR_SECRET_STORES_NOT_CONFIGURED"}')),
    ],
)
def test_api_with_few_paths_is_not_the_public_port(path: bytes, answer: bytes, ask: Ask) -> None:
    def answering(connection: socket.socket) -> None:
        asked = connection.recv(65536).split(b" ")[1]
        connection.sendall(OPEN if asked == b"/v1.0/metadata" else answer if asked.startswith(path) else NOT_FOUND)

    with serving(answering) as at:
        code, (target,) = ask(f"http://127.0.0.1:{at}", "--accept", "metadata-port")

    assert (code, target["verdict"]) == (1, "open")
    assert [found["finding"] for found in target["findings"]] == ["enforcement-off"]


# --- names that stand for several addresses ---


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every name stands for 127.0.0.1 and 127.0.0.2."""
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", 0)) for last in (1, 2, 1)]
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *_args, **_more: entries)
        yield


@pytest.mark.usefixtures("two_addresses")
def test_open_port_is_found_next_to_a_closed_one(ask: Ask) -> None:
    with serving(saying(REFUSAL), port=free_port()) as at, serving(saying(OPEN), host="127.0.0.2", port=at):
        code, targets = ask(f"http://shop.example:{at}")

    assert code == 1
    assert [target["target"] for target in targets] == [
        f"http://shop.example:{at} at 127.0.0.1",
        f"http://shop.example:{at} at 127.0.0.2",
    ]
    assert [answers(target)[0] for target in targets] == ["refused", "served"]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.usefixtures("two_addresses")
def test_address_without_listener_is_skipped(scheme: str, ask: Ask) -> None:
    received: list[bytes] = []
    serve = saying(REFUSAL) if scheme == "http" else grpc(lambda stream: [head(stream), tail(stream, 0)], received)
    with serving(serve, host="127.0.0.2") as at:
        _, (target,) = ask(f"{scheme}://shop.example:{at}")

    assert target["target"] == f"{scheme}://shop.example:{at}"
    assert answers(target)[0] == ("refused" if scheme == "http" else "served")


@pytest.mark.usefixtures("two_addresses")
def test_name_without_listener_is_one_line(ask: Ask) -> None:
    at = free_port()
    code, targets = ask(f"http://shop.example:{at}")

    assert code == 2
    assert failure(targets) == "nothing listens there (connection refused)"


def test_name_with_too_many_addresses_is_rejected(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.1.{last}", 0)) for last in range(200)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: entries)

    code, targets = ask("http://shop.example:3500")

    assert code == 2
    assert failure(targets) == "its name stands for 200 addresses; ask them one by one"


def test_silent_name_server_times_out(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    end = threading.Event()

    def wait(*_args: object, **_more: object) -> list[object]:
        end.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    try:
        code, targets = ask("http://shop.example:3500", timeout="0.2")
    finally:
        end.set()

    assert code == 2
    assert failure(targets) == "its name servers gave no answer within 0.2 s"


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "a b", "ü" * 80])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_invalid_name_is_rejected(scheme: str, host: str, ask: Ask) -> None:
    code, targets = ask(f"{scheme}://{host}:3500")

    assert code == 2
    assert failure(targets) == "there is no host of that name"


# --- TLS ---


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_certificate_for_another_name_is_rejected(scheme: str, tls: tuple[ssl.SSLContext, str], ask: Ask) -> None:
    tls[0].set_alpn_protocols(["h2"] if scheme == "grpcs" else ["http/1.1"])
    with serving(saying(REFUSAL), tls[0], host="127.0.0.2") as at:
        code, targets = ask(f"{scheme}://127.0.0.2:{at}", "--ca-file", tls[1])

    assert code == 2
    assert failure(targets).startswith("TLS: the certificate is not trusted")


@pytest.mark.parametrize(
    ("scheme", "why"),
    [
        ("http", "what answers there speaks TLS; write https:// or grpcs://"),
        ("grpc", "what answers there does not speak gRPC"),
    ],
)
def test_unexpected_tls_is_reported(scheme: str, why: str, tls: tuple[ssl.SSLContext, str], ask: Ask) -> None:
    with serving(saying(REFUSAL), tls[0]) as at:
        code, targets = ask(f"{scheme}://127.0.0.1:{at}")

    assert code == 2
    assert failure(targets) in {why, "the connection was closed without an answer"}


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_missing_handshake_times_out(scheme: str, ask: Ask) -> None:
    with serving(silent) as at:
        code, targets = ask(f"{scheme}://127.0.0.1:{at}", timeout="0.5")

    assert code == 2
    assert failure(targets) == "no answer within 0.5 s"


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_both_protocols_trust_system_certificates(
    scheme: str, tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    received: list[bytes] = []
    tls[0].set_alpn_protocols(["h2"] if scheme == "grpcs" else ["http/1.1"])
    serve = saying(REFUSAL) if scheme == "https" else grpc(lambda stream: [head(stream), tail(stream, 0)], received)
    monkeypatch.setenv("SSL_CERT_FILE", tls[1])
    with serving(serve, tls[0]) as at:
        code, (target,) = ask(f"{scheme}://localhost:{at}")

    assert code == 1
    assert answers(target)[0] == ("refused" if scheme == "https" else "served")


# --- gRPC ---

DETAILS: Final = ("grpc-status-details-bin", "AAAA")


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (lambda stream: [head(stream), tail(stream, 16, ("grpc-message", "Unauthorized"))], "UNAUTHENTICATED"),
        (lambda stream: [head(stream), tail(stream, 16, DETAILS)], "UNAUTHENTICATED"),
        (lambda stream: [head(stream), tail(stream, 16, ("x-long", "x" * 10_000))], "gRPC"),
        (lambda stream: [head(stream, ("x-long", "x" * 10_000)), tail(stream, 16)], "gRPC"),
        (lambda stream: [head(stream), frame(http2.DATA, 0, stream, b"\0\xff\xff\xff\xff")], "RESOURCE_EXHAUSTED"),
        (lambda stream: [head(stream), tail(stream, 99)], "UNKNOWN"),
        (lambda stream: [head(stream), tail(stream, 7)], "PERMISSION_DENIED"),
        (lambda _: [b"\xff" * 100], "gRPC"),
    ],
    ids=["no-details", "other-details", "trailers", "headers", "message", "status", "denied", "noise"],
)
def test_other_grpc_server_is_not_daprd(pieces: Callable[[int], Iterable[bytes]], why: str, ask: Ask) -> None:
    received: list[bytes] = []
    with serving(grpc(pieces, received)) as at:
        code, targets = ask(f"grpc://127.0.0.1:{at}")

    assert code == 2
    assert why in failure(targets)
    assert not any(MARKER.encode() in request for request in received)


@pytest.mark.parametrize(
    "pieces",
    [
        lambda stream: itertools.chain(
            [frame(http2.HEADERS, 0, stream, b"")],
            itertools.repeat(frame(http2.CONTINUATION, 0, stream, http2.fields(("x-more", "x" * 1000)))),
        ),
        lambda _: itertools.repeat(frame(http2.PING, 0, 0, b"12345678")),
        lambda _: itertools.repeat(frame(http2.SETTINGS, 0, 0)),
        lambda stream: itertools.repeat(frame(http2.DATA, 0, stream)),
    ],
    ids=["continuation", "ping", "settings", "data"],
)
def test_endless_grpc_times_out(pieces: Callable[[int], Iterable[bytes]], ask: Ask) -> None:
    with serving(grpc(pieces, [])) as at:
        code, targets = ask(f"grpc://127.0.0.1:{at}", timeout="1")

    assert code == 2
    assert failure(targets)


def test_compressed_message_is_never_unpacked(ask: Ask) -> None:
    """So none can fill the memory: this one could not be unpacked at all."""

    def pieces(stream: int) -> list[bytes]:
        return [
            head(stream, ("grpc-encoding", "gzip")),
            message(stream, b"no gzip", is_compressed=True),
            tail(stream, 0),
        ]

    with serving(grpc(pieces, [])) as at:
        code, (target,) = ask(f"grpc://127.0.0.1:{at}")

    assert (code, answers(target)[0]) == (1, "served")
