"""Servers on loopback that are not daprd, each with one fault that daprd does not have."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

MARKER: Final = "marker-0123456789abcdef"  # the token on the command line; none of these servers may receive it


@contextlib.contextmanager
def serving(
    answer: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """Answer each connection until the end; yield the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        port = int(listener.getsockname()[1])

        workers: list[threading.Thread] = []
        handles: list[socket.socket] = []

        def serve(connection: socket.socket, handle: socket.socket) -> None:
            with handle, connection, contextlib.suppress(OSError):
                if tls is None:
                    answer(connection)
                else:
                    with tls.wrap_socket(connection, server_side=True) as wrapped:
                        answer(wrapped)

        def work() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                handles.append(connection.dup())  # wrap_socket takes over the descriptor of the connection
                workers.append(threading.Thread(target=serve, args=(connection, handles[-1]), daemon=True))
                workers[-1].start()

        acceptor = threading.Thread(target=work, daemon=True)
        acceptor.start()
        try:
            yield port
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(30)
            for handle in handles:  # a client that has not closed it would block the worker
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
            for worker in workers:
                worker.join(30)


def saying(*pieces: bytes, received: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """Return a server that reads one request and answers with these bytes."""

    def answer(connection: socket.socket) -> None:
        request = connection.recv(65536)
        if received is not None:
            received.append(request)
        for piece in pieces:
            connection.sendall(piece)

    return answer


def page(status: str, body: bytes) -> bytes:
    """Return an HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


REFUSAL: Final = page("401 Unauthorized", b"invalid api token\n")


def silent(connection: socket.socket) -> None:
    """Read until the peer gives up."""
    while connection.recv(65536):
        pass
