"""etcd, kube-apiserver and kube-controller-manager on 127.0.0.1, as one context manager.

No root, no fixed port, no file outside one temporary folder. There is no node and no scheduler: Pods are
created, admitted and stored, never run. The controller manager uses a ServiceAccount per controller, so a
Deployment's Pods are created by the same user as on a real cluster.

With a `Network` that is not loopback (see `netns`) the API server also dials the addresses of a Service's
EndpointSlices, so that a webhook is registered as users have it, by `service`; and a node can join.

The harness chooses the ports because neither etcd nor the API server reports a port that it chose; when
another process takes one in between, all programs are started again.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import secrets
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.controlplane import binaries
from tests.controlplane.errors import HarnessError, ProcessDiedError
from tests.controlplane.kubectl import Kubectl
from tests.controlplane.pki import Authority, Pair, private_pem
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess, free_port
from tests.controlplane.workspace import temporary_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

START_TIMEOUT_SECONDS = 120.0
_ATTEMPTS = 5

# The user whose requests the audit log has whole, with their answers.
_AUDITED: Final = "audited"
# Level Request shows the patches; everything but the creation of Pods would only be noise.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "RequestResponse", "users": [_AUDITED]},
        {"level": "Request", "verbs": ["create"], "resources": [{"group": "", "resources": ["pods"]}]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of what a control plane consists of."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path

    @classmethod
    def resolve(cls, report: binaries.Report = binaries.report_to_stderr) -> Programs:
        """Find or build all of them; the first time this takes a quarter of an hour.

        Raises:
            BuildError: one could be neither found nor built.
        """
        return cls(
            etcd=binaries.resolve(binaries.ETCD, report),
            kube_apiserver=binaries.resolve(binaries.KUBE_APISERVER, report),
            kube_controller_manager=binaries.resolve(binaries.KUBE_CONTROLLER_MANAGER, report),
            kubectl=binaries.resolve(binaries.KUBECTL, report),
        )

    def kubernetes_version(self) -> tuple[int, ...]:
        """The version of the API server, such as `(1, 37, 2)`."""
        version = subprocess.run([str(self.kube_apiserver), "--version"], capture_output=True, text=True, check=True)
        return tuple(map(int, version.stdout.strip().removeprefix("Kubernetes v").split("-")[0].split(".")))


@dataclass(frozen=True, slots=True)
class Network:
    """The advertised IP address of the API server, and the range of Service addresses."""

    address: str = "127.0.0.1"
    service_cidr: str = "10.96.0.0/16"

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def first_service_address(self) -> str:
        """What `kubernetes.default.svc` is."""
        return str(ipaddress.ip_network(self.service_cidr)[1])


LOOPBACK: Final = Network()


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane; `audit_log` has one JSON event per line for every Pod's creation.

    It also has every request with `audited_kubeconfig`.
    """

    folder: Path
    url: str
    network: Network
    authority: Authority
    kubeconfig: Path
    audit_log: Path
    kubectl: Kubectl
    etcd: ManagedProcess
    apiserver: ManagedProcess
    controller_manager: ManagedProcess

    def audited_kubeconfig(self) -> Path:
        """Write the kubeconfig of an administrator whose requests are in the audit log, and return its path."""
        client = self.authority.issue_client(user=_AUDITED, group="system:masters")
        return write_kubeconfig(self.folder, _AUDITED, self.url, self.authority, client)

    def audited_requests(self) -> list[dict[str, Any]]:
        """Return the audit events of these requests, with the answers."""
        lines = self.audit_log.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if f'"username":"{_AUDITED}"' in line]

    def creation_in(self, namespace: str) -> dict[str, Any] | None:
        """Return the audit event of the first Pod that was created in a namespace, without dry runs.

        Only lines that name it are read: those of other tests may be nested deeper than `json` reads, and the last line
        may be incomplete.
        """
        for line in self.audit_log.read_text("utf-8").splitlines(keepends=True):
            if f'"{namespace}"' in line and line.endswith("\n"):
                event: dict[str, Any] = json.loads(line)
                if event["objectRef"]["namespace"] == namespace and "dryRun" not in event["requestURI"]:
                    return event
        return None


@contextlib.contextmanager
def control_plane(
    programs: Programs | None = None,
    *,
    network: Network = LOOPBACK,
    choose_port: Callable[[], int] = free_port,
    apiserver_flags: Sequence[str] = (),
) -> Iterator[ControlPlane]:
    """Start a control plane, yield it when it answers, and leave nothing of it behind.

    `apiserver_flags` come after the API server's others.
    With another `network` than loopback call it where that address is: within `NetworkNamespace.entered`.

    Raises:
        BuildError: a program could be neither found nor built.
        ProcessDiedError: one ended at its start; the message has the end of its log.
        DeadlineError: it was not ready in time.
    """
    found = programs or Programs.resolve()
    with contextlib.ExitStack() as stack:
        yield _enter_with_free_ports(_Plan(found, network, tuple(apiserver_flags)), choose_port, stack)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The settings that do not depend on ports."""

    programs: Programs
    network: Network
    apiserver_flags: tuple[str, ...]


def _enter_with_free_ports(plan: _Plan, choose_port: Callable[[], int], stack: contextlib.ExitStack) -> ControlPlane:
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as attempt:
            try:
                started = _start(plan, _Ports(choose_port(), choose_port(), choose_port()), attempt)
            except ProcessDiedError as error:
                if not error.is_port_taken:
                    raise
            else:
                stack.push(attempt.pop_all())
                return started
    raise HarnessError(f"no control plane: another process took a port we had chosen, {_ATTEMPTS} times in a row")


@dataclass(frozen=True, slots=True)
class _Ports:
    etcd: int
    etcd_peer: int
    apiserver: int


def _start(plan: _Plan, ports: _Ports, stack: contextlib.ExitStack) -> ControlPlane:
    folder = stack.enter_context(temporary_folder())
    authority = Authority.create("control-plane-ca")
    url = f"https://127.0.0.1:{ports.apiserver}"
    # All their data is in the folder, which is deleted with them, so they are killed.
    etcd = _start_etcd(plan.programs.etcd, folder, ports)
    stack.callback(etcd.kill)
    apiserver = _start_apiserver(plan, folder, authority, ports)
    stack.callback(apiserver.kill)
    admin = authority.issue_client(user="admin", group="system:masters")
    kubeconfig = write_kubeconfig(folder, "admin", url, authority, admin)
    _wait_until_ready(url, authority, folder, apiserver, etcd)
    manager = _start_controller_manager(plan.programs.kube_controller_manager, folder, authority, url)
    stack.callback(manager.kill)
    kubectl = Kubectl(plan.programs.kubectl, kubeconfig, folder / "kubectl-cache")
    wait_for_service_account(kubectl, manager)
    return ControlPlane(
        folder, url, plan.network, authority, kubeconfig, folder / "audit.log", kubectl, etcd, apiserver, manager
    )


@contextlib.contextmanager
def own_namespace(kubectl: Kubectl, prefix: str = "token-injector") -> Iterator[Kubectl]:
    """A namespace in which Pods can be created, for as long as the block lasts; kubectl within it."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    create_namespace(kubectl, name)
    within = kubectl.within(name)
    try:
        wait_for_service_account(within)
        yield within
    finally:
        kubectl.delete("namespace", name)


def create_namespace(kubectl: Kubectl, name: str) -> None:
    """Create a namespace, which has no ServiceAccount yet."""
    kubectl.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def wait_for_service_account(kubectl: Kubectl, manager: ManagedProcess | None = None) -> None:
    """Wait until Pods can be created in the namespace: they need its ServiceAccount `default`."""

    def probe() -> bool:
        if manager is not None:
            manager.ensure_running()
        return kubectl.find("serviceaccount", "default") is not None

    wait_for(f"ServiceAccount default of namespace {kubectl.namespace}", probe, timeout_seconds=START_TIMEOUT_SECONDS)


def _start_etcd(program: Path, folder: Path, ports: _Ports) -> ManagedProcess:
    url, peer_url = _etcd_url(ports), f"http://127.0.0.1:{ports.etcd_peer}"
    command = [
        str(program),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",  # its data does not outlive the run
    ]
    return ManagedProcess.start("etcd", command, log_path=folder / "etcd.log")


def _etcd_url(ports: _Ports) -> str:
    return f"http://127.0.0.1:{ports.etcd}"


def _start_apiserver(plan: _Plan, folder: Path, authority: Authority, ports: _Ports) -> ManagedProcess:
    network = plan.network
    hosts = {"127.0.0.1", "localhost", "kubernetes.default.svc", network.first_service_address, network.address}
    certificate, key = authority.issue_server(hosts=sorted(hosts)).write(folder, "apiserver")
    signing_key, public_key = _write_service_account_keys(folder)
    command = [
        str(plan.programs.kube_apiserver),
        f"--etcd-servers={_etcd_url(ports)}",
        *_reachability(network),
        f"--secure-port={ports.apiserver}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={write_private(folder / 'ca.crt', authority.pem)}",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={signing_key}",
        f"--service-account-key-file={public_key}",
        f"--service-cluster-ip-range={network.service_cidr}",
        f"--audit-policy-file={write_private(folder / 'audit-policy.json', json.dumps(_AUDIT_POLICY).encode())}",
        f"--audit-log-path={folder / 'audit.log'}",
        *_kubelet_access(folder, authority),
        "--audit-log-mode=blocking",  # an event is in the file before its request is answered
        *plan.apiserver_flags,
    ]
    return ManagedProcess.start("kube-apiserver", command, log_path=folder / "apiserver.log")


def _kubelet_access(folder: Path, authority: Authority) -> tuple[str, ...]:
    """Return the flags for calling a kubelet, which logs and exec need once a node has joined."""
    pair = authority.issue_client(user="kube-apiserver-kubelet-client", group="system:masters")
    certificate, key = pair.write(folder, "kubelet-client")
    return (
        f"--kubelet-client-certificate={certificate}",
        f"--kubelet-client-key={key}",
        f"--kubelet-certificate-authority={folder / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
    )


def _reachability(network: Network) -> tuple[str, ...]:
    """Return the flags for the API server's address and for its routing of Services."""
    if network.is_loopback:
        # Any other reconciler rejects a loopback address.
        return "--bind-address=127.0.0.1", f"--advertise-address={network.address}", "--endpoint-reconciler-type=none"
    # Without kube-proxy nothing answers at a Service's own address, hence the EndpointSlices'.
    return "--bind-address=0.0.0.0", f"--advertise-address={network.address}", "--enable-aggregator-routing=true"


def _start_controller_manager(program: Path, folder: Path, authority: Authority, url: str) -> ManagedProcess:
    client = authority.issue_client(user="system:kube-controller-manager")
    command = [
        str(program),
        f"--kubeconfig={write_kubeconfig(folder, 'controller-manager', url, authority, client)}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={folder / 'service-account.key'}",
        f"--root-ca-file={folder / 'ca.crt'}",
        "--leader-elect=false",
        # The default throttles the many ServiceAccounts that it makes at its start, for four seconds.
        "--kube-api-qps=1000",
        "--kube-api-burst=1000",
        "--secure-port=0",  # its metrics are not read, so it needs no port
    ]
    return ManagedProcess.start("kube-controller-manager", command, log_path=folder / "controller-manager.log")


def _write_service_account_keys(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return (
        write_private(folder / "service-account.key", private_pem(key)),
        write_private(folder / "service-account.pub", public),
    )


def write_kubeconfig(folder: Path, name: str, url: str, authority: Authority, client: Pair) -> Path:
    """Write a kubeconfig with everything in it; JSON is YAML."""
    user = {"client-certificate-data": _base64(client.certificate), "client-key-data": _base64(client.key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": url, "certificate-authority-data": _base64(authority.pem)}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        "current-context": "test",
    }
    return write_private(folder / f"{name}.kubeconfig", json.dumps(content, indent=2).encode())


def _wait_until_ready(url: str, authority: Authority, folder: Path, *processes: ManagedProcess) -> None:
    """Wait for the API server's own readiness, which includes the default RBAC roles."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    probe_pair = authority.issue_client(user="readiness-probe", group="system:masters").write(folder, "probe")
    context.load_cert_chain(*probe_pair)
    with httpx.Client(verify=context, trust_env=False, timeout=5.0) as client:

        def probe() -> bool:
            for process in processes:
                process.ensure_running()
            try:
                return client.get(f"{url}/readyz").status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        wait_for("kube-apiserver ready", probe, timeout_seconds=START_TIMEOUT_SECONDS)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
