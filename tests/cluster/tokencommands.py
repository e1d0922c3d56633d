"""Runs the commands as users do: a process, a kubeconfig, its output; with Secrets and workloads for them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests import forkserver
from tests.cluster.kubelet import wait_until_starts_are_past
from tests.cluster.objects import APP, SECRET, SIDECAR, pod, token_variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 120
# A fake kubelet has the new value at once.
QUICK: Final = ("--propagation-delay", "0s")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        """What `-o json` printed."""
        decoded: Json = json.loads(self.out)
        return decoded


@dataclass(slots=True)
class Commands:
    """Runs commands against one namespace, and keeps all of their output."""

    kubectl: Kubectl
    kubeconfig: Path
    output: list[str] = field(default_factory=list)

    @property
    def secret(self) -> str:
        """The Secret of the namespace, as commands name it."""
        return f"{self.kubectl.namespace}/{SECRET}"

    def run(self, *arguments: str, stdin: str = "") -> Done:
        """Run a command to its end. A rotation waits for the second after the last start of a container."""
        self._wait_for_starts(arguments)
        return self._ended([*forkserver.command(), *arguments], stdin)

    def run_and_crash(self, log: Path, writes: int, *arguments: str) -> Done:
        """Run a command that crashes after a number of writes."""
        self._wait_for_starts(arguments)
        crashing = forkserver.command("tests.cluster.crash_after_write")
        return self._ended([*crashing, str(log), str(writes), *arguments], "")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*forkserver.command(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            cwd=ROOT,
        )

    def ended(self, process: subprocess.Popen[str]) -> Done:
        """The result of a started command."""
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        self.output += [out, err]
        return Done(process.returncode, out, err)

    def _wait_for_starts(self, arguments: Sequence[str]) -> None:
        """Wait, so that Pods which started in the second of the change are not uncertain: on a fast machine some do."""
        if arguments[:2] == ("secret", "rotate"):
            wait_until_starts_are_past(self.kubectl)

    def _ended(self, command: list[str], stdin: str) -> Done:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=self._environment(),
            cwd=ROOT,
        )
        self.output += [done.stdout, done.stderr]
        return Done(done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def value(self, name: str = SECRET, key: str = "token") -> str:
        """The token in a Secret."""
        return base64.b64decode(self.kubectl.get("secret", name)["data"][key]).decode()

    def token_id(self, name: str = SECRET) -> str:
        """The id that is noted on a Secret."""
        token_id: str = self.kubectl.get("secret", name)["metadata"]["annotations"]["dapr-token-injector/token-id"]
        return token_id


def marker() -> str:
    """A token that is easy to find in any output."""
    return f"marker{secrets.token_hex(16)}"


def workload(kind: str, name: str, *, replicas: int = 2, **spec: object) -> Json:
    """A workload whose sidecar reads the token by reference, as after an injection."""
    template = pod({}, APP, {**SIDECAR, "env": [token_variable()]})
    labels = {"app": name}
    api_version = "batch/v1" if kind == "Job" else "apps/v1"
    members: Json = {"template": {"metadata": {"labels": labels}, "spec": template["spec"]}}
    if kind == "Job":
        members["template"]["spec"]["restartPolicy"] = "Never"
    else:
        members |= {"selector": {"matchLabels": labels}}
        if kind != "DaemonSet":
            members |= {"replicas": replicas}
        if kind == "StatefulSet":
            members |= {"serviceName": name}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": {**members, **spec}}


def limited(commands: Commands, tmp_path: Path, *rules: str) -> Commands:
    """The same commands as a ServiceAccount with only the permissions of the rules."""
    kubectl = commands.kubectl
    kubectl.run("create", "serviceaccount", "limited")
    for number, rule in enumerate(rules):
        verbs, resources = rule.split(" ")
        kubectl.run("create", "role", f"r{number}", f"--verb={verbs}", f"--resource={resources}")
        kubectl.run(
            "create", "rolebinding", f"r{number}", f"--role=r{number}", f"--serviceaccount={kubectl.namespace}:limited"
        )
    token = kubectl.token("limited")
    path = tmp_path / "limited.kubeconfig"
    path.write_text(kubectl.kubeconfig.read_text())
    path.chmod(0o600)
    for arguments in (
        ("config", "set-credentials", "limited", f"--token={token}"),
        ("config", "set-context", "--current", "--user=limited"),
    ):
        kubectl_of = type(kubectl)(kubectl.binary, path, kubectl.cache_folder, kubectl.namespace)
        kubectl_of.run(*arguments)
    return Commands(kubectl, path)
