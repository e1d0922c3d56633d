"""What the examples of the documentation import, fetched and compiled once, before the tests begin."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries
from tests.controlplane.errors import BuildError
from tests.pages.blocks import Block, named_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent
PAGE: Final = "docs/how-to/call-with-the-token.md"
_GO_ENVIRONMENT: Final = {"GOWORK": "off", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}


def fetch(report: binaries.Report) -> None:
    """Fetch and compile what the examples of `PAGE` import; what is there already costs nothing.

    Raises:
        BuildError: a package manager failed; the message has its output.
    """
    node_modules(report)
    for snippet in named_blocks(PAGE).values():
        if snippet.language == "go":  # Go's own cache keeps what it imports
            with tempfile.TemporaryDirectory() as folder:
                go_program(Path(folder), snippet)


def go_program(folder: Path, snippet: Block) -> Path:
    """Build an example in `folder`; return the program.

    Raises:
        BuildError: Go failed; the message has its output.
    """
    shutil.copytree(HERE / "gomod", folder, dirs_exist_ok=True)
    (folder / "main.go").write_text(snippet.text)
    _run(["go", "build", "-o", "call", "."], folder)
    return folder / "call"


def node_modules(report: binaries.Report = binaries.report_to_stderr) -> Path:
    """The folder of the locked npm packages.

    Raises:
        BuildError: npm failed; the message has its output.
    """
    lock = HERE / "npm/package-lock.json"
    cached = binaries.cache_root() / f"npm-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not cached.exists():
        with binaries.cache_lock("npm", report):
            scratch = cached.with_suffix(".new")
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(lock.parent, scratch)
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], scratch)
            if not cached.exists():
                scratch.replace(cached)
    return cached / "node_modules"


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **_GO_ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed in {folder}:\n{done.stdout}{done.stderr}")
