"""The API server as tests ask it, in this process: kubectl costs a tenth of a second of a processor for every question.

What users type still goes through kubectl. Paths of kinds come from the API server's own discovery, errors have
kubectl's words, and what is created has its field manager and its strict validation.
"""

from __future__ import annotations

import functools
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kubernetes.config import new_client_from_config
from urllib3.exceptions import HTTPError

from injector.kube.resources import Resource
from tests.controlplane.errors import KubectlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from kubernetes.client import ApiClient

# An object as the API server sends it; tests know its shape better than a type could say.
Json: TypeAlias = dict[str, Any]

TIMEOUT_SECONDS: Final = 120.0
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_CREATE: Final = {"fieldManager": "kubectl-create", "fieldValidation": "Strict"}


class Api:
    """The API server of a kubeconfig. Every method raises `KubectlError` for an answer that is an error, or none."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client: ApiClient = new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        self._resources: dict[str, Resource] = {}

    def resource(self, name: str) -> Resource:
        """Return the resource of a kind, its plural, singular or short name, with or without its group."""
        key = name.lower()
        if key not in self._resources:
            self._resources = self._discover()
        if key not in self._resources:
            raise KubectlError(("get", name), 1, f'error: the server doesn\'t have a resource type "{name}"')
        return self._resources[key]

    def get(self, resource: str, name: str, namespace: str) -> Json:
        """Return one object, without the records of who manages its fields."""
        return _shown(self._call("GET", self.resource(resource).path(namespace, name)))

    def list(self, resource: str, namespace: str, **query: str) -> tuple[Json, ...]:
        """Return the objects of a kind; several are separated by commas."""
        return tuple(
            _shown({"apiVersion": found.api_version, "kind": found.kind, **item})
            for name in resource.split(",")
            for found in (self.resource(name),)
            for item in self._call("GET", found.path(namespace), query=query)["items"]
        )

    def create(self, item: Mapping[str, Any], namespace: str, **query: str) -> Json:
        """Create an object and return it as the API server made it."""
        group = item["apiVersion"].rpartition("/")[0]
        found = self.resource(f"{item['kind']}.{group}" if group else item["kind"])
        path = found.path(item["metadata"].get("namespace", namespace))
        return _shown(self._call("POST", path, query=_CREATE | query, body=item))

    def patch(self, resource: str, name: str, namespace: str, operations: Sequence[Json]) -> None:
        """Change an object by the operations of a JSON patch."""
        path = self.resource(resource).path(namespace, name)
        self._call("PATCH", path, body=operations, content="application/json-patch+json")

    def token(self, account: str, namespace: str) -> str:
        """Return a new token of a ServiceAccount, for an hour."""
        path = f"{self.resource('serviceaccounts').path(namespace, account)}/token"
        made = self._call("POST", path, body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})
        return str(made["status"]["token"])

    def delete(self, resource: str, name: str, namespace: str) -> None:
        """Delete an object without waiting."""
        self._call("DELETE", self.resource(resource).path(namespace, name), query={"propagationPolicy": "Background"})

    def _discover(self) -> dict[str, Resource]:
        """Return the resources by all of their names; of several with a name, the API server's first."""
        found: dict[str, Resource] = {}
        for root in ("/api", "/apis"):
            for group in self._call("GET", root, accept=_DISCOVERY)["items"]:
                for name, resource in _resources(group):
                    found.setdefault(name, resource)
        return found

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Json] | None = None,
        accept: str = "application/json",
        content: str = "application/json",
    ) -> Json:
        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            received: bytes = answer.read() or b""  # type: ignore[no-untyped-call]
        except HTTPError as error:
            raise KubectlError((method, path), 1, f"Unable to connect to the server: {error}") from None
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise KubectlError((method, path), 1, _message(answer.status, received))
        decoded: Json = json.loads(received)
        return decoded


@functools.lru_cache(maxsize=32)
def api_of(kubeconfig: Path, _changed: int) -> Api:
    """Return the API server of a kubeconfig that was last changed at this time."""
    return Api(kubeconfig)


def _resources(group: Json) -> Iterable[tuple[str, Resource]]:
    suffix = group["metadata"].get("name", "")
    for version in group["versions"]:
        for found in version["resources"]:
            kind = found["responseKind"]["kind"]
            is_namespaced = found["scope"] == "Namespaced"
            resource = Resource(suffix, version["version"], found["resource"], kind, namespaced=is_namespaced)
            for name in (found["resource"], found["singularResource"], kind.lower(), *found.get("shortNames", ())):
                yield name, resource
                yield f"{name}.{suffix}", resource


def _shown(item: Json) -> Json:
    item["metadata"].pop("managedFields", None)
    return item


def _message(code: int, content: bytes) -> str:
    try:
        status = json.loads(content)
        return f"Error from server ({status['reason']}): {status['message']}"
    except (ValueError, KeyError, TypeError):
        return f"Error from server: {code}"
