"""Reads the annotations of Reloader: https://github.com/stakater/Reloader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection

Object = dict[str, Any]

# Reloader restarts a workload whose annotation names the Secret, whether or not the template references it; its `auto`
# reads templates, which do not contain injected references: https://github.com/stakater/Reloader
RELOADER: Final = "secret.reloader.stakater.com/reload"


def restarted_by(found: Object, secrets: Collection[str]) -> str:
    """Return the tool that restarts a workload when one of the Secrets changes; empty if there is none."""
    template = ((found.get("spec") or {}).get("template") or {}).get("metadata") or {}
    for meta in (found["metadata"], template):
        named = (meta.get("annotations") or {}).get(RELOADER, "")
        if {name.strip() for name in named.split(",")} & set(secrets):
            return "Reloader"
    return ""
