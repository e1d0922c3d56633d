"""A snapshot of all objects of a cluster, for comparison with another one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl

# Objects that a cluster writes all the time without its users.
_RESTLESS: Final = {
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "componentstatuses",
    "ipaddresses.networking.k8s.io",
}
_VOLATILE: Final = ("resourceVersion", "managedFields", "generation")


def take(kubectl: Kubectl) -> dict[str, str]:
    """Return every object's content by `resource namespace/name`, without its status and what counts its writes.

    Waits for namespaces of earlier tests that are ending: their objects go while others look.
    """
    wait_for("no namespace that is ending", lambda: not _ending(kubectl), describe=lambda: str(_ending(kubectl)))
    return _contents(kubectl)


def differences(kubectl: Kubectl, before: dict[str, str]) -> list[str]:
    """Return the objects that were added, removed and changed."""
    after = _contents(kubectl)
    return sorted(name for name in after.keys() | before.keys() if after.get(name) != before.get(name))


def _ending(kubectl: Kubectl) -> list[str]:
    found = kubectl.list("namespaces")
    return [one["metadata"]["name"] for one in found if "deletionTimestamp" in one["metadata"]]


def _contents(kubectl: Kubectl) -> dict[str, str]:
    listed = kubectl.run("api-resources", "--verbs=list", "--output=name").stdout.split()
    resources = ",".join(sorted(set(listed) - _RESTLESS))
    items: list[Json] = json.loads(kubectl.run("get", resources, "--all-namespaces", "--output=json").stdout)["items"]
    return {_identity(item): _content(item) for item in items}


def _identity(item: Json) -> str:
    metadata = item["metadata"]
    return f"{item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def _content(item: Json) -> str:
    metadata = {key: value for key, value in item["metadata"].items() if key not in _VOLATILE}
    return json.dumps({**item, "metadata": metadata, "status": None}, sort_keys=True)
