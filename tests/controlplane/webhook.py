"""The two webhooks as real processes: ours, as `python -m injector serve`, and Dapr's own injector."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

from tests import forkserver
from tests.controlplane import binaries
from tests.controlplane.pki import Authority, Pair
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.registration import Endpoint
from tests.controlplane.scrape import current, get
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_TIMEOUT_SECONDS = 120.0
REQUESTS_METRIC: Final = "dapr_token_injector_admission_requests_total"
SIDECAR_IMAGE: Final = "example.invalid/daprd:from-daprs-injector"


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The options of the webhook; the host is the one that the API server dials."""

    folder: Path
    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()  # what else the certificate is for, as <service>.<namespace>.svc
    port: int = 0  # a free one
    policy: Mapping[str, Any] | None = None
    flags: tuple[str, ...] = ()  # others, as on the command line
    authority: Authority = field(default_factory=lambda: Authority.create("webhook-ca"))

    def issue_pair(self, authority: Authority) -> Pair:
        """Sign the serving certificate."""
        return authority.issue_server(hosts=[self.host, *self.names])


@dataclass(frozen=True, slots=True)
class Webhook:
    """Our webhook, listening."""

    settings: WebhookSettings
    process: ManagedProcess
    endpoint: Endpoint
    ops_url: str

    @classmethod
    def start(cls, settings: WebhookSettings) -> Webhook:
        """Start `injector serve` with a certificate made for it, and return when it listens.

        Raises:
            ProcessDiedError: it ended at its start.
            DeadlineError: it did not say in time that it listens.
        """
        settings.folder.mkdir(exist_ok=True)
        settings.issue_pair(settings.authority).write(settings.folder, "webhook")
        return cls._serve(settings)

    def restart(self) -> Webhook:
        """Restart it where the API server expects it: same port, same certificate."""
        self.process.log_path.unlink()
        return self._serve(dataclasses.replace(self.settings, port=self.port))

    @classmethod
    def _serve(cls, settings: WebhookSettings) -> Webhook:
        log_path = settings.folder / "webhook.log"
        process = ManagedProcess.start("injector serve", _command(settings), log_path=log_path)
        try:
            listening = wait_for(
                "injector serve listening", lambda: _listening(process), timeout_seconds=START_TIMEOUT_SECONDS
            )
        except BaseException:
            process.stop()
            raise
        endpoint = Endpoint(f"https://{settings.host}:{listening['port']}", settings.authority.pem)
        return cls(settings, process, endpoint, f"http://{settings.host}:{listening['ops_port']}")

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.endpoint.url.rpartition(":")[2])

    @property
    def _address(self) -> tuple[str, int]:
        return self.settings.host, self.port

    def kill(self) -> None:
        """End it as a node's failure does, and wait until its port is closed.

        The process that is killed is a client of the fork server, which ends the webhook a moment later.
        """
        self.process.kill()
        wait_for("the webhook's port closed", self._is_closed)

    def _is_closed(self) -> bool:
        try:
            socket.create_connection(self._address).close()
        except ConnectionRefusedError:
            return True
        return False

    def replace_certificate(self, authority: Authority) -> None:
        """Replace the served pair, as a Secret's update does, and wait until the new one is served."""
        pair = self.settings.issue_pair(authority)
        for path in pair.write(self.settings.folder, "next"):
            path.replace(path.with_stem("webhook"))
        expected = pair.certificate.decode().split()
        wait_for("the new certificate served", lambda: ssl.get_server_certificate(self._address).split() == expected)

    def requests_served(self, **labels: str) -> float:
        """Return how many reviews were answered, all of them or those with these labels."""
        text = current(lambda: get(f"{self.ops_url}/metrics").raise_for_status().text)
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        wanted = labels.items()
        return sum(s.value for s in samples if s.name == REQUESTS_METRIC and wanted <= s.labels.items())


def _command(settings: WebhookSettings) -> list[str]:
    command = [
        *(*forkserver.command(), "serve"),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--ops-host", settings.host, "--ops-port", "0"),
        *("--tls-mode", "files"),
        *("--tls-cert-file", str(settings.folder / "webhook.crt")),
        *("--tls-private-key-file", str(settings.folder / "webhook.key")),
        *("--drain-min-seconds", "0", "--drain-max-seconds", "0"),
        *("--log-format", "json"),
        *settings.flags,
    ]
    if settings.policy is not None:
        policy = write_private(settings.folder / "policy.yaml", json.dumps(dict(settings.policy)).encode())
        command += ["--policy-file", str(policy)]
    return command


def _listening(process: ManagedProcess) -> dict[str, Any] | None:
    """Return the log record that names the ports, once it is there."""
    process.ensure_running()
    for line in process.log().splitlines():
        record = _json_object(line)
        if record.get("message") == "listening":
            return record
    return None


def _json_object(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:  # half a line, or not ours
        return {}
    return record if isinstance(record, dict) else {}


@dataclass(frozen=True, slots=True)
class DaprInjector:
    """Dapr's own sidecar injector, listening."""

    process: ManagedProcess
    endpoint: Endpoint

    @classmethod
    def start(cls, folder: Path, *, host: str = "127.0.0.1", report: binaries.Report) -> DaprInjector:
        """Start it and return when it listens, on a free port of every address (Dapr has no setting for that).

        Raises:
            BuildError: it could not be built.
            ProcessDiedError: it ended at its start.
        """
        program = binaries.resolve(binaries.DAPR_INJECTOR, report)
        folder.mkdir(exist_ok=True)
        authority = Authority.create("dapr-webhook-ca")
        certificate, key = authority.issue_server(hosts=[host]).write(folder, "dapr-injector")
        environment = {
            "INJECTOR_PORT": "0",
            "INJECTOR_TLS_CERT_FILE": str(certificate),
            "INJECTOR_TLS_KEY_FILE": str(key),
            "NAMESPACE": "dapr-system",
            "SIDECAR_IMAGE": SIDECAR_IMAGE,
            "KUBE_CLUSTER_DOMAIN": "cluster.local",
            # In a cluster it looks up the uids of the controllers it serves; by name it needs no cluster.
            "ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES": "kube-system:*",
        }
        process = ManagedProcess.start(
            "dapr-injector", [str(program)], log_path=folder / "dapr-injector.log", env=environment
        )
        try:
            port = wait_for("dapr-injector listening", lambda: _dapr_port(process))
        except BaseException:
            process.stop()
            raise
        return cls(process, Endpoint(f"https://{host}:{port}", authority.pem))

    def injected(self, app_id: str) -> bool:
        """Whether Dapr's own log reports a patched Pod of this app."""
        return f"Sidecar injector succeeded injection for app '{app_id}'" in self.process.log()


def _dapr_port(process: ManagedProcess) -> int | None:
    process.ensure_running()
    match = re.search(r"Sidecar injector is listening on \S*:(\d+)", process.log())
    return int(match[1]) if match else None
