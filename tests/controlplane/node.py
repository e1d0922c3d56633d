"""One real node in a separate network: kubelet, containerd, kube-proxy and a scheduler.

    with network_namespace() as network, network.entered(), one_node_cluster(programs, images) as cluster:
        ...

Pods run, Services route to them, Deployments roll out. Images come from an archive; there is no registry and no DNS.
Processes, mounts and control groups of the node are removed when the block or this process ends. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.controlplane import binaries
from tests.controlplane.cluster import ControlPlane, Network, Programs, control_plane, write_kubeconfig
from tests.controlplane.errors import HarnessError
from tests.controlplane.images import PAUSE
from tests.controlplane.isolation import control_group, isolated
from tests.controlplane.netns import NODE_ADDRESS
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "node"
_KUBELET_CONFIG: Final = "kubelet.json"
_GATES: Final = {"KubeletInUserNamespace": True}  # takes what the machine forbids as a warning
POD_CIDR: Final = "10.244.0.0/24"
START_TIMEOUT_SECONDS: Final = 180.0
_CNI_FOLDERS: Final = ("/usr/lib/cni", "/opt/cni/bin")
# Folders that containerd, the kubelet and the CNI plug-ins always write to; the host's are not modified.
_OVERLAYS: Final = ("/var/lib", "/var/log")
# Debian package by program.
_NEEDED: Final = {
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "mount": "mount",
    "unshare": "util-linux",
}


def reason_unavailable() -> str | None:
    """Return which programs a node lacks on this machine, None when it lacks none."""
    missing = [package for program, package in _NEEDED.items() if shutil.which(program) is None]
    if _cni_folder() is None:
        missing.append("containernetworking-plugins")
    return f"a node needs more programs: apt-get install {' '.join(missing)}" if missing else None


@dataclass(frozen=True, slots=True)
class NodePrograms:
    """Paths of what a node consists of, besides what the system's packages bring."""

    control_plane: Programs
    scheduler: Path
    kubelet: Path
    kube_proxy: Path
    containerd: Path
    containerd_shim: Path
    ctr: Path

    @classmethod
    def resolve(cls, report: binaries.Report = binaries.report_to_stderr) -> NodePrograms:
        """Find or build all of them.

        Raises:
            BuildError: one could be neither found nor built.
        """
        return cls(
            control_plane=Programs.resolve(report),
            scheduler=binaries.resolve(binaries.KUBE_SCHEDULER, report),
            kubelet=binaries.resolve(binaries.KUBELET, report),
            kube_proxy=binaries.resolve(binaries.KUBE_PROXY, report),
            containerd=binaries.resolve(binaries.CONTAINERD, report),
            containerd_shim=binaries.resolve(binaries.CONTAINERD_SHIM, report),
            ctr=binaries.resolve(binaries.CTR, report),
        )


@dataclass(frozen=True, slots=True)
class NodeCluster:
    """A control plane with one ready node; `node` is the parent of all processes of the node."""

    control_plane: ControlPlane
    node: ManagedProcess
    scheduler: ManagedProcess

    def restart_kubelet(self, **feature_gates: bool) -> None:
        """Restart the kubelet with these feature gates and its own; containers keep running."""
        file = self.control_plane.folder / "node" / _KUBELET_CONFIG
        config = json.loads(file.read_text("utf-8"))
        write_private(file, json.dumps({**config, "featureGates": {**_GATES, **feature_gates}}).encode())
        os.kill(_child(self.node, "kubelet"), signal.SIGKILL)


@contextlib.contextmanager
def one_node_cluster(programs: NodePrograms, archive: Path) -> Iterator[NodeCluster]:
    """Start a cluster with the images of an OCI archive, within `NetworkNamespace.entered`.

    Raises:
        ProcessDiedError: a program ended at its start; the message has the end of its log.
        DeadlineError: the node was not ready in time; the message has the end of the kubelet's log.
    """
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(control_plane(programs.control_plane, network=Network(NODE_ADDRESS)))
        layout = _Layout.create(control, stack.enter_context(control_group()))
        # All their data is in the folder, which is deleted with them, so they are killed.
        scheduler = _start_scheduler(programs.scheduler, control)
        stack.callback(scheduler.kill)
        node = _start_node(programs, control, layout)
        stack.callback(node.kill)
        _import_images(programs.ctr, layout, archive, node)
        _wait_until_ready(control, layout, node, scheduler)
        yield NodeCluster(control, node, scheduler)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the node's files are, all below the control plane's folder, and its control group."""

    folder: Path
    group: str

    @classmethod
    def create(cls, control: ControlPlane, group: str) -> _Layout:
        folder = control.folder / "node"
        for name in ("cni", "containerd", "kubelet", "pod-logs", "scratch"):
            (folder / name).mkdir(parents=True)
        return cls(folder, group)

    @property
    def socket(self) -> Path:
        return self.folder / "containerd.sock"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def _start_scheduler(program: Path, control: ControlPlane) -> ManagedProcess:
    client = control.authority.issue_client(user="system:kube-scheduler")
    kubeconfig = write_kubeconfig(control.folder, "scheduler", control.url, control.authority, client)
    command = [str(program), f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]
    return ManagedProcess.start("kube-scheduler", command, log_path=control.folder / "scheduler.log")


def _start_node(programs: NodePrograms, control: ControlPlane, layout: _Layout) -> ManagedProcess:
    spec = {
        "scratch": str(layout.folder / "scratch"),
        "overlays": [folder for folder in _OVERLAYS if Path(folder).is_dir()],
        "programs": [
            _containerd(programs, layout),
            _kubelet(programs.kubelet, control, layout),
            _kube_proxy(programs.kube_proxy, control, layout),
        ],
    }
    file = write_private(layout.folder / "spec.json", json.dumps(spec).encode())
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("node_init.py")), str(file)]
    path = f"{programs.containerd_shim.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return ManagedProcess.start("node", isolated(command), log_path=layout.log("node"), env={"PATH": path})


def _containerd(programs: NodePrograms, layout: _Layout) -> dict[str, Any]:
    config = f"""
version = 3
root = "{layout.folder}/containerd/root"
state = "{layout.folder}/containerd/state"
[grpc]
  address = "{layout.socket}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{_cni_folder()}"]
  conf_dir = "{layout.folder}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
"""
    network = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    write_private(layout.folder / "cni" / "10-pods.conflist", json.dumps(network).encode())
    file = write_private(layout.folder / "containerd.toml", config.encode())
    command = [str(programs.containerd), "--config", str(file)]
    return {
        "name": "containerd",
        "command": command,
        "log": str(layout.log("containerd")),
        "socket": str(layout.socket),
    }


def _kubelet(program: Path, control: ControlPlane, layout: _Layout) -> dict[str, Any]:
    certificate, key = control.authority.issue_server(hosts=[NODE_ADDRESS, NAME]).write(layout.folder, "kubelet")
    client = control.authority.issue_client(user=f"system:node:{NAME}", group="system:nodes")
    resolver = write_private(layout.folder / "resolv.conf", b"")
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(control.folder / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": layout.group,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "featureGates": _GATES,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": str(layout.folder / "pod-logs"),
        "resolvConf": str(resolver),
        "syncFrequency": "5s",
        "nodeStatusUpdateFrequency": "5s",
        "shutdownGracePeriod": "0s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},  # tests restart containers again and again
    }
    file = write_private(layout.folder / _KUBELET_CONFIG, json.dumps(config).encode())
    kubeconfig = write_kubeconfig(layout.folder, "kubelet-client", control.url, control.authority, client)
    command = [
        str(program),
        f"--config={file}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={layout.folder / 'kubelet'}",
        f"--hostname-override={NAME}",
        f"--node-ip={NODE_ADDRESS}",
    ]
    return {"name": "kubelet", "command": command, "log": str(layout.log("kubelet")), "restarts": True}


def _kube_proxy(program: Path, control: ControlPlane, layout: _Layout) -> dict[str, Any]:
    client = control.authority.issue_client(user="system:kube-proxy")
    kubeconfig = write_kubeconfig(layout.folder, "kube-proxy", control.url, control.authority, client)
    command = [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={NAME}",
        f"--cluster-cidr={POD_CIDR}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",  # the machine's limit is not ours to change
        "--metrics-bind-address=127.0.0.1:10249",
    ]
    return {"name": "kube-proxy", "command": command, "log": str(layout.log("kube-proxy"))}


def _import_images(ctr: Path, layout: _Layout, archive: Path, node: ManagedProcess) -> None:
    def has_socket() -> bool:
        node.ensure_running()
        return layout.socket.exists()

    wait_for("containerd's socket", has_socket, timeout_seconds=START_TIMEOUT_SECONDS)
    command = [str(ctr), f"--address={layout.socket}", "--namespace=k8s.io", "images", "import", str(archive)]
    with ManagedProcess.start("ctr", command, log_path=layout.log("import")) as importing:
        if importing.popen.wait(START_TIMEOUT_SECONDS) != 0:
            raise HarnessError(f"containerd refused the images: {importing.log()}")


def _child(parent: ManagedProcess, name: str) -> int:
    """Return the process id of a program of the node: a child of process 1 there, which is the child of ours."""
    (init,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    (found,) = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == name]
    return found


def _wait_until_ready(control: ControlPlane, layout: _Layout, node: ManagedProcess, scheduler: ManagedProcess) -> None:
    def probe() -> bool:
        for process in (node, scheduler):
            process.ensure_running()
        found = control.kubectl.try_run(
            "get", "node", NAME, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        )
        return found.stdout == "True"

    def describe() -> str:
        lines = (
            layout.log("kubelet").read_text("utf-8", "replace").splitlines() if layout.log("kubelet").exists() else []
        )
        return "The end of the kubelet's log:\n" + "\n".join(lines[-20:])

    wait_for("the node ready", probe, timeout_seconds=START_TIMEOUT_SECONDS, interval_seconds=0.25, describe=describe)


def _cni_folder() -> str | None:
    return next((folder for folder in _CNI_FOLDERS if Path(folder, "bridge").exists()), None)
