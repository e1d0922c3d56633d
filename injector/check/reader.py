"""Reads a cluster for the checks: every object once, and of Secrets only the metadata."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from injector.core import names
from injector.kube.errors import NotFoundError
from injector.kube.resources import MUTATING_WEBHOOKS, SECRETS, WEBHOOK_CONFIGURATIONS, Resource
from injector.kube.transport import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable

    from injector.kube.client import Api
    from injector.kube.resources import Object, Objects

_T = TypeVar("_T")
# https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/self-subject-access-review-v1/
_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)


def _same(item: Object) -> Object:
    return item


def _without_managed_fields(item: Object) -> Object:
    item["metadata"].pop("managedFields", None)
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the caller expects: where dry-run Pods are sent, what they must come back with, and what is installed.

    `namespace`: None: one that a default installation serves. `secret`: empty: the Policy's default Secret. `key`:
    empty: any. `is_shadow`: the webhook must only report. `groups`: how many groups of replicas; 0: not known.
    `requested`: the action of the policy `requested`; empty: not known.
    """

    namespace: str | None = None
    secret: str = "dapr-api-token"  # as `policy.defaultSecret` of the chart
    key: str = ""
    is_shadow: bool = False
    groups: int = 0
    requested: str = ""


class ClusterReader:
    """A cluster as the checks see it. `namespace` is that of the installation; None: that of the registration."""

    def __init__(self, api: Api, namespace: str | None, now: int, expected: Expectations | None = None) -> None:
        self.api: Final = api
        self.expected: Final = expected or Expectations()
        self._now = now
        self._namespace = namespace
        self._read: dict[Hashable, asyncio.Task[Any]] = {}

    @property
    def now(self) -> int:
        """The time of the API server's clock: the one here may be wrong. Known from the first answer on."""
        return self._now + int(self.api.skew_seconds)

    async def once(self, key: Hashable, read: Callable[[], Awaitable[_T]]) -> _T:
        """Return what `read` returned or raise what it raised, when it was called for the first time with this key."""
        if key not in self._read:
            task = asyncio.ensure_future(read())
            # Its error is known to all who wait for it. If all were cancelled, asyncio would log it with its trace.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._read[key] = task
        return await asyncio.shield(self._read[key])

    async def raw(self, path: str) -> Object:
        """Return the answer to a GET of a path that is not an object, such as `/version`.

        Raises:
            KubeError: The API server rejects the request or does not answer.
        """
        return await self.once(("raw", path), lambda: self.api.send(Request("GET", path, f"get {path}")))

    async def list(self, resource: Resource, namespace: str | None = None, label_selector: str = "") -> Objects:
        """Return all objects, of Secrets their metadata, of others all but `managedFields`: half of most Pods.

        Raises:
            KubeError: They cannot be listed.
        """
        is_secret = resource == SECRETS
        return await self.once(
            ("list", resource, namespace, label_selector),
            lambda: self.api.list(
                resource,
                namespace,
                label_selector=label_selector,
                metadata_only=is_secret,
                keep=_same if is_secret else _without_managed_fields,
            ),
        )

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """Return an object, of a Secret its metadata; None if it does not exist.

        Raises:
            KubeError: It cannot be read.
        """

        async def read() -> Object | None:
            try:
                return await self.api.get(resource, name, namespace, metadata_only=resource == SECRETS)
            except NotFoundError:
                return None

        return await self.once(("get", resource, namespace, name), read)

    async def may(
        self, verb: str, resource: Resource, namespace: str | None = None, name: str = "", *, subresource: str = ""
    ) -> bool:
        """Return whether the caller has a permission; no namespace means all namespaces.

        Raises:
            KubeError: The API server does not answer.
        """
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural}
        attributes |= {"namespace": namespace} if namespace else {}
        attributes |= {"name": name} if name else {}
        attributes |= {"subresource": subresource} if subresource else {}
        spec = {"resourceAttributes": attributes}
        return await self.once(
            ("may", verb, resource, namespace, name, subresource),
            lambda: is_permitted(self.api, _ACCESS_REVIEWS, spec, "review your permissions"),
        )

    async def registrations(self) -> Objects:
        """Return the MutatingWebhookConfigurations of the installation that exist: one for each group of replicas.

        Raises:
            KubeError: They cannot be read.
        """
        groups = names.GROUPS[: self.expected.groups or None]
        return await self.existing((MUTATING_WEBHOOKS, name) for name in groups)

    async def configurations(self) -> Objects:
        """Return all webhook configurations of the installation that exist.

        Raises:
            KubeError: They cannot be read.
        """
        return await self.existing(WEBHOOK_CONFIGURATIONS)

    async def existing(self, objects: Iterable[tuple[Resource, str]], namespace: str | None = None) -> Objects:
        """Return those of some objects, by kind and name, that exist.

        Raises:
            KubeError: They cannot be read.
        """
        found = await asyncio.gather(*(self.get(kind, name, namespace) for kind, name in objects))
        return [one for one in found if one is not None]

    async def namespace(self) -> str:
        """Return the namespace of the installation: the given one, that of the registered Service, or the default one.

        Raises:
            KubeError: The registration cannot be read.
        """
        if self._namespace is not None:
            return self._namespace
        entries = [entry for one in await self.registrations() for entry in one.get("webhooks") or ()]
        services = [(entry.get("clientConfig") or {}).get("service") or {} for entry in entries]
        return next((str(one["namespace"]) for one in services if one.get("namespace")), names.MANAGER)


async def is_permitted(api: Api, kind: Resource, spec: Object, operation: str) -> bool:
    """Return what the API server answers to an access review.

    Raises:
        KubeError: The API server does not answer.
    """
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
    answer = await api.send(Request("POST", kind.path(), operation, body=body))
    return bool((answer.get("status") or {}).get("allowed"))
