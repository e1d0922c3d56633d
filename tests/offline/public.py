"""Manifests of other projects, out of the Go modules that the harness locks; none of them is in this repository.

`python -m tests.prepare` copies them once into `~/.cache/dapr-token-injector`, so that later runs need neither Go nor a
network. Go compares each module with go.sum.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries
from tests.controlplane.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# By module: the folder below `gomod/` whose go.mod and go.sum lock it.
MODULES: Final[Mapping[str, str]] = {
    "github.com/cert-manager/cert-manager": "crds",
    "github.com/dapr/dapr": "dapr-injector",
    "github.com/prometheus-operator/prometheus-operator": "crds",
    "k8s.io/cli-runtime": "kubernetes",
    "k8s.io/kubectl": "kubernetes",
    "k8s.io/kubernetes": "kubernetes",
    "sigs.k8s.io/kustomize/kyaml": "kubernetes",
}
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
# What has a Pod or a Pod template has this word.
_WORD: Final = b"containers"
# OpenAPI documents have the word as well, and megabytes.
_MOST: Final = 256 * 1024  # bytes


def manifests(module: str) -> Mapping[str, str]:
    """The text of every file of a module that may have a Pod template, by its path in the module.

    Raises:
        HarnessError: They are not in the cache.
    """
    folder = _folder()
    if not folder.exists():
        raise HarnessError(f"the manifests of other projects are not in {folder}: run `python -m tests.prepare unit`")
    top = folder / module
    return {str(file.relative_to(top)): file.read_bytes().decode() for file in sorted(top.rglob("*")) if file.is_file()}


def fetch(report: binaries.Report = binaries.report_to_stderr) -> None:
    """Copy them into the cache; what is there already costs nothing.

    Raises:
        BuildError: There is no usable Go, or a module cannot be downloaded.
    """
    folder = _folder()
    if folder.exists():
        return
    with binaries.cache_lock("manifests", report):
        if not folder.exists():  # another run may have copied them while we waited for the lock
            report("downloading the manifests of other projects, once")
            scratch = folder.with_suffix(".new")
            shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: the lock is ours
            for module, lock in MODULES.items():
                _copy(binaries.module_folder(binaries.MODULES / lock, module), scratch / module)
            scratch.replace(folder)  # atomic: a process that sees the folder sees all of it


def _folder() -> Path:
    return binaries.cache_root() / f"manifests-{_digest()}"


def _digest() -> str:
    """Hash of everything that decides about the files."""
    content = hashlib.sha256(json.dumps([MODULES, sorted(_SUFFIXES), _WORD.decode(), _MOST]).encode())
    for lock in sorted(set(MODULES.values())):
        for name in ("go.mod", "go.sum"):
            content.update((binaries.MODULES / lock / name).read_bytes())
    return content.hexdigest()[:12]


def _copy(module: Path, target: Path) -> None:
    for file in module.rglob("*"):
        if file.suffix not in _SUFFIXES or not file.is_file() or file.stat().st_size > _MOST:
            continue
        content = file.read_bytes()
        if _WORD in content:
            copy = target / file.relative_to(module)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
