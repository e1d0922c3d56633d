"""`check` against a real API server: every check fails for the reason that it exists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from injector.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controlplane.kubectl import Kubectl

Capture = pytest.CaptureFixture[str]


def check(capsys: Capture, kubeconfig: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and each check's part of the report by name."""
    code = main(["check", "-o", "json", "--kubeconfig", str(kubeconfig), *arguments])
    output = capsys.readouterr()
    assert output.err == ""
    return code, {one["name"]: one for one in json.loads(output.out)["checks"]}


def test_registered(kubectl: Kubectl, capsys: Capture) -> None:
    code, found = check(capsys, kubectl.kubeconfig, "--only", "registered")

    assert (code, found["registered"]["result"]) == (1, "failed")
    assert "does not exist" in found["registered"]["problems"][0]["message"]
