"""A thin asynchronous client that speaks plain dictionaries.

The official client's typed models are not used: they refuse objects that the API server accepts (`items: null`), cost
ten times the memory, and drop what a newer server added.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from injector.kube import api_messages, confirm, kubeconfig
from injector.kube.errors import GoneError, UnavailableError
from injector.kube.resources import REQUEST_TIMEOUT_SECONDS, SECRETS, Object, Resource
from injector.kube.transport import JSON, Request, Transport, decode_object, error_from_event, parameters, why

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from injector.kube.confirm import Expected
    from injector.kube.resources import Objects

FIELD_MANAGER: Final = "dapr-token-injector"
# The API server's own clients ask for so many at once.
PAGE: Final = 500
_LIST_ATTEMPTS: Final = 3
# How long a watch lives. One that its API server has forgotten is noticed at its end, and a read begins the next.
WATCH_SECONDS: Final = 45


class Api(Transport):
    """Calls to one API server; an asynchronous context manager that closes its connections."""

    @classmethod
    async def in_cluster(cls) -> Self:
        """Speak as the Pod's ServiceAccount.

        Raises:
            KubeconfigError: This is no Pod, or it has no token mounted.
        """
        return cls(*await kubeconfig.in_cluster())

    @classmethod
    async def from_kubeconfig(cls, path: str | None = None, context: str | None = None) -> Self:
        """Speak as a kubeconfig says; by default the one that kubectl would take.

        Raises:
            KubeconfigError: There is none, it is malformed, or it names no such context.
        """
        return cls(*await kubeconfig.from_file(path, context))

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """One object."""
        operation = _operation("get", resource, name, namespace)
        return await self.send(
            Request("GET", resource.path(namespace, name), operation, timeout_seconds=timeout_seconds)
        )

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Objects:
        """All objects, asked for in pages; `kind` and `apiVersion`, which lists leave out, are filled in."""
        items, _ = await self.list_at(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        return items

    async def list_at(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> tuple[Objects, str]:
        """All objects and the resource version at which they were so, to watch from.

        A list is consistent over its pages until the API server forgets its version; then it is begun anew.
        """
        selectors = parameters(labelSelector=label_selector, fieldSelector=field_selector)
        for attempt in range(_LIST_ATTEMPTS):
            try:
                return await self._pages(resource, namespace, selectors)
            except GoneError:
                if attempt + 1 == _LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create an object.

        Raises:
            UnconfirmedWriteError: The answer is not the object that was written; so for the other writes.
            KubeError: As the API server answered, or that it did not.
        """
        expected = confirm.of_create(resource, body, namespace, dry_run=dry_run)
        return await self.send(_change(_CREATE, expected, body, dry_run=dry_run))

    async def dry_run_create(self, resource: Resource, body: Object, namespace: str) -> tuple[Object, tuple[str, ...]]:
        """Return the object that a create would store, after all admission, and the warnings; nothing is stored."""
        expected = confirm.of_create(resource, body, namespace, dry_run=True)
        return await self.send_for_warnings(_change(_TRY_CREATE, expected, body, dry_run=True))

    async def replace(
        self,
        resource: Resource,
        body: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        before: Object | None = None,
    ) -> Object:
        """Replace an object as a whole; with a resource version in it, only if it is still that one.

        `before` is a Secret as it was: an answer that holds a part of its values is not quoted either, and labels and
        annotations that differ from it have to be in the answer. `managedFields` are not sent, so that the API server
        keeps its own: they may be nested too deeply to be encoded.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/#clearing-managedfields
        """
        meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
        expected = confirm.of_replace(resource, body, namespace, dry_run=dry_run, before=before)
        return await self.send(_change(_REPLACE, expected, {**body, "metadata": meta}, dry_run=dry_run, before=before))

    async def apply(
        self,
        resource: Resource,
        name: str,
        body: Object,
        namespace: str | None = None,
        *,
        manager: str = FIELD_MANAGER,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """Server-side apply: own the fields in `body` and no others, also where another manager owns them."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        expected = confirm.of_patch(resource, name, whole, namespace, dry_run=False)
        request = _change(_APPLY, expected, whole, manager=manager)
        return await self.send(dataclasses.replace(request, timeout_seconds=timeout_seconds))

    async def patch(
        self, resource: Resource, name: str, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Change parts of an object by a merge patch."""
        expected = confirm.of_patch(resource, name, body, namespace, dry_run=dry_run)
        return await self.send(_change(_MERGE, expected, body, dry_run=dry_run))

    async def watch(  # noqa: PLR0913 - what the API takes
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        field_selector: str = "",
        label_selector: str = "",
        timeout_seconds: int = WATCH_SECONDS,
        grace_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> AsyncGenerator[Object, None]:
        """Events (`{"type": ..., "object": ...}`, bookmarks included) until the API server ends the watch.

        It does so after `timeout_seconds`, however little happens: the only sign of life there is, for bookmarks may
        take minutes.

        Raises:
            GoneError: The version is too old, said by status or in the stream: list anew.
            UnavailableError: The connection broke, nobody is at its other end any more (`connections`), or the API
                server did not end the watch within `grace_seconds` of its time.
            KubeError: As the API server answered.
        """
        operation = _operation("watch", resource, "", namespace)
        query = parameters(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds),
            fieldSelector=field_selector,
            labelSelector=label_selector,
        )
        path = resource.path(namespace)
        response = await self.open(
            Request("GET", path, operation, query, timeout_seconds=timeout_seconds + grace_seconds)
        )
        try:
            async for line in response.content:
                event = decode_object(operation, line)
                if event.get("type") == "ERROR":
                    raise error_from_event(operation, event.get("object", {}))
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnavailableError(operation, why=why(error)) from None
        finally:
            response.close()

    async def _pages(
        self, resource: Resource, namespace: str | None, selectors: tuple[tuple[str, str], ...]
    ) -> tuple[Objects, str]:
        operation = _operation("list", resource, "", namespace)
        items: Objects = []
        after = ""
        while True:
            query = (*selectors, *parameters(limit=str(PAGE), **{"continue": after}))
            page = await self.send(Request("GET", resource.path(namespace), operation, query))
            items.extend(
                {"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page.get("items") or ()
            )
            metadata = page.get("metadata", {})
            after = metadata.get("continue", "")
            if not after:
                return items, str(metadata.get("resourceVersion", ""))


@dataclass(frozen=True, slots=True)
class _Verb:
    """How a kind of write is sent; `phrase` completes "cannot ...", before the object."""

    method: str
    phrase: str
    content_type: str = JSON
    query: tuple[tuple[str, str], ...] = ()


_CREATE: Final = _Verb("POST", "create")
_TRY_CREATE: Final = _Verb("POST", "create (dry run)")
_REPLACE: Final = _Verb("PUT", "update")
_APPLY: Final = _Verb("PATCH", "patch", "application/apply-patch+yaml", (("force", "true"),))
_MERGE: Final = _Verb("PATCH", "patch", "application/merge-patch+json")


def _change(
    verb: _Verb,
    expected: Expected,
    body: Object,
    *,
    dry_run: bool = False,
    before: Object | None = None,
    manager: str = FIELD_MANAGER,
) -> Request:
    """A write; what the API server says of a Secret's is quoted only where it holds no part of the object."""
    resource, namespace, name = expected.resource, expected.namespace, expected.name
    return Request(
        verb.method,
        resource.path(namespace, None if verb.method == "POST" else name),
        _operation(verb.phrase, resource, name, namespace),
        (*parameters(fieldManager=manager, dryRun="All" if dry_run else ""), *verb.query),
        body,
        verb.content_type,
        hidden=api_messages.values_of(before, body) if resource == SECRETS else None,
        expected=expected,
    )


def _operation(verb: str, resource: Resource, name: str, namespace: str | None) -> str:
    what = f"{resource.plural}/{name}" if name else resource.plural
    if not resource.namespaced:
        return f"{verb} {what}"
    return f"{verb} {what} in {f'namespace {namespace}' if namespace else 'all namespaces'}"
