"""The node itself: runs on one machine are isolated, and each cleans up in every case."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.polling import wait_for
from tests.controlplane.workspace import PREFIX

if TYPE_CHECKING:
    from tests.node.target import Target

ROOT = Path(__file__).parents[2]

# A run that waits with a running Pod, and prints its folders and processes.
INNER = """
import os, signal, sys
from pathlib import Path
from tests.controlplane.binaries import report_to_stderr
from tests.controlplane.images import PAUSE
from tests.node.target import open_target

pod = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "sleeping"},
    "spec": {"containers": [{"name": "app", "image": PAUSE, "imagePullPolicy": "Never"}]},
}
with open_target(report_to_stderr) as target, target.entered():
    target.kubectl.create(pod)
    target.kubectl.run("wait", "pod/sleeping", "--for=condition=Ready", "--timeout=50s")
    (init,) = Path(f"/proc/{target.own.node.pid}/task/{target.own.node.pid}/children").read_text().split()
    lines = [init, str(target.folder), str(target.own.control_plane.folder), os.readlink("/proc/thread-self/ns/net")]
    note = Path(sys.argv[1])
    note.with_suffix(".new").write_text("\\n".join(lines))
    note.with_suffix(".new").rename(note)
    signal.pause()
"""


@pytest.fixture
def own(target: Target) -> Target:
    if target.own is None:
        pytest.skip("tests the node that the suite itself makes")
    return target


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_interrupted_run_cleans_up_and_does_not_affect_another(
    own: Target, tmp_path: Path, end: signal.Signals
) -> None:
    assert own.own is not None
    host = host_leftovers()
    note, log = tmp_path / "note", tmp_path / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-c", INNER, str(note)]
        run = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(
            "the inner run's node", lambda: alive(run) and note.exists(), timeout_seconds=300, describe=log.read_text
        )
        init, *folders, network = note.read_text().splitlines()
        processes = [int(init), *descendants(int(init))]
        assert {"containerd", "kubelet", "kube-proxy", "sleep"} <= set(map(name_of, processes))
        run.send_signal(end)
        run.wait(90)
    finally:
        run.kill()
        run.wait()

    wait_for("its processes gone", lambda: not any(map(is_running, processes)))
    wait_for("its network gone", lambda: not in_network(Path(network)))
    wait_for("its folders gone", lambda: not any(Path(folder).exists() for folder in folders))
    wait_for("its groups gone", lambda: not groups_of(run.pid))
    assert host_leftovers() == host
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    assert [line for line in mounts if f"{PREFIX}{run.pid}-" in line] == []
    own.own.node.ensure_running()
    with own.entered():
        assert own.kubectl.get("node", "node")["metadata"]["name"] == "node"


def alive(run: subprocess.Popen[bytes]) -> bool:
    assert run.poll() is None, "the inner run ended"
    return True


def in_network(identity: Path) -> list[Path]:
    """Return the processes that are in a network namespace, as `/proc/<pid>/ns/net` names it."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended, or is a zombie
            if folder.name.isdecimal() and (folder / "ns" / "net").readlink() == identity:
                found.append(folder)
    return found


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    children: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it ended
            children += map(int, file.read_text().split())
    return [*children, *(found for child in children for found in descendants(child))]


def name_of(pid: int) -> str:
    """Return a process's name; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def groups_of(pid: int) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{PREFIX}{pid}-*"))


def host_leftovers() -> dict[str, object]:
    """Return what a careless node leaves on its machine."""
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    folders = (
        "/run/netns",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/var/log/pods",
        "/var/log/containers",
        "/run/containerd",
    )
    return {
        "links": [line.split()[0] for line in links.splitlines()],
        "folders": {folder: sorted(map(str, Path(folder).iterdir())) for folder in folders if Path(folder).is_dir()},
        "rules": subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout.count("KUBE"),
    }
