"""The end of connections to an API server that no longer answers."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from injector.kube.client import Api
from injector.kube.resources import SECRETS
from tests.controlplane.cluster import write_kubeconfig
from tests.controlplane.pki import Authority

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 30.0
EVENT = b'{"type":"ADDED","object":{"metadata":{"name":"s"}}}\n'


def test_watch_that_ends_early_leaves_no_connection(tmp_path: Path) -> None:
    """TLS ends with a word of each side; this API server says nothing more after the first event."""
    authority = Authority.create("api")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue_server(hosts=["127.0.0.1"]).write(tmp_path, "api"))
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    kubeconfig = write_kubeconfig(tmp_path, "me", url, authority, authority.issue_client(user="me"))
    accepted: list[ssl.SSLSocket] = []

    def serve() -> None:
        connection, _ = listener.accept()
        connection.settimeout(SECONDS)
        accepted.append(context.wrap_socket(connection, server_side=True))
        accepted[0].recv(65536)
        accepted[0].sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n" + EVENT
        )

    async def work() -> None:
        async with await Api.from_kubeconfig(str(kubeconfig)) as api:
            events = api.watch(SECRETS, "shop", resource_version="0")
            assert (await anext(events))["type"] == "ADDED"
            await events.aclose()

    server = threading.Thread(target=serve)
    server.start()
    asyncio.run(work())
    server.join()

    with listener, accepted[0] as tls, socket.socket(fileno=os.dup(tls.fileno())) as raw:
        raw.settimeout(SECONDS)
        while raw.recv(65536):
            pass  # the client's word that TLS ends, then the end of the connection
