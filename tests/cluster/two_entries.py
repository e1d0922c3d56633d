"""The two webhook entries, and a second group that records which Pods reach it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.cluster.annotator import served
from tests.controlplane.registration import token_injector
from tests.served import CONDITION, SECOND, not_yet_served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.registration import Callee, Endpoint

_ENTRIES: Final = {
    "inject.dapr-token-injector.svc": "inject-2.dapr-token-injector.svc",
    "default.dapr-token-injector.svc": "default-2.dapr-token-injector.svc",
}


def first_entries(endpoint: Callee, *, namespace: str) -> Json:
    """Return the configuration of group 1."""
    configuration = token_injector(endpoint, namespace=namespace)
    for entry in configuration["webhooks"]:
        entry |= {"failurePolicy": "Ignore", "timeoutSeconds": 1}
    return configuration


def second_entries(endpoint: Callee, *, namespace: str) -> Json:
    """Return the configuration of group 2."""
    configuration = token_injector(endpoint, namespace=namespace)
    configuration["metadata"]["name"] = SECOND
    for entry in configuration["webhooks"]:
        is_default = entry["name"].startswith("default")
        entry["matchConditions"].append({"name": CONDITION, "expression": not_yet_served(default=is_default)})
        entry |= {"failurePolicy": "Ignore", "name": _ENTRIES[entry["name"]]}
    return configuration


@dataclass(frozen=True, slots=True)
class Recorder:
    """A group that patches nothing."""

    endpoint: Endpoint
    _seen: list[str] = field(default_factory=list)

    def take(self) -> list[str]:
        """Return the names of the Pods that reached it since the last call."""
        found = [*self._seen]
        self._seen.clear()
        return found


@contextlib.contextmanager
def recorder() -> Iterator[Recorder]:
    """Serve a group that records the Pods that it is called for."""
    seen: list[str] = []

    def record(review: Json) -> list[Json]:
        seen.append(review["request"]["name"])
        return []

    with served(record) as endpoint:
        yield Recorder(endpoint, seen)
