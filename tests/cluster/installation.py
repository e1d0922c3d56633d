"""An installation that keeps its own certificates: its objects, its rights and nothing more, its replicas.

The replicas run as processes with the token of a ServiceAccount that has exactly the rights which the chart gives.
API servers call them through a forwarder on loopback, which spreads connections over the replicas that are ready, as a
Service does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import select
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from tests import forkserver
from tests.cluster.policies import rights
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.registration import token_injector, workload_warnings
from tests.controlplane.scrape import current, get
from tests.controlplane.workspace import write_private
from tests.documents import document

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

SECRET: Final = "dapr-token-injector-ca"
SERVICE: Final = "dapr-token-injector"
ACCOUNT: Final = "dapr-token-injector"
MUTATING: Final = "mutatingwebhookconfiguration"
VALIDATING: Final = "validatingwebhookconfiguration"


class Forwarder:
    """A Service on loopback: hands each connection to one of its backends, in turn."""

    def __init__(self) -> None:
        self.backends: tuple[int, ...] = ()
        self._turn = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self._open = True
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Accept no more."""
        self._open = False
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listening.close()

    def _accept(self) -> None:
        while self._open:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        backends = self.backends
        self._turn += 1
        with accepted, contextlib.suppress(OSError):
            if not backends:
                return
            with socket.create_connection(("127.0.0.1", backends[self._turn % len(backends)])) as backend:
                _pump(accepted, backend)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways until either side ends."""
    towards = {one: other, other: one}
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for source in readable:
            content = source.recv(65536)
            if not content:
                return
            towards[source].sendall(content)


@dataclass(frozen=True, slots=True)
class Replica:
    """One `serve` process."""

    process: ManagedProcess
    port: int
    ops_url: str

    def records(self, message: str) -> list[dict[str, Any]]:
        """Log lines with this message."""
        return [record for record in _records(self.process.log()) if record["message"] == message]

    def readyz(self) -> dict[str, Any]:
        """The text of the certificate's check, `ok` or a problem."""
        answer: dict[str, Any] = get(f"{self.ops_url}/readyz").json()
        check: dict[str, Any] = answer["checks"]["certificate"]
        return check

    def is_ready(self) -> bool:
        """Whether the replica is ready."""
        self.process.ensure_running()
        return get(f"{self.ops_url}/readyz").is_success

    def metric(self, series: str) -> float:
        """One sample; `series` without our prefix."""
        text = current(lambda: get(f"{self.ops_url}/metrics").raise_for_status().text)
        start = f"dapr_token_injector_{series} "
        return next(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.popen.send_signal(number)


def _records(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "message" in record:
                yield record


@dataclass(frozen=True, slots=True)
class Installation:
    """The objects of one installation in a namespace of its own."""

    kubectl: Kubectl
    folder: Path
    name: str
    forwarder: Forwarder
    stack: contextlib.ExitStack
    replicas: list[Replica] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """Where it is installed, and which namespace it serves."""
        return self.kubectl.namespace

    def start(self, *flags: str, ready: bool = True, command: Sequence[str] = ()) -> Replica:
        """Start one more replica; behind the forwarder once it is ready. `command`: in place of a fork."""
        number = len(self.replicas)
        process = ManagedProcess.start(
            "injector serve",
            [
                *(command or forkserver.command()),
                *_SERVE,
                f"--kubeconfig={self.folder / 'replica.kubeconfig'}",
                *self._names(),
                *flags,
            ],
            log_path=self.folder / f"replica-{number}.log",
        )
        self.stack.callback(process.stop)

        def listening() -> dict[str, Any] | None:
            process.ensure_running()
            return next((r for r in _records(process.log()) if r["message"] == "listening"), None)

        record = wait_for("injector serve listening", listening, describe=process.log)
        replica = Replica(process, record["port"], f"http://127.0.0.1:{record['ops_port']}")
        self.replicas.append(replica)
        if ready:
            wait_for("a ready replica", replica.is_ready, describe=process.log)
            self.forwarder.backends = (*self.forwarder.backends, replica.port)
        return replica

    def _names(self) -> tuple[str, ...]:
        return (
            f"--namespace={self.namespace}",
            f"--webhook-configuration-name={self.name}",
            "--certificate-names=127.0.0.1",
        )

    def register(self) -> None:
        """Create both configurations, without a bundle."""
        for make in (token_injector, workload_warnings):
            configuration = make(self, namespace=self.namespace)
            configuration["metadata"]["name"] = self.name
            self.kubectl.create(configuration)
            self.stack.callback(self.kubectl.delete, configuration["kind"], self.name)

    def client_config(self, path: str) -> Json:
        """How API servers call us; the bundle is the replicas' own work."""
        return {"url": f"https://127.0.0.1:{self.forwarder.port}{path}"}

    # --- state ---

    def secret(self) -> dict[str, bytes]:
        """The data of the Secret."""
        data = self.kubectl.get("secret", SECRET).get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def set_secret(self, data: dict[str, bytes] | None) -> None:
        """Replace the data of the Secret."""
        encoded = {key: base64.b64encode(value).decode() for key, value in (data or {}).items()}
        change = [{"op": "add", "path": "/data", "value": encoded}]
        self.kubectl.patch("secret", SECRET, change)

    def bundles(self) -> list[bytes]:
        """Every entry's caBundle."""
        entries = (entry for kind in (MUTATING, VALIDATING) for entry in self.kubectl.get(kind, self.name)["webhooks"])
        return [base64.b64decode(entry["clientConfig"].get("caBundle", "")) for entry in entries]

    def bundle_owners(self, kind: str) -> set[str]:
        """Field managers that own a bundle of a configuration."""
        output = self.kubectl.run("get", kind, self.name, "-o", "json", "--show-managed-fields").stdout
        managers = json.loads(output)["metadata"]["managedFields"]
        return {manager["manager"] for manager in managers if "f:caBundle" in json.dumps(manager["fieldsV1"])}

    def set_bundle(self, kind: str, index: int, bundle: str) -> None:
        """Change an entry, as another client could."""
        change = [{"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}]
        self.kubectl.patch(kind, self.name, change)

    # --- rights ---

    def grant(self) -> None:
        """Grant the replicas exactly the permissions of the manifests, with the fence; again after `revoke`."""
        for item in rights(namespace=self.namespace, name=self.name):
            if self.kubectl.find(item["kind"], item["metadata"]["name"]) is None:
                self.kubectl.create(item)

    def revoke(self, kind: str) -> None:
        """Take the rights of a RoleBinding or a ClusterRoleBinding away."""
        self.kubectl.delete(kind, self.name)


_SERVE: Final = (
    *("serve", "--tls-mode=self"),
    *("--host=127.0.0.1", "--port=0", "--ops-host=127.0.0.1", "--ops-port=0"),
    *("--drain-min-seconds=0", "--drain-max-seconds=0", "--log-format=json"),
)


@contextlib.contextmanager
def installation(kubectl: Kubectl, folder: Path) -> Iterator[Installation]:
    """An installation in kubectl's namespace, without replicas."""
    with contextlib.ExitStack() as stack:
        forwarder = Forwarder()
        stack.callback(forwarder.close)
        made = Installation(kubectl, folder, f"dapr-token-injector-{secrets.token_hex(4)}", forwarder, stack)
        kubectl.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
        kubectl.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}})
        made.grant()
        policies = ("validatingadmissionpolicybinding", "validatingadmissionpolicy")
        for kind in ("clusterrolebinding", "clusterrole", *policies):
            stack.callback(kubectl.delete, kind, made.name)
        write_kubeconfig(kubectl, folder / "replica.kubeconfig")
        made.register()
        yield made


def write_kubeconfig(kubectl: Kubectl, path: Path) -> None:
    """A kubeconfig with the ServiceAccount's token in place of the administrator's certificate."""
    config: Json = document(kubectl.kubeconfig)
    token = kubectl.token(ACCOUNT)
    context = next(each for each in config["contexts"] if each["name"] == config["current-context"])
    config["users"] = [{"name": context["context"]["user"], "user": {"token": token}}]
    write_private(path, json.dumps(config).encode())


def request_rotation(kubectl: Kubectl) -> None:
    """Request a new CA, as a user does by hand."""
    kubectl.run("annotate", "secret", SECRET, f"{names.ROTATE_CA}=now")


def eventually(what: str, probe: Callable[[], Any], replica: Replica | None = None) -> Any:  # noqa: ANN401 - what the probe found
    """Wait for something that replicas do."""
    return wait_for(what, probe, describe=replica.process.log if replica else str)
