"""kubectl, JSON in and JSON out: what our users type, and the only client of the tests."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.controlplane.errors import KubectlError
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# An object as the API server sends it; tests know its shape better than a type could say.
Json: TypeAlias = dict[str, Any]

WARNING_PREFIX = "Warning: "
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Output:
    """How one call of kubectl ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user saw as `Warning: ...`, without that word."""
        lines = self.stderr.splitlines()
        return tuple(line.removeprefix(WARNING_PREFIX) for line in lines if line.startswith(WARNING_PREFIX))


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One kubectl, one cluster, one namespace. `cache_folder` keeps it out of the user's home."""

    binary: Path
    kubeconfig: Path
    cache_folder: Path
    namespace: str = "default"

    def within(self, namespace: str) -> Kubectl:
        """Return the same for another namespace."""
        return dataclasses.replace(self, namespace=namespace)

    def command(self) -> tuple[str, ...]:
        """Return the words before any arguments."""
        return (
            str(self.binary),
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.cache_folder}",
            f"--namespace={self.namespace}",
        )

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig that selects the cluster and the namespace."""
        write_private(path, self.run("config", "view", "--minify", "--flatten", "--raw").stdout.encode())
        dataclasses.replace(self, kubeconfig=path).run(
            "config", "set-context", "--current", f"--namespace={self.namespace}"
        )

    def try_run(self, *arguments: str, stdin: Mapping[str, Any] | None = None) -> Output:
        """Run kubectl and return its result, with any exit code."""
        done = subprocess.run(
            [*self.command(), *arguments],
            input=None if stdin is None else json.dumps(stdin),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "KUBERC": "off"},  # no preferences of the user's
        )
        return Output(done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: str, stdin: Mapping[str, Any] | None = None) -> Output:
        """Run kubectl.

        Raises:
            KubectlError: it did not end with status 0.
        """
        output = self.try_run(*arguments, stdin=stdin)
        if output.returncode != 0:
            raise KubectlError(arguments, output.returncode, output.stderr)
        return output

    def create(self, item: Mapping[str, Any], *flags: str) -> Json:
        """Create an object and return it as the API server made it."""
        return _object(self.run("create", "-f", "-", "-o", "json", *flags, stdin=item))

    def apply(self, item: Mapping[str, Any], *flags: str) -> Output:
        """Apply an object, as users do."""
        return self.run("apply", "-f", "-", *flags, stdin=item)

    def get(self, kind: str, name: str) -> Json:
        """Return one object."""
        return _object(self.run("get", kind, name, "-o", "json"))

    def list(self, kind: str, *flags: str) -> tuple[Json, ...]:
        """Return the objects of a kind in the namespace."""
        return tuple(_object(self.run("get", kind, "-o", "json", *flags))["items"])

    def delete(self, kind: str, name: str) -> None:
        """Delete an object without waiting; a missing one is not an error."""
        self.run("delete", kind, name, "--ignore-not-found", "--wait=false")


def _object(output: Output) -> Json:
    decoded: Json = json.loads(output.stdout)
    return decoded
