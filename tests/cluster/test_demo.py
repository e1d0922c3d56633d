"""`deploy/demo/demo.py`, run as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.cluster import Programs
from tests.controlplane.polling import wait_for
from tests.controlplane.target import CLUSTER_VARIABLE
from tests.controlplane.workspace import PREFIX
from tests.pages.families import run_by
from tests.pages.terminal import follow_page, terminal

if TYPE_CHECKING:
    from tests.controlplane import binaries

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "deploy" / "demo" / "demo.py")]
ESCAPE = "\x1b["


@pytest.fixture(autouse=True)
def _own_control_plane(report: binaries.Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs are there, and the demo's folders are where they can be counted."""
    Programs.resolve(report)
    monkeypatch.delenv(CLUSTER_VARIABLE, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PREFIX}*"))


def test_demo_shows_both_pods_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=170)

    assert done.returncode == 0, done.stdout + done.stderr
    first, _, second = done.stdout.partition("The same on a real API server")
    assert first.count("+        - name: DAPR_API_TOKEN") == 2
    assert second.count("+        - name: DAPR_API_TOKEN") == 1
    assert "orders.token" in second
    removed = [line for line in done.stdout.splitlines() if line.startswith("  -")]
    assert removed == []
    assert ESCAPE not in done.stdout
    assert left_behind(tmp_path) == []


def test_tutorial_works_as_typed_and_the_demo_ends_on_ctrl_c(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (page,) = run_by(__file__)
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(DEMO, stdout=output, stderr=output, env={**os.environ, "KEEP": "1"}) as demo,
    ):
        try:
            printed = wait_for(
                "the demo kept",
                lambda: re.search(r"^  \. (/.*/env)$", log.read_text(), re.MULTILINE),
                timeout_seconds=120,
                describe=log.read_text,
            )
            replace = {". /tmp/dapr-token-injector-…/env": f". {printed[1]}"}
            with terminal(tmp_path_factory.mktemp("reader"), replace=replace) as opened:
                assert follow_page(page, opened) > 5
            assert demo.poll() is None
            demo.send_signal(signal.SIGINT)
            assert demo.wait(90) == 0
        finally:
            demo.kill()
    assert left_behind(tmp_path) == []
