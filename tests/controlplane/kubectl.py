"""kubectl as users type it, and the shortest way to look at and to make one object."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.controlplane.api import TIMEOUT_SECONDS, Api, Json, api_of
from tests.controlplane.errors import KubectlError
from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    # One object, or several for one process of kubectl.
    Manifest: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]

WARNING_PREFIX = "Warning: "


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

    def try_run(self, *arguments: str, stdin: Manifest | None = None) -> Output:
        """Run kubectl and return its result, with any exit code."""
        done = subprocess.run(
            [*self.command(), *arguments],
            input=None if stdin is None else _stream(stdin),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "KUBERC": "off"},  # no preferences of the user's
        )
        return Output(done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: str, stdin: Manifest | None = None) -> Output:
        """Run kubectl.

        Raises:
            KubectlError: it did not end with status 0.
        """
        output = self.try_run(*arguments, stdin=stdin)
        if output.returncode != 0:
            raise KubectlError(arguments, output.returncode, output.stderr)
        return output

    def apply(self, manifest: Manifest, *flags: str) -> Output:
        """Apply an object or several, as users do."""
        return self.run("apply", "-f", "-", *flags, stdin=manifest)

    def create(self, item: Mapping[str, Any]) -> Json:
        """Create an object and return it as the API server made it."""
        return self._api.create(item, self.namespace)

    def dry_run(self, item: Mapping[str, Any], **query: str) -> Json:
        """Return an object as the API server would make it; `query` as the API has it (`timeout`)."""
        return self._api.create(item, self.namespace, dryRun="All", **query)

    def token(self, account: str) -> str:
        """Return a new token of a ServiceAccount of the namespace, for an hour."""
        return self._api.token(account, self.namespace)

    def get(self, kind: str, name: str) -> Json:
        """Return one object."""
        return self._api.get(kind, name, self.namespace)

    def find(self, kind: str, name: str) -> Json | None:
        """Return one object, or None when there is none."""
        try:
            return self.get(kind, name)
        except KubectlError as error:
            if error.is_not_found:
                return None
            raise

    def list(self, kind: str, **query: str) -> tuple[Json, ...]:
        """Return the objects of a kind in the namespace; `query` as the API has it (`labelSelector`)."""
        return self._api.list(kind, self.namespace, **query)

    def patch(self, kind: str, name: str, operations: Sequence[Json]) -> None:
        """Change an object by the operations of a JSON patch."""
        self._api.patch(kind, name, self.namespace, operations)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object without waiting; a missing one is not an error."""
        try:
            self._api.delete(kind, name, self.namespace)
        except KubectlError as error:
            if not error.is_not_found:
                raise

    @property
    def _api(self) -> Api:
        return api_of(self.kubeconfig, self.kubeconfig.stat().st_mtime_ns)


def _stream(manifest: Manifest) -> str:
    items = [manifest] if isinstance(manifest, dict) else manifest
    return "\n".join(map(json.dumps, items))
