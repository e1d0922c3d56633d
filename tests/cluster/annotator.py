"""Webhooks of other projects: one adds an annotation to every Pod of a namespace, one patches as a test wants."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING, Final

from tests.controlplane.pki import Authority
from tests.controlplane.registration import Endpoint, foreign_webhook
from tests.controlplane.workspace import temporary_folder
from tests.fake_cluster.http_json import read_json, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.controlplane.api import Json

_WRITES: Final = ("CREATE", "UPDATE")
_ANNOTATIONS: Final = "/metadata/annotations"


def annotator(name: str, annotation: str, value: str, *, namespace: str) -> contextlib.AbstractContextManager[Json]:
    """Serve it, and yield its configuration, which is called by its place in the order of names."""
    path = f"{_ANNOTATIONS}/{annotation.replace('/', '~1')}"
    return mutator(name, [{"op": "add", "path": path, "value": value}], namespace=namespace)


@contextlib.contextmanager
def mutator(name: str, operations: list[Json], *, namespace: str, resource: str = "pods") -> Iterator[Json]:
    """Serve a webhook that patches every object of a resource, and yield its configuration."""
    with served(lambda _review: operations) as endpoint:
        configuration = foreign_webhook(endpoint, namespace=namespace, name=name)
        for entry in configuration["webhooks"]:
            entry["rules"] = [{**rule, "resources": [resource], "operations": _WRITES} for rule in entry["rules"]]
        yield configuration


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # an API server that has waited for another webhook connects many times at once


@contextlib.contextmanager
def served(operations_for: Callable[[Json], list[Json]]) -> Iterator[Endpoint]:
    """Serve a webhook that allows every object, with the operations for its review, and yield its endpoint."""
    authority = Authority.create("annotator-ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with temporary_folder() as folder:
        context.load_cert_chain(*authority.issue_server(hosts=["127.0.0.1"]).write(folder, "annotator"))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # a handshake for every call would be too slow for the calls of a soak run
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = read_json(self)
            response = {
                "uid": asked["request"]["uid"],
                "allowed": True,
                "patchType": "JSONPatch",
                "patch": base64.b64encode(json.dumps(operations_for(asked)).encode()).decode(),
            }
            send_json(self, 200, {"apiVersion": asked["apiVersion"], "kind": asked["kind"], "response": response})

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        # Each connection's own thread makes its handshake, so that none waits for another's.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Endpoint(f"https://127.0.0.1:{server.server_port}", authority.pem)
        finally:
            server.shutdown()
            thread.join()
