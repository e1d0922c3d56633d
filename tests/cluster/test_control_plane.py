"""The harness itself: runs on one machine are isolated, and each cleans up in every case."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.cluster import Programs, control_plane
from tests.controlplane.errors import ProcessDiedError
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess, free_port
from tests.controlplane.workspace import PREFIX, sweep

if TYPE_CHECKING:
    from tests.controlplane import binaries
    from tests.controlplane.cluster import ControlPlane
    from tests.controlplane.kubectl import Kubectl

ROOT = Path(__file__).parents[2]

# A test that waits with everything running, and prints what it started.
INTERRUPTED_TEST = """
import signal
from pathlib import Path
from tests.controlplane.cluster import control_plane

def test_stays():
    with control_plane() as cp:
        started = [cp.etcd.pid, cp.apiserver.pid, cp.controller_manager.pid]
        note = Path(__file__).with_name("note")
        note.with_suffix(".new").write_text("\\n".join([str(cp.folder), *map(str, started)]))
        note.with_suffix(".new").rename(note)
        signal.pause()
"""


@pytest.fixture(scope="module")
def programs(report: binaries.Report) -> Programs:
    return Programs.resolve(report)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
@pytest.mark.usefixtures("programs")
def test_interrupted_test_run_leaves_no_process_and_no_folder(tmp_path: Path, end: signal.Signals) -> None:
    test = tmp_path / "test_interrupted.py"
    test.write_text(INTERRUPTED_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(test)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        note = tmp_path / "note"
        wait_for("the inner run's control plane", lambda: _text(note), describe=log.read_text)
        run.send_signal(end)
        run.wait(90)
    finally:
        run.kill()
        run.wait()

    folder, *pids = _text(note).splitlines()
    wait_for("its processes gone", lambda: not any(_is_running(int(pid)) for pid in pids))
    wait_for("its folder gone", lambda: not Path(folder).exists())


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}


def test_two_control_planes_are_isolated(own_control_plane: ControlPlane, kubectl: Kubectl, programs: Programs) -> None:
    with control_plane(programs) as second:
        namespaces = {item["metadata"]["name"] for item in second.kubectl.list("namespaces")}

        assert second.folder != own_control_plane.folder
        assert "default" in namespaces
        assert kubectl.namespace not in namespaces
    own_control_plane.apiserver.ensure_running()
    assert not second.folder.exists()


@pytest.mark.parametrize("taken", [0, 2], ids=["etcd's", "the API server's"])
def test_port_in_use_is_replaced_by_a_free_one(programs: Programs, taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        ports = [free_port() for _ in range(3)]
        ports[taken] = squatter.getsockname()[1]
        planned = iter(ports)

        with control_plane(programs, choose_port=lambda: next(planned, None) or free_port()) as running:
            assert running.kubectl.list("namespaces")


def test_program_that_exits_early_is_reported_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such flag')"]
    with ManagedProcess.start("etcd", command, log_path=tmp_path / "log") as process:
        process.popen.wait(90)

        with pytest.raises(ProcessDiedError, match=r"(?s)etcd ended with status 1.*no such flag"):
            process.ensure_running()


def test_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    process = ManagedProcess.start("deaf", [sys.executable, "-c", script], log_path=tmp_path / "log")
    wait_for("the handler set", lambda: "deaf" in process.log())

    assert process.stop(timeout_seconds=0.2) == -signal.SIGKILL


def test_only_folders_of_ended_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folders = {pid: tmp_path / f"{PREFIX}{pid}-x" for pid in (dead.pid, os.getpid())}
    for folder in folders.values():
        folder.mkdir()

    sweep()

    assert [folder.exists() for folder in folders.values()] == [False, True]
