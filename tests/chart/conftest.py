"""Rendering with the real Helm and the real kustomize; both are built once, hence the marker."""

from __future__ import annotations

import functools
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.controlplane import binaries
from tests.controlplane.helm import CHART, Helm
from tests.documents import documents as yaml_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.controlplane.api import Json

HERE = "tests/chart/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder: programs may have to be built."""
    for item in items:
        if item.nodeid.startswith(HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(180, func_only=True))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm.find(tmp_path_factory.mktemp("helm"))


class Render(Protocol):
    """What the chart makes of values."""

    def __call__(self, *arguments: str, namespace: str = ..., hooks: bool = ...) -> list[Json]: ...


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    run = functools.cache(helm.run)  # many tests read what the same values render

    def objects(*arguments: str, namespace: str = "dapr-token-injector", hooks: bool = False) -> list[Json]:
        command = ["template", "dapr-token-injector", str(CHART), "--namespace", namespace, *arguments]
        return documents(run(*command, *([] if hooks else ["--no-hooks"])))

    return objects


@pytest.fixture(scope="session")
def kustomize() -> Callable[[Path], list[Json]]:
    kubectl = binaries.resolve(binaries.KUBECTL)

    def objects(folder: Path) -> list[Json]:
        done = subprocess.run(
            [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return documents(done.stdout)

    return objects


def documents(text: str) -> list[dict[str, Any]]:
    """The objects in a YAML stream; a List is replaced by its items."""
    found = yaml_documents(text)
    return [each for item in found for each in (item["items"] if item["kind"].endswith("List") else [item])]


def only(objects: list[Json], kind: str, name: str = "dapr-token-injector") -> Json:
    """The only object of a kind and name."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def selects(selector: Json, labels: Json) -> bool:
    """Whether a LabelSelector matches; only `In` is known."""
    expressions = selector.get("matchExpressions", [])
    assert {one["operator"] for one in expressions} <= {"In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )


@pytest.fixture(scope="session")
def notes(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The notes of `helm install`, rendered as a manifest of a copy, because Helm 3 shows none without a cluster."""
    copy = shutil.copytree(CHART, tmp_path_factory.mktemp("notes") / CHART.name)
    text = (copy / "templates/NOTES.txt").rename(copy / "notes").read_text()
    template = copy / "templates/notes.yaml"
    template.write_text(
        f'{{{{- define "notes" }}}}{text}{{{{ end }}}}\nkind: Notes\ntext: {{{{ include "notes" . | toJson }}}}\n'
    )

    def rendered_notes(*arguments: str) -> str:
        command = ("template", "release", str(copy), "--show-only", "templates/notes.yaml", *arguments)
        (rendered,) = documents(helm.run(*command))
        return str(rendered["text"]).strip()

    return rendered_notes
