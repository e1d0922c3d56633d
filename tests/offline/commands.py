"""The commands as a person calls them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests import forkserver

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Completed:
    """What a command left behind."""

    code: int
    out: bytes
    err: str


def run(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, env: dict[str, str] | None = None
) -> Completed:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [*forkserver.command(), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        check=False,
    )
    return Completed(done.returncode, done.stdout, done.stderr.decode())
