"""The scripts for kind: without Docker, their syntax and their errors are tested."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.controlplane.helm import CHART
from tests.documents import document, documents

KIND: Final = Path(__file__).parents[2] / "deploy/kind"


@pytest.mark.parametrize("name", ["up", "down"])
def test_script_is_valid_and_executable(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(KIND / name)], check=False).returncode == 0
    assert (KIND / name).stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["up", "down"])
def test_missing_tool_is_named_before_any_action(name: str, tmp_path: Path) -> None:
    for program in ("bash", "dirname"):
        found = subprocess.run(["which", program], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / program).symlink_to(found)

    done = subprocess.run(
        [str(tmp_path / "bash"), str(KIND / name)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "and it is not on the PATH" in done.stderr
    assert done.stdout == ""


def test_values_that_the_script_sets_exist() -> None:
    script = (KIND / "up").read_text()
    values = document(CHART / "values.yaml")

    for key in ("image.repository", "image.tag"):
        assert f"--set {key}=" in script
        group, name = key.split(".")
        assert name in values[group]


def test_example_app_requests_its_token_by_annotation_only() -> None:
    deployment = next(item for item in documents(KIND / "app.yaml") if item["kind"] == "Deployment")
    template = deployment["spec"]["template"]

    assert template["metadata"]["annotations"]["dapr.io/api-token-secret"] == "dapr-api-token"
    assert not any("env" in container for container in template["spec"]["containers"])
