"""Helm, as users run it; its own caches and settings stay in a folder of the run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries
from tests.controlplane.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHART: Final = Path(__file__).parents[2] / "charts/dapr-token-injector"
TIMEOUT_SECONDS: Final = 300.0  # Helm itself waits for Pods


class HelmError(HarnessError):
    """A failed call of Helm; `message` is what it wrote to stderr."""

    def __init__(self, arguments: tuple[str, ...], message: str) -> None:
        super().__init__(f"helm {' '.join(arguments)}:\n{message}")
        self.message = message


@dataclass(frozen=True, slots=True)
class Helm:
    """One Helm; without a kubeconfig it only renders."""

    binary: Path
    folder: Path
    kubeconfig: Path | None = None

    @classmethod
    def find(
        cls, folder: Path, kubeconfig: Path | None = None, *, report: binaries.Report = binaries.report_to_stderr
    ) -> Helm:
        """Build Helm once, in the newest version unless the environment selects another (`binaries.VERSIONS`).

        Raises:
            BuildError: it could not be built.
        """
        return cls(binaries.resolve(binaries.HELM, report), folder, kubeconfig)

    def run(self, *arguments: str) -> str:
        """Run Helm and return what it wrote to stdout.

        Raises:
            HelmError: it did not end with status 0.
        """
        done = subprocess.run(
            [str(self.binary), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=self.environment(),
        )
        if done.returncode != 0:
            raise HelmError(arguments, done.stderr)
        return done.stdout

    def major_version(self) -> int:
        """4, or 3 if the environment selects it: the two differ in the order of deletion and in their requests."""
        return int(self.run("version", "--template={{.Version}}").removeprefix("v").split(".")[0])

    def environment(self) -> Mapping[str, str]:
        """The variables that a Helm of the tests runs with."""
        own = {f"HELM_{kind}_HOME": str(self.folder / f"helm-{kind.lower()}") for kind in ("CACHE", "CONFIG", "DATA")}
        return {**os.environ, **own, "KUBECONFIG": str(self.kubeconfig or os.devnull)}
