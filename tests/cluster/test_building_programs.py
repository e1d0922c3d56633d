"""Building the control plane's programs, with a fake Go: a real build takes minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.controlplane import binaries
from tests.controlplane.errors import BuildError
from tests.controlplane.polling import wait_for

ROOT = Path(__file__).parents[2]

# Records each build, waits for permission to finish, and writes the requested file.
STAND_IN = """#!/bin/sh
if [ "$1" = version ]; then echo "go version {version} linux/amd64"; exit; fi
echo $$ >> {folder}/builds
while [ ! -e {folder}/finish ]; do sleep 0.05; done
while [ "$1" != -o ]; do shift; done
{end}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no programs of the user's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def install_go(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "go1.26.0", end: str = 'echo x > "$2"'
) -> None:
    go = home / "bin" / "go"
    go.parent.mkdir()
    go.write_text(STAND_IN.format(version=version, folder=home, end=end))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # inside a test nothing is built, but for these


def start_build() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.controlplane", "build", "etcd"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def builds(home: Path) -> list[int]:
    """Process ids of the builds so far."""
    noted = home / "builds"
    return [int(line) for line in noted.read_text().splitlines()] if noted.exists() else []


def test_concurrent_runs_build_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(home, monkeypatch)
    with start_build() as first:
        wait_for("the first build", lambda: builds(home))
        with start_build() as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "another run is building etcd, waiting for it\n"
            (home / "finish").touch()
            outputs = [run.communicate(timeout=90)[0] for run in (first, second)]

    assert outputs == [f"{binaries.cache_folder(binaries.ETCD) / 'etcd'}\n"] * 2
    assert len(builds(home)) == 1


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_interrupted_build_leaves_no_process_and_no_program(
    home: Path, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    install_go(home, monkeypatch)
    with start_build() as run:
        (compiler,) = wait_for("the build", lambda: builds(home))
        run.send_signal(end)
        run.communicate(timeout=90)

    wait_for("the compiler gone", lambda: not Path(f"/proc/{compiler}/cmdline").exists())
    assert not binaries.cache_folder(binaries.ETCD).exists()

    (home / "finish").touch()
    assert binaries.resolve(binaries.ETCD).read_text() == "x\n"


def test_failed_build_shows_the_last_lines_of_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(home, monkeypatch, end="echo main.go:1: no such thing; exit 1")
    (home / "finish").touch()

    with pytest.raises(BuildError, match=r"(?s)could not build etcd .*main\.go:1: no such thing"):
        binaries.resolve(binaries.ETCD)
    assert not binaries.cache_folder(binaries.ETCD).exists()


def test_resolve_inside_a_test_builds_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        install_go(home, patched)
        patched.setenv("PYTEST_CURRENT_TEST", "tests/test_x.py::test_x (call)")

        with pytest.raises(BuildError, match=r"etcd is not built yet, .*: python -m tests\.prepare"):
            binaries.resolve(binaries.ETCD)
    assert builds(home) == []


def test_missing_go_is_reported_in_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))

    with pytest.raises(BuildError, match=r"etcd must be built and there is no `go` on the PATH: install Go 1\.26\.0"):
        binaries.resolve(binaries.ETCD)


def test_outdated_go_is_reported_in_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(home, monkeypatch, version="go1.19.8")

    with pytest.raises(BuildError, match=r"cannot be built with this Go \(go version go1\.19\.8 .*\): install Go"):
        binaries.resolve(binaries.ETCD)


def test_user_supplied_folder_is_used_instead_of_a_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(home))

    assert binaries.resolve(binaries.ETCD) == home / "etcd"


def test_cache_key_of_a_program_has_all_its_inputs() -> None:
    digests = {program.digest() for program in binaries.ALL}

    assert len(digests) == len(binaries.ALL)
    assert os.path.commonpath([program.folder for program in binaries.ALL]) == str(binaries.MODULES)


@pytest.mark.parametrize("version", binaries.VERSIONS[binaries.KUBERNETES_VARIABLE])
def test_version_from_the_environment_is_built(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv(binaries.KUBERNETES_VARIABLE, version)
    monkeypatch.setenv(binaries.HELM_VARIABLE, "3")

    for program in (binaries.KUBE_APISERVER, binaries.KUBE_CONTROLLER_MANAGER, binaries.KUBECTL):
        chosen = binaries.chosen(program)
        assert chosen.name == program.name
        assert chosen.version.startswith(f"{version}.")
        assert f"k8s.io/kubernetes v{chosen.version} " in (chosen.folder / "go.mod").read_text("utf-8")
    assert binaries.chosen(binaries.HELM).version.startswith("3.")
    assert binaries.chosen(binaries.ETCD) is binaries.ETCD


def test_unknown_version_is_rejected(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(home, monkeypatch)
    monkeypatch.setenv(binaries.KUBERNETES_VARIABLE, "1.29")
    with pytest.raises(BuildError, match=r"TEST_KUBERNETES is '1\.29'; allowed for kubectl: 1\.37, 1\.33, 1\.30$"):
        binaries.resolve(binaries.KUBECTL)

    monkeypatch.setenv(binaries.KUBERNETES_VARIABLE, "1.30")
    with pytest.raises(BuildError, match=r"allowed for kubelet: 1\.37$"):
        binaries.resolve(binaries.KUBELET)
