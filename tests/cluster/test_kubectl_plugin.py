"""`kubectl dapr-token`: a real kubectl with the programs of the wheel."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest

from injector import __version__
from tests.cluster.objects import APP, ASKING, SECRET, SIDECAR, pod, token_variable
from tests.pages.terminal import write_programs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.kubectl import Kubectl


class Run(Protocol):
    """Run kubectl with these arguments; return exit code, stdout and stderr."""

    def __call__(self, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture
def run(kubectl: Kubectl, tmp_path: Path) -> Run:
    write_programs(tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    kubectl.write_kubeconfig(kubeconfig)
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig), "KUBERC": "off", "HOME": str(tmp_path)}

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [str(kubectl.binary), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_commands_run_and_name_themselves_as_typed(run: Run, kubectl: Kubectl) -> None:
    code, out, error = run("dapr-token", "version")
    assert (code, error) == (0, "")
    assert out.startswith(f"dapr-token-injector {__version__} ")

    kubectl.create(pod(ASKING, APP, {**SIDECAR, "env": [token_variable(SECRET)]}))
    for scope in (("-n", kubectl.namespace), ()):
        code, out, error = run("dapr-token", "status", *scope)
        assert (code, "Error" in error) == (0, False)
        assert "pod/shop" in out

    assert run("dapr-token", "status", "--help")[1].startswith("Usage: kubectl dapr-token status [OPTIONS]")
    code, out, error = run("dapr-token", "status", "--nonsense")
    assert (code, out) == (2, "")
    usage = "Usage: kubectl dapr-token status [OPTIONS] [KIND/NAME | secret/NAME]"
    assert error.startswith(f"{usage}\nTry 'kubectl dapr-token status --help' for help.")


def test_options_of_kubectl_before_the_name_are_an_error_of_kubectl(run: Run) -> None:
    code, _, error = run("--context", "test", "dapr-token", "status")
    assert code != 0
    assert "flags cannot be placed before plugin name" in error
    assert run("dapr-token", "status", "--context", "test")[0] == 0
    assert run("dapr-token", "status", "--context", "other")[0] == 2


def test_kubectl_completes_commands_options_and_namespaces(run: Run, kubectl: Kubectl) -> None:
    def completed(*words: str) -> list[str]:
        code, out, _ = run("__complete", "dapr-token", *words)
        assert code == 0
        return [line.partition("\t")[0] for line in out.splitlines()]

    assert {"status", "secret", "probe"} <= set(completed(""))
    assert completed("sta") == ["status", ":4"]
    assert "--all-namespaces" in completed("status", "--a")
    assert kubectl.namespace in completed("status", "-n", "token-injector-")
    assert completed("token", "verify", "")[-1] == ":0"
    code, out, error = run("dapr-token", "completion", "bash")
    assert (code, out) == (2, "")
    assert "kubectl completes its plug-ins itself" in error
