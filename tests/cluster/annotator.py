"""A webhook of somebody else's that adds an annotation to every Pod of a namespace."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING, Final

from tests.controlplane.pki import Authority
from tests.controlplane.registration import Endpoint, somebody_elses
from tests.controlplane.standin import read_json, send_json
from tests.controlplane.workspace import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.kubectl import Json

_ANNOTATIONS: Final = "/metadata/annotations"


@contextlib.contextmanager
def annotator(name: str, annotation: str, value: str, *, namespace: str) -> Iterator[Json]:
    """Serve it, and yield its configuration, which is called by its place in the order of names."""
    authority = Authority.create("annotator-ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with temporary_folder() as folder:
        context.load_cert_chain(*authority.issue_server(hosts=["127.0.0.1"]).write(folder, "annotator"))
    path = f"{_ANNOTATIONS}/{annotation.replace('/', '~1')}"
    patch = json.dumps([{"op": "add", "path": path, "value": value}]).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = read_json(self)
            response = {
                "uid": asked["request"]["uid"],
                "allowed": True,
                "patchType": "JSONPatch",
                "patch": base64.b64encode(patch).decode(),
            }
            send_json(self, 200, {"apiVersion": asked["apiVersion"], "kind": asked["kind"], "response": response})

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            endpoint = Endpoint(f"https://127.0.0.1:{server.server_port}", authority.pem)
            yield somebody_elses(endpoint, namespace=namespace, name=name)
        finally:
            server.shutdown()
            thread.join()
