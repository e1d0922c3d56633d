"""Servers on loopback that are not daprd, each wrong in its own way; a real daprd makes none of these faults."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer each connection in turn until the end; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]

        def work() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    if tls is None:
                        answer(connection)
                    else:
                        with tls.wrap_socket(connection, server_side=True) as wrapped:
                            answer(wrapped)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            yield port
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            worker.join(30)


def saying(*pieces: bytes, received: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """A server that reads one request and answers with these bytes, whatever was asked."""

    def answer(connection: socket.socket) -> None:
        request = connection.recv(65536)
        if received is not None:
            received.append(request)
        for piece in pieces:
            connection.sendall(piece)

    return answer


def page(status: str, body: bytes) -> bytes:
    """An answer of HTTP."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def silent(connection: socket.socket) -> None:
    """Read until the peer gives up."""
    while connection.recv(65536):
        pass
