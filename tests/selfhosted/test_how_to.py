"""The how-to for self-hosted Dapr, step by step, with the real daprd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.controlplane import binaries
from tests.controlplane.polling import wait_for
from tests.controlplane.processes import ManagedProcess
from tests.pages.blocks import named_blocks
from tests.pages.families import run_by
from tests.selfhosted.sidecar import Ports, is_up

pytestmark = pytest.mark.cluster

(PAGE,) = run_by(__file__)
STEPS: Final = named_blocks(PAGE)


def test_no_step_is_left_out() -> None:
    assert set(STEPS) == {"make", "start", "prove", "change"}


def test_steps_have_the_described_result(tmp_path: Path) -> None:
    (tmp_path / "daprd").symlink_to(binaries.resolve(binaries.DAPRD))
    path = os.pathsep.join((str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]))
    ports, token = Ports(), tmp_path / "token"
    others = f"--placement-host-address '' --metrics-port {ports.metrics} --dapr-internal-grpc-port {ports.internal}"

    def script(step: str) -> str:
        text = STEPS[step].text.replace("3500", str(ports.http)).replace("50001", str(ports.grpc)).rstrip()
        return f"cd {tmp_path} && {text}" + (f" {others}" if step == "start" else "")

    def done(step: str) -> int:
        return subprocess.run(["bash", "-ec", script(step)], env={**os.environ, "PATH": path}, check=False).returncode

    assert done("make") == 0
    assert token.stat().st_mode & 0o777 == 0o600
    command = ["/bin/bash", "-ec", script("start").replace("dapr-token-injector run", "exec dapr-token-injector run")]
    with ManagedProcess.start("run", command, log_path=tmp_path / "log", env={"PATH": path}) as process:
        wait_for("daprd", lambda: is_up(ports.http), timeout_seconds=180, describe=process.log)
        assert done("prove") == 0
        before = token.read_text()
        assert done("change") == 0
        assert token.read_text() != before
        wait_for("the restart", lambda: "restarting daprd" in process.log(), timeout_seconds=180, describe=process.log)
        wait_for("the new token", lambda: done("prove") == 0, timeout_seconds=180, describe=process.log)
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(180) == 0
        assert before not in process.log()
        assert token.read_text() not in process.log()
