"""Webhook configurations as users register them, with a URL or, in a separate network, a Service.

Ours are the objects of `deploy/base/webhooks.yaml` with an address filled in. Each is narrowed to one namespace,
so that concurrent tests, or a cluster in use, are not affected.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from tests.documents import documents

if TYPE_CHECKING:
    from tests.controlplane.api import Json

SHIPPED: Final = Path(__file__).parents[2] / "deploy/base/webhooks.yaml"
NAME: Final = "dapr-token-injector"
INJECT_ENTRY: Final = "inject.dapr-token-injector.svc"
DEFAULT_ENTRY: Final = "default.dapr-token-injector.svc"
DEFAULT_LABEL: Final = "dapr-token-injector/inject-default"


class Callee(Protocol):
    """Whom the API server shall call."""

    def client_config(self, path: str) -> Json:
        """Return the `clientConfig` for one path."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """A Service in front of the webhook; without a PEM another client writes the bundle later."""

    namespace: str
    name: str
    ca_pem: bytes | None

    def client_config(self, path: str) -> Json:
        """Return the `clientConfig` for one path."""
        service = {"namespace": self.namespace, "name": self.name, "path": path, "port": 443}
        return {"service": service} | ({} if self.ca_pem is None else {"caBundle": _base64(self.ca_pem)})

    def service(self) -> Json:
        """Return the Service: it selects no Pods, because the webhooks of tests are none."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": "https"}]},
        }

    def slice_of(self, *addresses: str, port: int) -> Json:
        """Return the EndpointSlice of the Service's addresses, all on one port."""
        labels = {"kubernetes.io/service-name": self.name}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }

    def endpoints_of(self, *addresses: str, port: int) -> Json:
        """Return the Endpoints that say the same to older API servers (1.30 and 1.33 do), which read nothing else."""
        subset = {
            "addresses": [{"ip": address} for address in addresses],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}  # or a controller makes a second slice of them
        return {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": labels},
            "subsets": [subset] if addresses else [],
        }


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook listens, as in `https://127.0.0.1:1234`, and the PEM that its certificate is checked with."""

    url: str
    ca_pem: bytes

    def client_config(self, path: str) -> Json:
        """Return the `clientConfig` for one path."""
        return {"url": self.url + path, "caBundle": _base64(self.ca_pem)}


def token_injector(endpoint: Callee, *, namespace: str) -> Json:
    """Return our mutating configuration."""
    return _shipped("MutatingWebhookConfiguration", endpoint, namespace)


def workload_warnings(endpoint: Callee, *, namespace: str) -> Json:
    """Return our validating configuration."""
    return _shipped("ValidatingWebhookConfiguration", endpoint, namespace)


def dapr_sidecar_injector(endpoint: Endpoint, *, namespace: str, name: str) -> Json:
    """Return the configuration of Dapr's own injector, as Dapr's chart has it."""
    entry = {
        "name": "sidecar-injector.dapr.io",
        "admissionReviewVersions": ["v1", "v1beta1"],
        "clientConfig": endpoint.client_config("/mutate"),
        "failurePolicy": "Ignore",
    }
    return _mutating(name, entry, namespace)


def foreign_webhook(endpoint: Endpoint, *, namespace: str, name: str) -> Json:
    """Return the configuration of a webhook that is neither ours nor Dapr's and fails closed."""
    entry = {
        "name": "annotate.example.com",
        "admissionReviewVersions": ["v1"],
        "clientConfig": endpoint.client_config("/"),
        "failurePolicy": "Fail",
    }
    return _mutating(name, entry, namespace)


def _mutating(name: str, entry: Json, namespace: str) -> Json:
    """Return a configuration for each new Pod of a namespace, with reinvocation after a later webhook."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    common = {
        "rules": [rule],
        "namespaceSelector": {"matchExpressions": [_only(namespace)]},
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [entry | common],
    }


def _shipped(kind: str, endpoint: Callee, namespace: str) -> Json:
    configuration: Json = next(item for item in documents(SHIPPED) if item["kind"] == kind)
    for entry in configuration["webhooks"]:
        entry["clientConfig"] = endpoint.client_config(entry["clientConfig"]["service"]["path"])
        entry["namespaceSelector"]["matchExpressions"].append(_only(namespace))
    return configuration


def _only(namespace: str) -> dict[str, Any]:
    return {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
