"""Walks from an object to the owners that control it, by their `ownerReferences`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from injector.core.token_state import Ref
from injector.kube.resources import CRONJOBS, DEPLOYMENTS, JOBS, KINDS, PODS, REPLICASETS, ROLLOUTS, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.kube.resources import Object

# The kind between a workload and its Pods.
BETWEEN: Final[Mapping[Resource, Resource]] = {DEPLOYMENTS: REPLICASETS, ROLLOUTS: REPLICASETS, CRONJOBS: JOBS}
_GROUPS: Final = {resource.kind: resource.group for resource in KINDS.values()}


class ControllerRef(NamedTuple):
    """The owner that controls an object: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/."""

    api_version: str
    kind: str
    name: str
    uid: str

    def ref(self, namespace: str) -> Ref:
        """Return the owner in a namespace; its kind with the group, as in kubectl, if it is not one of ours."""
        group = self.api_version.rpartition("/")[0]
        is_known = group in {"", _GROUPS.get(self.kind, "")}
        return Ref(self.kind if is_known else f"{self.kind}.{group}", namespace, self.name)


def controller_of(metadata: Mapping[str, Any]) -> ControllerRef | None:
    """Return the owner that controls the object with this metadata; None if no owner does.

    The owner of a static Pod is its node, which is not a workload.
    """
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            fields = (owner.get(name, "") for name in ("apiVersion", "kind", "name", "uid"))
            return ControllerRef(*fields) if owner.get("kind") != "Node" else None
    return None


def controllers(owner: ControllerRef | None, known: Mapping[str, Object]) -> Iterator[ControllerRef]:
    """Yield an owner and those above it, the last one the workload, as far as their metadata is `known`, by uid.

    The metadata of an owner is read after the caller has used it. Users can write owners that own each other: each is
    yielded once.
    """
    seen = set()
    while owner is not None and owner.uid not in seen:
        yield owner
        seen.add(owner.uid)
        owner = controller_of(known.get(owner.uid) or {})


def owner_refs(namespace: str, pod: str, owner: ControllerRef | None, known: Mapping[str, Object]) -> list[Ref]:
    """Return the owners of a Pod as `controllers` yields them; the Pod itself if it has none."""
    return [one.ref(namespace) for one in controllers(owner, known)] or [Ref(PODS.kind, namespace, pod)]
