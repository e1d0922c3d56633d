"""Kinds of cert-manager, the External Secrets Operator and prometheus-operator, taken out of their Go modules, once.

The modules and their checksums are locked in `gomod/crds`. The files are kept in the cache like the programs, so that
later runs need neither Go nor a network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries
from tests.controlplane.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODULE: Final = binaries.MODULES / "crds"
# Of each module the files that are wanted.
WANTED: Final[Mapping[str, tuple[str, ...]]] = {
    "github.com/cert-manager/cert-manager": ("deploy/crds/*.yaml",),
    "github.com/external-secrets/external-secrets": ("config/crds/bases/external-secrets.io_externalsecrets.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/*_servicemonitors.yaml",
        "example/prometheus-operator-crd/*_prometheusrules.yaml",
    ),
}


def resolve(report: binaries.Report = binaries.report_to_stderr) -> Path:
    """Return the folder of the CustomResourceDefinitions, one file each.

    Raises:
        BuildError: there is no usable Go, or a module cannot be downloaded.
    """
    folder = binaries.cache_root() / f"crds-{_digest()}"
    if not folder.exists():
        with binaries.cache_lock("crds", report):
            if not folder.exists():  # another run may have fetched them while we waited for the lock
                _fetch(folder)
    return folder


def _digest() -> str:
    """Hash of everything that decides about the files."""
    content = hashlib.sha256(json.dumps(WANTED).encode())
    for name in ("go.mod", "go.sum"):
        content.update((MODULE / name).read_bytes())
    return content.hexdigest()[:12]


def _fetch(target: Path) -> None:
    scratch = target.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: the lock is ours
    scratch.mkdir()
    for module, patterns in WANTED.items():
        folder = binaries.module_folder(MODULE, module)
        for pattern in patterns:
            found = list(folder.glob(pattern))
            if not found:
                raise BuildError(f"{module} has no {pattern}")
            for file in found:
                shutil.copyfile(file, scratch / file.name)
    scratch.replace(target)  # atomic: the folder exists only with all its files
