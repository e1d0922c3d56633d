"""Reads the annotations of Reloader: https://github.com/stakater/Reloader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from injector.kube.resources import Object

# Reloader restarts a workload whose annotation names the Secret, whether or not the template references it. The others
# make it look for Secrets in the template, which does not contain injected references.
# https://github.com/stakater/Reloader/blob/v1.4.21/internal/pkg/options/flags.go
NAMED: Final = "secret.reloader.stakater.com/reload"
AUTO: Final = ("reloader.stakater.com/auto", "secret.reloader.stakater.com/auto")
SEARCH: Final = "reloader.stakater.com/search"


def reloader_annotations(workload: Object) -> tuple[dict[str, str], bool]:
    """Return Reloader's annotations of a workload, and whether they are those of its Pod template.

    Those of the template count only if the workload itself has none:
    https://github.com/stakater/Reloader/blob/v1.4.21/pkg/common/common.go (ShouldReload)
    """
    template = ((workload.get("spec") or {}).get("template") or {}).get("metadata") or {}
    own, of_template = map(_annotations, (workload["metadata"], template))
    return (own, False) if own else (of_template, bool(of_template))


def _annotations(meta: Object) -> dict[str, str]:
    every = meta.get("annotations") or {}
    return {name: every[name] for name in (NAMED, *AUTO, SEARCH) if name in every}


def names_in(value: str) -> frozenset[str]:
    """Return the names in the value of an annotation, which commas separate."""
    return frozenset(part.strip() for part in value.split(",")) - {""}


def restarted_by(workload: Object, secrets: Collection[str]) -> str:
    """Return the tool that restarts a workload when one of the Secrets changes; empty if there is none."""
    return "Reloader" if named_secrets(workload) & set(secrets) else ""


def named_secrets(workload: Object) -> frozenset[str]:
    """Return the names of the Secrets for which Reloader restarts a workload, whether or not its Pods read them."""
    found, _ = reloader_annotations(workload)
    return names_in(found.get(NAMED, ""))
