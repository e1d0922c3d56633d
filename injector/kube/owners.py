"""Reads `ownerReferences`."""

from __future__ import annotations

from typing import Any, NamedTuple


class ControllerRef(NamedTuple):
    """The owner that controls an object: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/."""

    api_version: str
    kind: str
    name: str
    uid: str


def controller_of(metadata: dict[str, Any]) -> ControllerRef | None:
    """Return the owner that controls the object with this metadata; None if no owner does."""
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            fields = (owner.get(name, "") for name in ("apiVersion", "kind", "name", "uid"))
            return ControllerRef(*fields)
    return None
