"""The tutorial of tokens: every command runs, with the documented output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.node.target import Target

PAGE = Path(__file__).parents[2] / "docs/tutorial-tokens.md"
NAMESPACE = "shop"
TIMEOUT_SECONDS = 360


def fences(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    """Each command of the page with its documented output."""
    for block in fences("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def pattern(expected: str) -> str:
    """The documented output as a regular expression: `...` matches anything, on its own line also nothing."""
    lines = [
        "(?:.*\n)?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n"
        for line in expected.splitlines()
    ]
    return "".join(lines) or "\n"


@pytest.fixture
def desk(target: Target, inside: None, tmp_path: Path) -> Iterator[dict[str, str]]:  # noqa: ARG001 - entered during the test
    """Where a reader sits: the page's file, and the two programs."""
    (manifest,) = fences("yaml")
    images = {"python:3.13-slim": target.image, "daprio/daprd:1.16.0": target.daprd_image}
    for written, there in images.items():
        assert written in manifest
        manifest = manifest.replace(f"image: {written}", f"image: {there}\n          imagePullPolicy: IfNotPresent")
    (tmp_path / "shop.yaml").write_text(manifest)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(target.kubectl.binary)
    (programs / "dapr-token-injector").symlink_to(Path(sys.executable).with_name("dapr-token-injector"))
    yield {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "KUBECONFIG": str(target.kubectl.kubeconfig),
        "KUBERC": "off",
    }
    target.kubectl.delete("namespace", NAMESPACE)


@pytest.mark.usefixtures("release")
def test_tutorial_commands_have_the_documented_output(desk: dict[str, str], tmp_path: Path) -> None:
    ran = 0
    for command, expected in commands():

        def prints_expected(command: str = command, expected: str = expected) -> bool:
            done = subprocess.run(
                ["/bin/bash", "-c", command],
                cwd=tmp_path,
                env=desk,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            assert done.returncode == 0, (command, done)
            fits = re.fullmatch(pattern(expected), f"{done.stdout.strip()}\n", flags=re.DOTALL) is not None
            # A log line can be delayed; all other output is immediate.
            assert fits or " logs " in command, (command, done, expected)
            return fits

        wait_for(f"{command} to print {expected}", prints_expected)
        ran += 1
    assert ran == len(list(commands())) > 10
