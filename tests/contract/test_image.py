"""The Dockerfile against what it repeats of other files, and the script that builds it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.bench.peers import MALLOC

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
BUILD = ROOT / "deploy" / "image" / "build.sh"
STAND_IN = '#!/bin/sh\necho {engine} "$@"\n'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is the PATH, with what the script itself needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("bash", "dirname", "sed"):
        (folder / program).symlink_to(Path("/usr/bin") / program)
    (folder / "git").write_text("#!/bin/sh\necho 0123abc\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("BASE", "ENGINE"):
        monkeypatch.delenv(variable, raising=False)
    return folder


def install(folder: Path, *engines: str) -> None:
    for engine in engines:
        (folder / engine).write_text(STAND_IN.format(engine=engine))
        (folder / engine).chmod(0o755)


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(BUILD), *arguments], capture_output=True, text=True, check=False)


def test_allocator_settings_are_the_measured_ones() -> None:
    assert dict(re.findall(r"\b(MALLOC_\w+)=(\d+)", DOCKERFILE)) == dict(MALLOC)


def test_every_copied_path_passes_the_ignore_file() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY ([^-].*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]

    assert "*" in ignored
    assert copied
    assert [path for path in copied if not any(Path(path).is_relative_to(keep) for keep in kept)] == []
    assert [path for path in (*copied, *kept) if not (ROOT / path).exists()] == []


def test_user_is_numeric_and_not_root() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["65532:65532"]


@pytest.mark.parametrize(
    ("engines", "command"),
    [
        (("docker", "podman", "buildah"), "docker build "),
        (("podman", "buildah"), "podman build --format docker "),
        (("buildah",), "buildah bud --format docker "),
    ],
)
def test_first_available_engine_builds_the_image(path: Path, engines: tuple[str, ...], command: str) -> None:
    install(path, *engines)

    done = build("registry.example/injector:1")

    assert done.stdout.startswith(command)
    assert "--build-arg REVISION=0123abc --tag registry.example/injector:1 ." in done.stdout
    assert done.stdout.endswith("Built registry.example/injector:1\n")


def test_explicit_engine_and_base_are_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(path, "docker", "buildah")
    monkeypatch.setenv("ENGINE", "buildah")
    monkeypatch.setenv("BASE", "registry.example/python:3.13")

    assert build().stdout.startswith("buildah bud --format docker --build-arg BASE=registry.example/python:3.13 ")


@pytest.mark.usefixtures("path")
def test_missing_engine_is_reported_with_what_to_install() -> None:
    done = build()

    assert done.returncode == 2
    assert done.stderr == (
        "No docker, podman or buildah on the PATH: install one (Debian and Ubuntu: apt-get install buildah)\n"
    )


@pytest.mark.usefixtures("path")
def test_unknown_engine_is_rejected_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "kaniko")

    done = build()

    assert done.returncode == 2
    assert done.stderr == 'ENGINE is "kaniko"; allowed are docker, podman and buildah\n'
