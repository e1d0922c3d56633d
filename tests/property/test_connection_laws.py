"""A connection answers the same bytes alike, in whatever pieces they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.webhook.test_protocol import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.webhook.endpoint import HTTPRequest, HTTPResponse

END: Final = b"\r\n\r\n"
BODIES: Final = (b"", b"{}", b"[]", END, b"a" + END, b"POST /mutate HTTP/1.1\r\nHost: x" + END)
EXTRAS: Final = (b"", b"", b"X: y\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: x\r\n")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, good or odd; most differ from one another in one thing only."""
    method = draw(st.sampled_from((b"POST", b"POST", b"POST", b"GET", b"HEAD")))
    path = draw(st.sampled_from((b"/mutate", b"/mutate?timeout=1s", b"http://x/mutate")))
    version = draw(st.sampled_from((b"1.1", b"1.1", b"1.1", b"1.0")))
    body, extra = draw(st.sampled_from(BODIES)), draw(st.sampled_from(EXTRAS))
    framing = draw(st.sampled_from(("length", "length", "length", "chunks", "none")))
    head = b"%b %b HTTP/%b\r\nHost: x\r\n%b" % (method, path, version, extra)
    before = draw(st.sampled_from((b"", b"", b"", b"\r\n", b"\r")))
    if framing == "length":
        return before + head + b"Content-Length: %d" % len(body) + END + body
    if framing == "chunks":
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return before + head + b"Transfer-Encoding: chunked" + END + chunk + b"0" + END
    return before + head + b"\r\n" + body


@st.composite
def arrivals(draw: st.DrawFn) -> list[bytes]:
    """What the socket brings: a few requests over and over, some cut, some together, some line ends between."""
    few = draw(st.lists(requests(), min_size=1, max_size=3))
    pieces: list[bytes] = []
    for request in draw(st.lists(st.sampled_from(few), min_size=1, max_size=8)):
        match draw(st.sampled_from(("whole", "whole", "whole", "cut", "joined", "after line ends"))):
            case "cut":
                at = draw(st.integers(0, len(request)))
                pieces += [request[:at], request[at:]]
            case "joined":
                pieces.append((pieces.pop() if pieces else b"") + request)
            case "after line ends":
                pieces += [b"\r\n" * draw(st.integers(1, 20)), request]
            case _:
                pieces.append(request)
    return [piece for piece in pieces if piece]


def observed(pieces: Sequence[bytes]) -> list[object]:
    """Everything that can be seen of a connection after all pieces."""
    seen: list[object] = []

    def answer(request: HTTPRequest) -> HTTPResponse:
        seen.append((request.method, request.path, request.query, request.content_type, request.body))
        if request.body == b"[]":
            raise ValueError
        return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", b"ok"

    loop = asyncio.new_event_loop()
    try:
        line = Line(loop, instant=answer)
        for piece in pieces:
            line.connection.data_received(memoryview(piece))
        line.run_tasks()
        seen.append((line.wire.written, line.wire.ended, line.connection.stage, line.metrics.in_flight))
        seen.append(line.metrics.errors)
    finally:
        loop.close()
    return seen


@given(arrivals())
@example([b"\r\n" * 5, b"\r\n" * 5, b"\r\n" * 5])
def test_pieces_change_no_answer(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = observed([whole])
    assert observed(pieces) == expected
    assert observed([whole[i : i + 1] for i in range(len(whole))]) == expected
