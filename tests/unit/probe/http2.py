"""A server of gRPC made of bytes, for answers that no library would send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator

DATA, HEADERS, SETTINGS, PING, CONTINUATION = 0, 1, 4, 6, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_PREFACE: Final = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEAD: Final = 9  # bytes of a frame before its payload


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame: RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def fields(*pairs: tuple[str, str]) -> bytes:
    """Header fields as they are, neither indexed nor compressed: RFC 7541, 6.2.2."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in pairs)


def _string(text: str) -> bytes:
    rest = len(text) - 127
    if rest < 0:
        return bytes((len(text),)) + text.encode()
    length = [127]
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes((*length, rest)) + text.encode()


def head(stream: int, *more: tuple[str, str]) -> bytes:
    """The beginning of an answer."""
    return frame(HEADERS, END_HEADERS, stream, fields((":status", "200"), ("content-type", "application/grpc"), *more))


def tail(stream: int, status: int, *more: tuple[str, str]) -> bytes:
    """The end of an answer."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, fields(("grpc-status", str(status)), *more))


def message(stream: int, payload: bytes, *, is_compressed: bool = False) -> bytes:
    """A message of gRPC."""
    return frame(DATA, 0, stream, bytes((is_compressed,)) + len(payload).to_bytes(4, "big") + payload)


def grpc(answer: Callable[[int], Iterable[bytes]], received: list[bytes]) -> Callable[[socket.socket], None]:
    """A server that answers each call with these pieces, given its stream."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(frame(SETTINGS, 0, 0))
        for kind, flags, stream, payload in _frames(connection):
            received.append(payload)
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                connection.sendall(frame(PING, ACK, 0, payload))
            elif kind == HEADERS:
                for piece in answer(stream):
                    connection.sendall(piece)

    return serve


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    buffer = b""
    at = _PREFACE
    while piece := connection.recv(65536):
        buffer += piece
        while len(buffer) >= at + _HEAD:
            end = at + _HEAD + int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) < end:
                break
            kind, flags, stream = buffer[at + 3], buffer[at + 4], int.from_bytes(buffer[at + 5 : at + 9], "big")
            payload = buffer[at + _HEAD : end]
            at = end
            yield kind, flags, stream, payload
