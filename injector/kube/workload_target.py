"""Parses `KIND/NAME` arguments: a workload or a Pod, as in kubectl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.kube.resources import KINDS

if TYPE_CHECKING:
    from injector.kube.resources import Resource

# The kinds that are named in messages.
EXPECTED: Final = (
    "pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME, job/NAME, cronjob/NAME or "
    "rollout/NAME"
)


@dataclass(frozen=True, slots=True)
class WorkloadTarget:
    """A workload, or a Pod, as given on the command line."""

    label: str
    resource: Resource
    name: str


def parse(text: str) -> WorkloadTarget | None:
    """Return the workload in an argument; None if it is malformed or of another kind."""
    kind, _, name = text.partition("/")
    resource = KINDS.get(kind.lower())
    return None if resource is None or not name or "/" in name else WorkloadTarget(text, resource, name)
