"""An installation with certificates of cert-manager: the real controllers, the real chart, local replicas.

There is no node, so this replaces the kubelet: it starts a replica with the arguments of the Deployment's container and
updates the Secret in its folder as a kubelet does. There is no Pod network either: the Service points to loopback under
its own name, so that certificates have the names of the chart.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import secrets
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from injector.webhook.certs.objects import BUNDLE_MANAGER
from tests.cluster.installation import Forwarder
from tests.controlplane import binaries
from tests.controlplane.helm import CHART
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.controlplane.api import Json
    from tests.controlplane.helm import Helm
    from tests.controlplane.kubectl import Kubectl

NAME: Final = "dapr-token-injector"
AUTHORITY: Final = "dapr-token-injector-ca"  # the CA's Certificate
AUTHORITY_SECRET: Final = "dapr-token-injector-cert-manager-ca"
CONFIGURATIONS: Final = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
_POLICY: Final = "/etc/dapr-token-injector/policy"
_TLS: Final = "/etc/dapr-token-injector/tls"

Files = dict[str, bytes]


@contextlib.contextmanager
def cert_manager(kubeconfig: Path, folder: Path, report: binaries.Report) -> Iterator[ManagedProcess]:
    """Run cert-manager's controllers and its cainjector; see `gomod/cert-manager/main.go`."""
    program = binaries.resolve(binaries.CERT_MANAGER, report)
    command = [str(program), f"--kubeconfig={kubeconfig}"]
    process = ManagedProcess.start("cert-manager", command, log_path=folder / "cert-manager.log")
    try:
        yield process
    finally:
        process.kill()


class Volume:
    """A Secret's volume: `update` replaces all of its files atomically, by one symbolic link."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._versions = itertools.count()

    def update(self, files: Files) -> None:
        """As https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/volume/util/atomic_writer.go does it."""
        current, new = self.folder / "..data", self.folder / f"..version-{next(self._versions)}"
        before = current.readlink() if current.is_symlink() else None
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        swap = self.folder / "..data_tmp"
        swap.symlink_to(new.name)
        swap.replace(current)
        if before is not None:
            old = self.folder / before
            for file in old.iterdir():
                file.unlink()
            old.rmdir()


@dataclass(frozen=True, slots=True)
class Replica:
    """One `serve` process, as the Deployment has it."""

    process: ManagedProcess
    volume: Volume
    port: int

    def serve(self, files: Files) -> None:
        """Bring a new content of the Secret to it, and wait until it is served."""
        self.volume.update(files)
        expected = leaf_of(files)

        def served() -> bool:
            self.process.ensure_running()
            try:
                shown = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=10)
            except OSError:  # the machine was busy for that time
                return False
            return x509.load_pem_x509_certificate(shown.encode()) == expected

        wait_for("the new certificate served", served, describe=self.process.log)


@dataclass(frozen=True, slots=True)
class Managed:
    """The chart in mode `cert-manager`; `kubectl` is in its namespace."""

    kubectl: Kubectl
    folder: Path
    process: ManagedProcess  # cert-manager
    forwarder: Forwarder
    stack: contextlib.ExitStack
    replicas: list[Replica] = field(default_factory=list)

    # --- state ---

    def is_ready(self, kind: str, name: str) -> bool:
        """Whether cert-manager reports the condition."""
        conditions = self.kubectl.get(kind, name).get("status", {}).get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def secret(self, name: str = "dapr-token-injector-tls") -> Files:
        """The data of a Secret; empty if it does not exist."""
        data = (self.kubectl.find("secret", name) or {}).get("data", {})
        return {key: base64.b64decode(value) for key, value in data.items()}

    def authority(self) -> x509.Certificate | None:
        """The CA's certificate as its own Secret has it; None while there is none."""
        pem = self.secret(AUTHORITY_SECRET).get("tls.crt")
        return x509.load_pem_x509_certificate(pem) if pem else None

    def entries(self) -> list[Json]:
        """The entries of both webhook configurations."""
        return [entry for kind in CONFIGURATIONS for entry in self.kubectl.get(kind, NAME)["webhooks"]]

    def trusted(self) -> list[list[x509.Certificate]]:
        """Whom each entry trusts."""
        bundles = (base64.b64decode(entry["clientConfig"].get("caBundle", "")) for entry in self.entries())
        return [x509.load_pem_x509_certificates(bundle) if bundle else [] for bundle in bundles]

    def trusts(self, *authorities: x509.Certificate | None) -> bool:
        """Whether every entry trusts these and no other."""
        return all(set(found) == set(authorities) for found in self.trusted())

    def wait_for(self, what: str, probe: Callable[[], Any]) -> None:
        """Wait for something that cert-manager does."""

        def look() -> bool:
            self.process.ensure_running()
            return bool(probe())

        end = 3000  # characters of the log
        wait_for(what, look, describe=lambda: self.process.log()[-end:])

    # --- actions of a user ---

    def renew(self, name: str = NAME) -> None:
        """As `cmctl renew` does: https://cert-manager.io/docs/reference/cmctl/#renew."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        asked = {
            "type": "Issuing",
            "status": "True",
            "reason": "ManuallyTriggered",
            "message": "Certificate re-issuance manually triggered",
            "lastTransitionTime": now,
        }
        before = self.kubectl.get("certificate", name)["status"]["conditions"]
        conditions = [*(one for one in before if one["type"] != "Issuing"), asked]
        change = json.dumps({"status": {"conditions": conditions}})
        self.kubectl.run("patch", "certificate", name, "--subresource=status", "--type=merge", f"--patch={change}")

    def trust_only(self, authority: x509.Certificate) -> None:
        """Write the bundles by hand."""
        self._write_bundles(lambda _: authority.public_bytes(Encoding.PEM))

    def trust_as_replicas(self, authority: x509.Certificate) -> None:
        """Write the bundles as replicas in mode `self` do, under their own field manager."""
        bundle = base64.b64encode(authority.public_bytes(Encoding.PEM)).decode()
        for kind in CONFIGURATIONS:
            found = self.kubectl.get(kind, NAME)
            webhooks = [{"name": entry["name"], "clientConfig": {"caBundle": bundle}} for entry in found["webhooks"]]
            item = {key: found[key] for key in ("apiVersion", "kind")}
            item |= {"metadata": {"name": NAME, "uid": found["metadata"]["uid"]}, "webhooks": webhooks}
            self.kubectl.apply(item, "--server-side", "--force-conflicts", f"--field-manager={BUNDLE_MANAGER}")

    def reconnect(self) -> None:
        """Make the API server see the current certificates: it keeps its connections until a bundle changes."""
        remark = f"# {secrets.token_hex(4)}\n".encode()
        self._write_bundles(lambda bundle: remark + bundle)

    def _write_bundles(self, change: Callable[[bytes], bytes]) -> None:
        for kind in CONFIGURATIONS:
            bundles = [entry["clientConfig"].get("caBundle", "") for entry in self.kubectl.get(kind, NAME)["webhooks"]]
            path = "/webhooks/{}/clientConfig/caBundle"
            changed = [base64.b64encode(change(base64.b64decode(bundle))).decode() for bundle in bundles]
            patch = [{"op": "replace", "path": path.format(i), "value": value} for i, value in enumerate(changed)]
            self.kubectl.patch(kind, NAME, patch)

    def renewed(self) -> Files:
        """Have the serving pair renewed, and return the Secret's new content."""
        before = self.secret()
        self.renew()
        self.wait_for("a new serving pair", lambda: self.secret().get("tls.crt") not in {None, before["tls.crt"]})
        return self.secret()

    def serve(self, files: Files) -> None:
        """Update the Secret's content in one replica after another, with calls in between."""
        for replica in self.replicas:
            replica.serve(files)
            self.reconnect()

    def start(self) -> Replica:
        """Start one more replica as the Deployment describes it, with the Secret's present content."""
        number = len(self.replicas)
        folder = self.folder / f"replica-{number}"
        folder.mkdir()
        volume = Volume(folder / "tls")
        volume.update(self.secret())
        policy = self.kubectl.get("configmap", "dapr-token-injector-policy")["data"]["policy.yaml"]
        write_private(folder / "policy.yaml", policy.encode())
        arguments = self.kubectl.get("deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["args"]
        mounted = {_POLICY: str(folder), _TLS: str(volume.folder)}
        process = ManagedProcess.start(
            "injector serve",
            [sys.executable, "-m", "injector", *_moved(arguments, mounted), *_HERE],
            log_path=folder / "serve.log",
            env={"KUBECONFIG": os.devnull},  # it has no business with the API
        )
        self.stack.callback(process.stop)

        def listening() -> Json | None:
            process.ensure_running()
            records = (json.loads(line) for line in process.log().splitlines() if '"listening"' in line)
            return next(records, None)

        record = wait_for("injector serve listening", listening, describe=process.log)
        replica = Replica(process, volume, record["port"])
        self.replicas.append(replica)
        self.forwarder.backends = (*self.forwarder.backends, replica.port)
        return replica


# A flag that is given twice counts as given last.
_HERE: Final = (
    *("--host=127.0.0.1", "--port=0", "--ops-host=127.0.0.1", "--ops-port=0", "--tls-reload-interval=0.1"),
    *("--drain-min-seconds=0", "--drain-max-seconds=0", "--log-format=json"),
)


def _moved(arguments: list[str], mounted: Mapping[str, str]) -> Iterator[str]:
    """The arguments, with the places of volumes here."""
    for argument in arguments:
        moved = argument
        for mount_path, folder in mounted.items():
            moved = moved.replace(f"={mount_path}/", f"={folder}/")
        yield moved


def leaf_of(files: Files) -> x509.Certificate:
    """The serving certificate in a Secret's content."""
    return x509.load_pem_x509_certificate(files["tls.crt"])


@contextlib.contextmanager
def managed(kubectl: Kubectl, helm: Helm, kubeconfig: Path, folder: Path, report: binaries.Report) -> Iterator[Managed]:
    """Install the chart into kubectl's namespace, next to a running cert-manager, without replicas."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(cert_manager(kubeconfig, folder, report))
        forwarder = Forwarder()
        stack.callback(forwarder.close)
        here = f"--namespace={kubectl.namespace}"
        stack.callback(helm.run, "uninstall", NAME, here, "--ignore-not-found")
        helm.run("install", NAME, str(CHART), here, "--set=tls.mode=cert-manager")
        made = Managed(kubectl, folder, process, forwarder, stack)
        _lead_to_loopback(made)
        yield made


def _lead_to_loopback(made: Managed) -> None:
    """Point the Service to a port of this machine; callers still use its own name."""
    spec = {"type": "ExternalName", "externalName": "127.0.0.1", "clusterIP": None, "clusterIPs": None}
    change = json.dumps({"spec": spec})
    made.kubectl.run("patch", "service", NAME, "--type=merge", f"--patch={change}")
    for kind in CONFIGURATIONS:
        count = len(made.kubectl.get(kind, NAME)["webhooks"])
        path = "/webhooks/{}/clientConfig/service/port"
        ports = [{"op": "replace", "path": path.format(i), "value": made.forwarder.port} for i in range(count)]
        made.kubectl.patch(kind, NAME, ports)
