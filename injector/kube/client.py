"""An asynchronous client of the Kubernetes API whose objects are plain dictionaries.

The official client's typed models are not used: they reject objects that the API server accepts (`items: null`), take
ten times the memory, and drop the fields of newer servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import msgspec

from injector.core import names
from injector.kube import api_messages, confirm, kubeconfig, lists
from injector.kube.backoff import Backoff, retry_seconds
from injector.kube.errors import GoneError, UnavailableError
from injector.kube.resources import REQUEST_TIMEOUT_SECONDS, SECRETS, Object, Resource
from injector.kube.transport import JSON, Request, Transport, decode_object, error_from_event, parameters, why

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from injector.kube.confirm import Expected
    from injector.kube.lists import Kept, Read, T
    from injector.kube.resources import Objects

# Objects of a list in one answer, as in client-go.
PAGE: Final = 500
# A million objects. The API server supports 150,000 Pods.
_MOST_PAGES: Final = 2_000
_LIST_ATTEMPTS: Final = 3
# Of one page, while the API server requests a later retry.
_PAGE_ATTEMPTS: Final = 5
# https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_object: Final = msgspec.json.Decoder(Object)
# The lifetime of a watch. If the API server has dropped a watch silently, this is when the client notices.
WATCH_SECONDS: Final = 45


class Api(Transport):
    """Calls to one API server; an asynchronous context manager that closes its connections."""

    @classmethod
    async def in_cluster(cls) -> Self:
        """Return a client that uses the Pod's ServiceAccount.

        Raises:
            KubeconfigError: The process does not run in a Pod, or no token is mounted.
        """
        return cls(*await kubeconfig.in_cluster())

    @classmethod
    async def from_kubeconfig(cls, path: str | None = None, context: str | None = None) -> Self:
        """Return a client that uses a kubeconfig; the default is that of kubectl.

        Raises:
            KubeconfigError: The kubeconfig does not exist, is malformed, or does not have the context.
        """
        return cls(*await kubeconfig.from_file(path, context))

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        metadata_only: bool = False,
    ) -> Object:
        """Return one object; with `metadata_only`, the API server sends nothing of the data of a Secret.

        Raises:
            UnavailableError: The answer is not that object.
            KubeError: The API server rejects the request or does not answer.
        """
        request = Request(
            "GET",
            resource.path(namespace, name),
            _operation("get", resource, name, namespace),
            timeout_seconds=timeout_seconds,
            accept=_METADATA if metadata_only else JSON,
        )
        found = await self.send(request)
        meta = found.get("metadata")
        if (
            not isinstance(meta, dict)
            or meta.get("name") != name
            or (resource.namespaced and meta.get("namespace") != namespace)
        ):
            reason = "the answer is not that object; is this a Kubernetes API server?"
            raise UnavailableError(request.operation, why=reason)
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        keep: Callable[[Object], Object | None] = lambda item: item,
        metadata_only: bool = False,
    ) -> Objects:
        """Return all objects, read in pages, with `kind` and `apiVersion`, which the items of a list do not have.

        `keep` returns what to keep of an item, None for nothing: the rest of a page is dropped before the next one.
        With `metadata_only`, the API server sends no more than `metadata`: nothing of the data of a Secret.
        """
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        return await self.read_list(
            resource,
            namespace,
            lambda text: keep({**kind, **_object.decode(text)}),
            selectors=parameters(labelSelector=label_selector),
            metadata_only=metadata_only,
        )

    async def read_list(
        self,
        resource: Resource,
        namespace: str | None,
        read: Read[T],
        *,
        selectors: tuple[tuple[str, str], ...] = (),
        metadata_only: bool = False,
    ) -> Kept[T]:
        """Return what `read` keeps of the text of each object.

        For large lists: members that `read` does not decode cost next to nothing. The pages of a list have one resource
        version. If it expires between two pages, the list starts again.

        Raises:
            UnavailableError: An answer is not a list of named objects, or the list does not end.
            KubeError: The API server rejects the request or does not answer.
        """
        request = Request(
            "GET",
            resource.path(namespace),
            _operation("list", resource, "", namespace),
            (*selectors, *parameters(limit=str(PAGE))),
            accept=_METADATA_LIST if metadata_only else JSON,
        )
        for _ in range(_LIST_ATTEMPTS - 1):
            with contextlib.suppress(GoneError):
                return await self._pages(request, read, namespaced=resource.namespaced)
        return await self._pages(request, read, namespaced=resource.namespaced)

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Create an object.

        Raises:
            UnconfirmedWriteError: The answer is not the object that was written; the other writes raise it, too.
            KubeError: The API server rejects the request or does not answer.
        """
        expected = confirm.of_create(resource, body, namespace, dry_run=dry_run)
        return await self.send(_change(_CREATE, expected, body, dry_run=dry_run))

    async def dry_run_create(self, resource: Resource, body: Object, namespace: str) -> tuple[Object, tuple[str, ...]]:
        """Return the object that a create would store after admission, and the warnings; nothing is stored."""
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
        """Replace an object; if the body has a resource version, only that version.

        `before` is the Secret that is replaced: no error message quotes its values, and labels and annotations that
        change must be in the answer. `managedFields` are not sent, because they may be nested too deeply to be encoded;
        the API server keeps its own.
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
        manager: str = names.MANAGER,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """Apply on the server side and take over the fields in `body` from other managers."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        expected = confirm.of_patch(resource, name, whole, namespace, dry_run=False)
        request = _change(_APPLY, expected, whole, manager=manager)
        return await self.send(dataclasses.replace(request, timeout_seconds=timeout_seconds))

    async def patch(
        self, resource: Resource, name: str, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Change an object by a merge patch."""
        expected = confirm.of_patch(resource, name, body, namespace, dry_run=dry_run)
        return await self.send(_change(_MERGE, expected, body, dry_run=dry_run))

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        field_selector: str = "",
        timeout_seconds: int = WATCH_SECONDS,
        grace_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> AsyncGenerator[Object, None]:
        """Yield events (`{"type": ..., "object": ...}`, including bookmarks) until the API server ends the watch.

        The API server ends it after `timeout_seconds`, also if nothing happens. That is the only sign that the watch
        works: minutes may pass between two bookmarks.

        Raises:
            GoneError: The resource version is too old, by HTTP status or in the stream; list again.
            UnavailableError: The connection broke, the other end no longer answers (`connections`), or the API server
                did not end the watch within `grace_seconds` after its time.
            KubeError: The API server rejects the request.
        """
        operation = _operation("watch", resource, "", namespace)
        query = parameters(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds),
            fieldSelector=field_selector,
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

    async def _pages(self, request: Request, read: Read[T], *, namespaced: bool) -> Kept[T]:
        found: list[T] = []
        after = ""
        for _ in range(_MOST_PAGES):
            query = (*request.query, *parameters(**{"continue": after}))
            items, after = lists.page(
                request.operation,
                await self._page(dataclasses.replace(request, query=query)),  # not kept in a variable
                read,
                namespaced=namespaced,
            )
            found += items
            if not after:
                return found
        raise UnavailableError(request.operation, why=f"the list does not end after {_MOST_PAGES:,} pages")

    async def _page(self, request: Request) -> bytes:
        """Return a page; wait and try again if the API server requests that."""
        backoff = Backoff(random.Random())  # noqa: S311 - spreads load
        for _ in range(_PAGE_ATTEMPTS - 1):
            try:
                return await self.fetch(request)
            except UnavailableError as error:
                wait = retry_seconds(error, backoff)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
        return await self.fetch(request)


@dataclass(frozen=True, slots=True)
class _Verb:
    """How a kind of write is sent. `phrase` follows "cannot" in error messages."""

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
    manager: str = names.MANAGER,
) -> Request:
    """Return the request of a write; for a Secret, no error message quotes a part of its values."""
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
