"""Runs a command as a Pod does: with the files of its ServiceAccount, and without a kubeconfig.

`python -m tests.as_pod TOKEN CERTIFICATE ARGUMENTS...` is that command. The paths of the mounted files are constants of
the official client.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from kubernetes.aio.config import incluster_config as mounted

from injector.cli.main import main
from tests import forkserver
from tests.pages.blocks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Pod:
    """`account`: the folder with `token`, `ca.crt` and `namespace`; `url`: that of the API server."""

    account: Path
    url: str

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `dapr-token-injector` with these arguments."""
        server = urlsplit(self.url)
        inherited = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "HOME"}}
        address = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
        files = [str(self.account / name) for name in ("token", "ca.crt")]
        return subprocess.run(
            [*forkserver.command("tests.as_pod"), *files, *arguments],
            cwd=ROOT,
            env={**inherited, "HOME": str(self.account), **address, **env},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )


if __name__ == "__main__":
    mounted.SERVICE_TOKEN_FILENAME, mounted.SERVICE_CERT_FILENAME = sys.argv[1:3]
    sys.exit(main(sys.argv[3:]))
