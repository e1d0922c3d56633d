"""The sources of the replicas' certificates, and how users or programs change them."""

from __future__ import annotations

import base64
import secrets
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from tests.availability.replicas import NAMESPACE, PORT, Group
from tests.controlplane.errors import HarnessError
from tests.controlplane.pki import Authority
from tests.controlplane.polling import wait_for
from tests.controlplane.registration import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.availability.api import ApiClient
    from tests.availability.replicas import Replica

_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_SECRET: Final = f"/api/v1/namespaces/{NAMESPACE}/secrets/dapr-token-injector-ca"


class Certificates(Protocol):
    """The certificates of all replicas."""

    @property
    def bundle(self) -> bytes | None:
        """The initial bundle of the registration; None leaves it to the replicas."""
        ...

    def prepare(self, api: ApiClient) -> None:
        """Create the objects that the first replica needs."""
        ...

    def flags(self, folder: Path) -> Sequence[str]:
        """The options of a new replica; its files are written to `folder`."""
        ...

    def renew(self, replicas: Sequence[Replica], between: Callable[[], None]) -> None:
        """Make each replica serve another certificate of the same CA."""
        ...

    def rotate(self, api: ApiClient, replicas: Sequence[Replica], between: Callable[[], None]) -> None:
        """Make the replicas serve certificates of another CA, and remove trust in the previous one."""
        ...


@dataclass(frozen=True, slots=True)
class SelfManaged:
    """`--tls-mode self`: the replicas manage them. Lifetimes are short, so that renewals happen during the test."""

    kubeconfig: Path

    @property
    def bundle(self) -> None:
        """The replicas write it."""
        return

    def prepare(self, api: ApiClient) -> None:
        """The Secret, empty as it is shipped."""
        namespace, name = NAMESPACE, _SECRET.rpartition("/")[2]
        api.apply(
            _SECRET,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"namespace": namespace, "name": name},
                "type": "Opaque",
            },
        )

    def flags(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - others write into it
        """The options of a new replica."""
        return (
            *("--tls-mode", "self", "--kubeconfig", str(self.kubeconfig), "--namespace", NAMESPACE),
            *("--leaf-lifetime", LEAF_LIFETIME, "--ca-settle-time", SETTLE_TIME),
        )

    def renew(self, replicas: Sequence[Replica], between: Callable[[], None]) -> None:
        """Wait until each has renewed its own."""
        before = [(replica, replica.metric(_LEAF_ENDS)) for replica in replicas]
        for replica, ends in before:
            _wait(f"{replica.name} renewed", lambda r=replica, e=ends: r.metric(_LEAF_ENDS) > e)  # type: ignore[misc] # mypy cannot infer a lambda with defaults
            between()

    def rotate(
        self,
        api: ApiClient,  # noqa: ARG002 - others write the bundle by it
        replicas: Sequence[Replica],
        between: Callable[[], None],
    ) -> None:
        """Request a new CA with the command, and wait until the previous one is no longer trusted."""

        def pruned() -> float:
            return sum(replica.metric("ca_steps_total", step="prune") for replica in replicas)

        before = pruned()
        command = ["ca", "rotate", "--kubeconfig", str(self.kubeconfig), "--namespace", NAMESPACE]
        done = subprocess.run(
            [sys.executable, "-m", "injector", *command], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise HarnessError(f"`ca rotate` ended with status {done.returncode}: {done.stderr}")
        _wait("the old authority pruned", lambda: pruned() > before)
        between()


_LEAF_ENDS: Final = "certificate_expiry_timestamp_seconds"
LEAF_LIFETIME: Final = "45s"
SETTLE_TIME: Final = "2s"


@dataclass(slots=True)
class Files:
    """`--tls-mode files`: a pair per replica, and a caBundle that is written by hand."""

    authority: Authority = field(default_factory=lambda: Authority.create("webhook-ca"))

    @property
    def bundle(self) -> bytes:
        """The initial bundle of the registration."""
        return self.authority.pem

    def prepare(self, api: ApiClient) -> None:
        """Nothing: it needs no API."""

    def flags(self, folder: Path) -> Sequence[str]:
        """A pair for a new replica, and the flags that name it."""
        certificate, key = self.authority.issue_server(hosts=[Group().host]).write(folder, "tls")
        files = ("--tls-cert-file", str(certificate), "--tls-private-key-file", str(key))
        return ("--tls-mode", "files", *files, "--tls-reload-interval", "0.2")

    def renew(self, replicas: Sequence[Replica], between: Callable[[], None]) -> None:
        """Put a new pair in place of each served one, as a Secret's update does, and wait until it is served."""
        for replica in replicas:
            pair = self.authority.issue_server(hosts=[replica.group.host])
            for path in pair.write(replica.folder, "next"):
                path.replace(path.with_stem("tls"))
            expected = pair.certificate.decode().split()
            _wait("the new certificate served", lambda r=replica, e=expected: served(r).split() == e)  # type: ignore[misc] # as above
            between()

    def rotate(self, api: ApiClient, replicas: Sequence[Replica], between: Callable[[], None]) -> None:
        """Publish the next CA next to the previous one, use it, then remove the previous one."""
        old, new = self.authority, Authority.create("next-webhook-ca")
        self._trust(api, old, new)
        between()
        self.authority = new
        self.renew(replicas, between)
        self._trust(api, new)
        between()

    def _trust(self, api: ApiClient, *authorities: Authority) -> None:
        """Write the bundle. A comment makes it differ each time, so that the API server reconnects."""
        remark = f"# {secrets.token_hex(4)}\n".encode()
        write_bundle(api, remark + b"".join(authority.pem for authority in authorities), NAME)


def _wait(what: str, probe: Callable[[], bool]) -> None:
    wait_for(what, probe, timeout_seconds=120, interval_seconds=0.2)


def served(replica: Replica) -> str:
    """The PEM that a replica serves to new connections."""
    return ssl.get_server_certificate((replica.address, PORT))


def write_bundle(api: ApiClient, bundle: bytes, *names: str) -> None:
    """Set the bundle of the configurations' entries, as another client would."""
    value = base64.b64encode(bundle).decode()
    for name in names:
        entries = range(len(bundles(api, name)))
        changes = [{"op": "add", "path": f"/webhooks/{i}/clientConfig/caBundle", "value": value} for i in entries]
        api.json_patch(f"{_CONFIGURATIONS}/{name}", changes)


def bundles(api: ApiClient, *names: str) -> list[bytes]:
    """The bundle of each entry of the configurations, as it is stored."""
    entries = [entry for name in names for entry in api.get(f"{_CONFIGURATIONS}/{name}")["webhooks"]]
    return [base64.b64decode(entry["clientConfig"].get("caBundle", "")) for entry in entries]
