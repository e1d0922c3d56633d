"""What a release publishes: the versions and addresses agree, and the wheel has the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

from injector import __version__
from tests.contract.chart_reference import CHART
from tests.documents import document

ROOT: Final = Path(__file__).parents[2]
WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yaml"))
RELEASE: Final[dict[str, Any]] = document(ROOT / ".github/workflows/release.yaml")
ABOUT: Final[dict[str, Any]] = document(CHART / "Chart.yaml")
IMAGE: Final[str] = document(CHART / "values.yaml")["image"]["repository"]


def annotation(name: str) -> Any:  # noqa: ANN401 - any YAML
    return document(ABOUT["annotations"][f"artifacthub.io/{name}"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_commits(path: Path) -> None:
    used = re.findall(r"uses: (\S+)", path.read_text())

    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []


def test_wheel_is_published_by_identity_alone() -> None:
    job = RELEASE["jobs"]["package"]

    assert RELEASE["permissions"] == {}
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert job["environment"] == "pypi"
    assert "secrets." not in str(job)
    assert job["steps"][-1]["run"] == "uv publish --trusted-publishing always"
    assert job["steps"][-2]["run"].startswith("pypi-attestations sign ")


def test_tools_of_the_release_are_locked() -> None:
    locked = (ROOT / "requirements/release.txt").read_text()

    for tool in ("hatchling", "pypi-attestations", "uv"):
        assert re.search(rf"^{tool}==\S+ \\\n +--hash=sha256:", locked, re.MULTILINE)
    for line in (ROOT / "requirements/build.txt").read_text().splitlines():
        if re.match(r"\w", line):
            assert line in locked  # what is built in the image and for the index


@pytest.mark.slow
def test_wheel_runs_the_command(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()

    done = subprocess.run(
        [sys.executable, "-P", "-m", "injector", "lint", "--show-rule", "DTI001"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "injector/cli/status/report.html" in zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"dapr_token_injector-{__version__}-py3-none-any.whl"
    assert done.stdout.startswith("# DTI001 ")


def test_chart_names_the_owner_of_the_image() -> None:
    owner, name = IMAGE.removeprefix("ghcr.io/").split("/")
    home = f"https://github.com/{owner}/{name}"

    assert ABOUT["home"] == home
    assert ABOUT["sources"] == [home]
    assert ABOUT["maintainers"][0]["url"] == home
    raw, _, path = ABOUT["icon"].partition(f"/{owner}/{name}/v{__version__}/")
    assert raw == "https://raw.githubusercontent.com"
    assert (ROOT / path).is_file()


def test_artifact_hub_shows_image_changes_and_pages() -> None:
    assert annotation("category") == "security"
    assert [one["image"] for one in annotation("images")] == [f"{IMAGE}:{__version__}"]
    assert all(one["kind"] in {"added", "changed", "fixed", "removed", "security"} for one in annotation("changes"))
    changelog = " ".join((CHART / "CHANGELOG.md").read_text().split())
    assert [one["description"] for one in annotation("changes") if one["description"].strip("`.") not in
        changelog.replace("`", "")] == []  # fmt: skip
    for link in annotation("links"):
        path, _, heading = link["url"].removeprefix(f"{ABOUT['home']}/blob/v{__version__}/").partition("#")
        page = (ROOT / path).read_text()
        assert not heading or f"## {heading.replace('-', ' ')}" in page.lower()


def test_verification_names_what_is_published() -> None:
    page = (ROOT / "docs/reference/image.md").read_text()
    owner = IMAGE.rpartition("/")[0]

    assert f"cosign verify {IMAGE}:{__version__} " in page
    assert f"cosign verify {owner}/charts/{ABOUT['name']}:{__version__} " in page
    assert page.count(f"{ABOUT['home']}/.github/workflows/release.yaml@refs/tags/v{__version__} ") == 2
