"""Webhook configurations as users register them, but with a URL in place of a Service.

Each is narrowed to one namespace, so that tests beside each other, or a cluster in use, never meet.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.controlplane.kubectl import Json

NAME: Final = "dapr-token-injector"
INJECT_ENTRY: Final = "inject.dapr-token-injector.svc"
DEFAULT_ENTRY: Final = "default.dapr-token-injector.svc"
WARN_ENTRY: Final = "warn.dapr-token-injector.svc"
DEFAULT_LABEL: Final = "dapr-token-injector/inject-default"
MUTATING_KIND: Final = "mutatingwebhookconfiguration"
VALIDATING_KIND: Final = "validatingwebhookconfiguration"

_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
# Optional types make these safe on Pods without any annotation; an empty value is an absent one.
_ASKS_FOR_TOKEN = " || ".join(
    f"object.metadata.?annotations[?'dapr.io/{name}'].orValue('') != ''"
    for name in ("api-token-secret", "app-token-secret")
)
_IS_DAPR_POD = f"object.metadata.?annotations[?'dapr.io/enabled'].orValue('') != '' || {_ASKS_FOR_TOKEN}"
_IS_TOP_LEVEL = "object.metadata.?ownerReferences.orValue([]).all(o, !o.?controller.orValue(false))"
_POD_CREATION = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
_WORKLOAD_CHANGES = tuple(
    {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": resources}
    for group, resources in (
        ("apps", ["deployments", "statefulsets", "daemonsets", "replicasets"]),
        ("batch", ["jobs", "cronjobs"]),
    )
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook listens, as in `https://127.0.0.1:1234`, and the PEM that its certificate is checked with."""

    url: str
    ca_pem: bytes

    def client_config(self, path: str) -> Json:
        """Return the `clientConfig` for one path."""
        return {"url": self.url + path, "caBundle": base64.b64encode(self.ca_pem).decode()}


def token_injector(endpoint: Endpoint, *, namespace: str, name: str = NAME) -> Json:
    """Return our mutating configuration: both entries, told apart by the namespace's label."""
    return _configuration(
        "MutatingWebhookConfiguration",
        name,
        _pod_entry(INJECT_ENTRY, endpoint.client_config("/mutate"), namespace, "NotIn", _ASKS_FOR_TOKEN),
        _pod_entry(DEFAULT_ENTRY, endpoint.client_config("/mutate/default"), namespace, "In", _IS_DAPR_POD),
    )


def workload_warnings(endpoint: Endpoint, *, namespace: str, name: str = NAME) -> Json:
    """Return our validating configuration."""
    entry = {
        "name": WARN_ENTRY,
        "admissionReviewVersions": ["v1"],
        "clientConfig": endpoint.client_config("/warn"),
        "rules": list(_WORKLOAD_CHANGES),
        "matchConditions": [{"name": "top-level", "expression": _IS_TOP_LEVEL}],
        "namespaceSelector": {"matchExpressions": [_in(namespace)]},
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 5,
    }
    return _configuration("ValidatingWebhookConfiguration", name, entry)


def dapr_sidecar_injector(endpoint: Endpoint, *, namespace: str, name: str) -> Json:
    """Return the configuration of Dapr's own injector, as Dapr's chart has it."""
    entry = {
        "name": "sidecar-injector.dapr.io",
        "admissionReviewVersions": ["v1", "v1beta1"],
        "clientConfig": endpoint.client_config("/mutate"),
        "rules": [_POD_CREATION],
        "namespaceSelector": {"matchExpressions": [_in(namespace)]},
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
    }
    return _configuration("MutatingWebhookConfiguration", name, entry)


def _pod_entry(name: str, client_config: Json, namespace: str, label_operator: str, condition: str) -> Json:
    expressions: list[dict[str, Any]] = [
        _in(namespace),
        {"key": _NAMESPACE_LABEL, "operator": "NotIn", "values": ["kube-system"]},
        {"key": DEFAULT_LABEL, "operator": label_operator, "values": ["enabled"]},
    ]
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client_config,
        "rules": [_POD_CREATION],
        "matchConditions": [{"name": "asks-for-token", "expression": condition}],
        "namespaceSelector": {"matchExpressions": expressions},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 5,
    }


def _configuration(kind: str, name: str, *entries: Json) -> Json:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": list(entries),
    }


def _in(namespace: str) -> dict[str, Any]:
    return {"key": _NAMESPACE_LABEL, "operator": "In", "values": [namespace]}
