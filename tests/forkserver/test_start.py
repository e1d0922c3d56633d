"""Each command starts from nothing: in a fork of the server, the other commands are imported already."""

from __future__ import annotations

import subprocess
import sys

import pytest

from injector.cli.main import COMMANDS
from tests.forkserver import ROOT


@pytest.mark.parametrize("command", COMMANDS)
def test_command_starts_without_the_imports_of_others(command: str) -> None:
    words = [sys.executable, "-m", "injector", command, "--help"]

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: dapr-token-injector {command}")
