"""An installation as `deploy/` has it, in the store of the fake API server, and replicas that speak TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import socket
import ssl
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import urlencode

import aiohttp
from ruamel.yaml import YAML

from injector.kube.errors import ForbiddenError, Refusal, error_from_status
from tests.controlplane.pki import Authority
from tests.fake_cluster.client import StoreApi
from tests.fake_cluster.store import RESOURCES, Store
from tests.served import not_yet_served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from injector.kube.resources import Object
    from injector.kube.transport import Request
    from tests.controlplane.pki import Pair

NAME: Final = "dapr-token-injector"
HOST: Final = f"{NAME}.{NAME}.svc"
MUTATING: Final = "mutatingwebhookconfigurations"
VALIDATING: Final = "validatingwebhookconfigurations"
GUARD: Final = "dapr-token-injector-guard"
DEPLOY: Final = Path(__file__).parents[3] / "deploy"
_FILES: Final = (
    "base/webhooks",
    "base/service",
    "base/deployment",
    "components/guard/policy",
    "components/guard/bindings",
)
_PLURALS: Final = {one.kind: one.plural for one in RESOURCES.values()}
_FIRST_FAILURE: Final = 300
VERSION: Final = {"major": "1", "minor": "30", "gitVersion": "v1.30.4-gke.100"}


@cache
def authority() -> Authority:
    """The CA whose certificate the entries have."""
    return Authority.create("webhook-ca")


@cache
def _documents() -> tuple[Object, ...]:
    return tuple(item for file in _FILES for item in YAML(typ="safe").load_all(DEPLOY / f"{file}.yaml"))


def installed() -> Store:
    """A sound installation, with a bundle, two ready replicas, and a namespace that uses Dapr."""
    store = Store()
    for document in copy.deepcopy(_documents()):
        document["metadata"].setdefault("labels", {})["app.kubernetes.io/version"] = "0.1.0"
        store.put(_PLURALS[document["kind"]], document)
    set_bundle(store, authority().pem)
    for name in ("kube-system", NAME, "shop"):
        add_namespace(store, name)
    add_pod(store, "shop", requests=True)
    put_replicas(store, "replica-a", "replica-b")
    return store


def entries(store: Store, plural: str = MUTATING, *, group: str = NAME) -> list[Object]:
    """The entries of a configuration, to change."""
    found: list[Object] = store.objects[plural, "", group]["webhooks"]
    return found


def set_bundle(store: Store, pem: bytes, plurals: tuple[str, ...] = (MUTATING, VALIDATING)) -> None:
    """Set the caBundle of all entries."""
    for plural in plurals:
        for entry in entries(store, plural):
            entry["clientConfig"]["caBundle"] = base64.b64encode(pem).decode()


def add_namespace(store: Store, name: str, **labels: str) -> None:
    """Add a namespace; underscores of a label stand for what a Python name cannot have."""
    words = {key.replace("_", "-").replace("--", "/"): value for key, value in labels.items()}
    store.put("namespaces", {"metadata": {"name": name, "labels": words}})


def add_pod(store: Store, namespace: str, *, requests: bool, labels: Mapping[str, str] | None = None) -> Object:
    """Add a Dapr Pod that requests a token, or does not."""
    annotations = {"dapr.io/enabled": "true"} | ({"dapr.io/api-token-secret": "s"} if requests else {})
    name = f"pod-{len(store.objects)}"
    meta = {"namespace": namespace, "name": name, "annotations": annotations, "labels": labels}
    return store.put("pods", {"metadata": meta, "status": {"phase": "Running"}})


def put_replicas(store: Store, *names: str, service: str = NAME) -> None:
    """Put an EndpointSlice with these ready Pods, and one that is not ready."""
    endpoints: list[Object] = [
        {
            "targetRef": {"kind": "Pod", "name": one},
            "conditions": {"ready": one != "starting"},
            "addresses": ["10.0.0.1"],
        }
        for one in (*names, "starting")
    ]
    meta = {"namespace": NAME, "name": service, "labels": {"kubernetes.io/service-name": service}}
    ports = [{"name": "ops", "port": 8080}, {"name": "https", "port": 10250}]
    store.put("endpointslices", {"metadata": meta, "endpoints": endpoints, "ports": ports})


class _Message(NamedTuple):
    type: aiohttp.WSMsgType
    data: bytes


class _Tunnel:
    """A websocket that forwards to a port on loopback, as a kubelet does."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def __aiter__(self) -> AsyncIterator[_Message]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[_Message]:
        for greeting in (b"\0\0\0", b"\1\0\0"):
            yield _Message(aiohttp.WSMsgType.BINARY, greeting)
        while piece := await self._reader.read(65536):
            yield _Message(aiohttp.WSMsgType.BINARY, b"\0" + piece)

    async def send_bytes(self, content: bytes) -> None:
        self._writer.write(content[1:])

    async def close(self) -> None:
        self._writer.close()


class InstalledApi(StoreApi):
    """Also answers discovery, `/version` and `/metrics`, and forwards to the ports of `replicas` by name of the Pod."""

    def __init__(self, store: Store, *, replicas: Mapping[str, int] | None = None, forbidden: str = "") -> None:
        super().__init__(store)
        self.replicas = replicas or {}
        self.forbidden = forbidden  # a part of a path
        self.answers: dict[str, Any] = {
            "/version": VERSION,
            "/apis/admissionregistration.k8s.io/v1": {
                "resources": [{"name": one.plural} for one in RESOURCES.values() if "admission" in one.group]
            },
        }
        self.metrics = ""

    async def send(self, request: Request) -> Object:
        """Answer a read from the store at once."""
        self._refuse(request)
        if request.path in self.answers:
            found: Object = self.answers[request.path]
            return found
        path = f"{request.path}?{urlencode(request.query)}"
        status, answer = self._store.answer(request.method, path, None)
        if status >= _FIRST_FAILURE:
            raise error_from_status(request.operation, Refusal(status, answer["reason"], answer["message"]))
        return copy.deepcopy(answer)

    async def fetch(self, request: Request) -> bytes:
        """Answer `/metrics` of the Service, and lists."""
        if "/proxy/" not in request.path:
            return await super().fetch(request)
        self._refuse(request)
        assert request.path.endswith(f"/services/http:{NAME}:ops/proxy/metrics".replace(":", "%3A"))
        return self.metrics.encode()

    async def connect(self, request: Request, protocol: str) -> Any:  # noqa: ANN401 - stands for a websocket
        del protocol
        self._refuse(request)
        assert dict(request.query) == {"ports": "10250"}
        return _Tunnel(self.replicas[request.path.split("/")[-2]])

    def _refuse(self, request: Request) -> None:
        if self.forbidden and self.forbidden in request.path:
            raise ForbiddenError(request.operation, Refusal(403, message="no"))


@contextlib.contextmanager
def replica(pair: Pair | None, folder: Path) -> Iterator[int]:
    """Serve this certificate on a port that is yielded; none: speak plain HTTP."""
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair.write(folder, "replica"))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            with accepted, contextlib.suppress(OSError):
                if context is None:
                    accepted.recv(1024)
                    accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    continue
                with context.wrap_socket(accepted, server_side=True) as encrypted:
                    encrypted.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()


SECOND: Final = f"{NAME}-2"


def with_two_groups() -> Store:
    """A sound installation of two groups (`webhook.redundancy: 2`) with the policy `requested`."""
    store = installed()
    for file in ("policy", "binding"):
        policy = YAML(typ="safe").load(DEPLOY / f"components/requested/{file}.yaml")
        store.put(_PLURALS[policy["kind"]], policy)
    for entry in entries(store):
        entry |= {"failurePolicy": "Ignore", "timeoutSeconds": 1}
    for plural in ("deployments", "services", MUTATING):
        second = copy.deepcopy(store.objects[plural, "" if plural == MUTATING else NAME, NAME])
        second["metadata"] |= {"name": SECOND}
        store.put(plural, second)
    for entry in entries(store, group=SECOND):
        expression = not_yet_served(default=entry["name"].startswith("default"))
        entry["name"] = entry["name"].replace(".", "-2.", 1)
        entry["matchConditions"].append({"name": "not-yet-served", "expression": expression})
        entry["clientConfig"]["service"]["name"] = SECOND
        entry["timeoutSeconds"] = 5
    container(store)["args"] += ["--fail-over", f"--second-webhook-configuration-name={SECOND}"]
    container(store, SECOND)["args"] += [
        f"--service-name={SECOND}",
        f"--second-webhook-configuration-name={SECOND}",
    ]
    put_replicas(store, "replica-c", "replica-d", service=SECOND)
    return store


def container(store: Store, deployment: str = NAME) -> Object:
    """The webhook's container in a Deployment, to change."""
    found: Object = store.objects["deployments", NAME, deployment]["spec"]["template"]["spec"]["containers"][0]
    return found
