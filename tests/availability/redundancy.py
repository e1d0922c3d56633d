"""An installation with two groups of replicas, as the chart renders it."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Final

from tests.availability.replicas import NAMESPACE, Group
from tests.controlplane.helm import CHART, Helm
from tests.controlplane.registration import NAME
from tests.controlplane.workspace import temporary_folder
from tests.documents import documents

if TYPE_CHECKING:
    from tests.controlplane.api import Json

_VALUES: Final = ("webhook.redundancy=2", "requested.action=Deny")
_FLAGS_OF_A_GROUP: Final = ("--fail-over", "--service-name", "--second-webhook-configuration-name")


@functools.cache
def rendered() -> tuple[Json, ...]:
    """What Helm renders, once. It is built the first time, which is not possible inside the network namespace."""
    values = (word for value in _VALUES for word in ("--set", value))
    with temporary_folder() as folder:
        text = Helm.find(folder).run("template", NAME, str(CHART), "--namespace", NAMESPACE, "--no-hooks", *values)
    return tuple(documents(text))


def groups() -> tuple[Group, ...]:
    """The two groups, each with the flags of its Deployment that the other one does not have."""
    deployments = [item for item in rendered() if item["kind"] == "Deployment"]
    return tuple(Group(item["metadata"]["name"], _flags(item)) for item in deployments)


def _flags(deployment: Json) -> tuple[str, ...]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return tuple(flag for flag in container["args"] if flag.partition("=")[0] in _FLAGS_OF_A_GROUP)


def registrations(namespace: str) -> tuple[Json, ...]:
    """The three webhook configurations, for one namespace."""
    items = copy.deepcopy([item for item in rendered() if item["kind"].endswith("WebhookConfiguration")])
    only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}
    for item in items:
        for entry in item["webhooks"]:
            entry["namespaceSelector"]["matchExpressions"].append(only)
    return tuple(items)


def policies() -> tuple[Json, ...]:
    """The policy `requested` and its binding."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    return tuple(i for i in rendered() if i["kind"] in kinds and i["metadata"]["name"] == f"{NAME}-requested")
