"""The real daprd, alone on loopback."""

from __future__ import annotations

import contextlib
import http.client
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.controlplane import binaries
from tests.controlplane.errors import ProcessDiedError
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Ports:
    """Free a moment ago."""

    http: int = field(default_factory=free_port)
    grpc: int = field(default_factory=free_port)
    internal: int = field(default_factory=free_port)
    public: int = field(default_factory=free_port)
    metrics: int = field(default_factory=free_port)
    profile: int = field(default_factory=free_port)

    def flags(self, folder: Path, *more: str) -> list[str]:
        """Arguments of a daprd that has nothing but itself."""
        (folder / "resources").mkdir(exist_ok=True)
        return [
            *("--app-id", "shop", "--resources-path", str(folder / "resources")),
            *("--placement-host-address", "", "--scheduler-host-address", ""),
            *("--dapr-http-port", str(self.http), "--dapr-grpc-port", str(self.grpc)),
            *("--dapr-internal-grpc-port", str(self.internal), "--dapr-public-port", str(self.public)),
            *("--metrics-port", str(self.metrics), "--profile-port", str(self.profile)),
            *("--dapr-listen-addresses", "127.0.0.1", "--dapr-graceful-shutdown-seconds", "0"),
            *more,
        ]

    @property
    def targets(self) -> list[str]:
        """As `probe` takes them."""
        return [f"http://127.0.0.1:{self.http}", f"grpc://127.0.0.1:{self.grpc}"]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A running daprd."""

    ports: Ports
    process: ManagedProcess

    def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """GET from its API."""
        return get(self.ports.http, path, {} if token is None else {"dapr-api-token": token})

    @property
    def env(self) -> dict[str, str]:
        """What Dapr's injector and its CLI tell an app."""
        return {"DAPR_HTTP_PORT": str(self.ports.http), "DAPR_GRPC_PORT": str(self.ports.grpc)}


def get(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """GET from loopback: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()


def is_up(port: int) -> bool:
    """Whether a daprd says that it is ready; this needs no token."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return get(port, "/v1.0/healthz/outbound", {})[0] == 204
    return False


@contextlib.contextmanager
def sidecar(folder: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Sidecar]:
    """Run a daprd until the end of the block."""
    folder.mkdir(exist_ok=True)
    program = binaries.resolve(binaries.DAPRD)
    clean = {"DAPR_API_TOKEN": "", "APP_API_TOKEN": "", **(env or {})}
    for attempt in range(_ATTEMPTS):
        ports = Ports()
        command = [str(program), *ports.flags(folder, *flags)]
        with ManagedProcess.start("daprd", command, log_path=folder / f"log-{attempt}", env=clean) as process:
            try:
                wait_for(
                    "daprd",
                    lambda process=process, ports=ports: process.ensure_running() or is_up(ports.http),  # type: ignore[misc]
                    timeout_seconds=180,
                    describe=process.log,
                )
            except ProcessDiedError:
                if attempt + 1 == _ATTEMPTS or "address already in use" not in process.log():
                    raise
                continue  # another process has taken a port
            yield Sidecar(ports, process)
            return
