"""A thin asynchronous client that speaks plain dictionaries.

Authentication, TLS and connections are the official client's. Its typed models are not used: they refuse objects that
the API server accepts (`items: null`), cost ten times the memory, and drop what a newer server added. Every call first
becomes a `Request`, a plain value that tests can look at and messages can name, and is then sent.

Nothing is tried again but a request that was answered with 401, once, with credentials read anew (they may come from
a plugin whose token ran out). Whoever calls knows better what a second try would mean.

No redirect is followed, and a write counts as done only when its answer is the object that was written (`confirm`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from injector import __version__
from injector.core.depth import decode_any_depth
from injector.kube import confirm, denials, redirects
from injector.kube.connections import LIVENESS, Connections, Liveness, RefusedRedirectError
from injector.kube.errors import (
    GoneError,
    InvalidError,
    KubeconfigError,
    KubeError,
    RedirectedError,
    Refusal,
    UnauthorizedError,
    UnavailableError,
    UnknownContextError,
    of_refusal,
)
from injector.kube.oidc import Loader
from injector.kube.resources import REQUEST_TIMEOUT_SECONDS, SECRETS, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping

    from injector.kube.confirm import Expected

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]

FIELD_MANAGER: Final = "dapr-token-injector"
# The API server's own clients ask for so many at once.
PAGE: Final = 500
_LIST_ATTEMPTS: Final = 3
# How long a watch lives. One that its API server has forgotten is noticed at its end, and a read begins the next.
WATCH_SECONDS: Final = 45

_JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
_APPLY_PATCH: Final = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Request:
    """One call before it is sent. `doing` completes "cannot ..."; a body never shows in the repr."""

    method: str
    path: str
    doing: str
    query: tuple[tuple[str, str], ...] = ()
    body: object = field(default=None, repr=False)
    content_type: str = _JSON
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    hidden: tuple[str, ...] | None = field(default=None, repr=False)  # values that no quoted answer may hold a part of
    expected: Expected | None = field(default=None, repr=False)  # of a write: what the answer has to be


class Api:
    """Calls to one API server; an asynchronous context manager that closes its connections."""

    def __init__(
        self,
        configuration: Configuration,
        renew: Callable[[], Awaitable[None]] | None = None,
        *,
        liveness: Liveness = LIVENESS,
    ) -> None:
        self.configuration = configuration  # how the API server is reached; holds credentials
        self._client = ApiClient(configuration)
        self._client.rest_client = Connections(configuration, liveness)
        self._client.user_agent = f"dapr-token-injector/{__version__}"
        self._renew = renew
        # How far the API server's clock was ahead of ours at its last answer.
        self.skew_seconds = 0.0

    @classmethod
    async def in_cluster(cls) -> Self:
        """Speak as the Pod's ServiceAccount.

        Raises:
            KubeconfigError: This is no Pod, or it has no token mounted.
        """
        configuration = Configuration()

        async def load() -> None:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # as in close

        try:
            await load()
        except (config.ConfigException, OSError) as error:
            raise KubeconfigError("reach the cluster as its Pod", why=str(error)) from None
        # The official client reads the token anew each minute of the wall clock, so not while that was set back.
        return cls(configuration, renew=load)

    @classmethod
    async def from_kubeconfig(cls, path: str | None = None, context: str | None = None) -> Self:
        """Speak as a kubeconfig says; by default the one that kubectl would take.

        Raises:
            KubeconfigError: There is none, it is malformed, or it names no such context.
        """
        configuration = Configuration()

        async def load() -> None:
            with _complaints() as complaints:
                merged = config.kube_config.KubeConfigMerger(_place(path)).config  # type: ignore[no-untyped-call] # as in close
                loader = Loader(config_dict=merged, config_base_path=None, active_context=context)  # type: ignore[no-untyped-call]
                await loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
            if complaints:  # the official client would go on without credentials
                raise config.ConfigException(f"its credential plugin does not work: {denials.masked(complaints[0])}")

        doing = f"read the kubeconfig{f' {path}' if path else ''}"
        if missing := _missing(path):
            # Said here, for the official client writes a line of its own to stderr.
            raise KubeconfigError(doing, why=f"there is no file {missing}")
        known, current = _contexts(path)
        wanted = context or current
        if known and wanted not in known:
            why = f"it has no context {wanted}" if wanted else "it names no current context"
            raise UnknownContextError(doing, why, known)
        try:
            await load()
        except Exception as error:  # noqa: BLE001 - YAML, base64, PEM, plugins: a kubeconfig fails in many ways
            # Words of a parser may quote the file, which holds credentials.
            why = str(error) if isinstance(error, config.ConfigException) else "it is no kubeconfig"
            raise KubeconfigError(doing, why=why) from None
        return cls(configuration, renew=load)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()  # type: ignore[no-untyped-call] # the official client is typed in parts

    # --- what callers use ---

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """One object."""
        doing = _doing("get", resource, name, namespace)
        return await self.send(Request("GET", resource.path(namespace, name), doing, timeout_seconds=timeout_seconds))

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
        selectors = _query(labelSelector=label_selector, fieldSelector=field_selector)
        for attempt in range(_LIST_ATTEMPTS):
            try:
                return await self._pages(resource, namespace, selectors)
            except GoneError:
                if attempt + 1 == _LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def create(
        self,
        resource: Resource,
        body: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Create an object.

        Raises:
            UnconfirmedWriteError: The answer is not the object that was written; so for the other writes.
            KubeError: As the API server answered, or that it did not.
        """
        return await self._write(
            resource,
            Request(
                "POST",
                resource.path(namespace),
                _doing("create", resource, str(body.get("metadata", {}).get("name", "")), namespace),
                _query(fieldManager=manager, dryRun="All" if dry_run else ""),
                body,
                expected=confirm.of_create(resource, body, namespace, dry_run=dry_run),
            ),
        )

    async def dry_run_create(self, resource: Resource, body: Object, namespace: str) -> tuple[Object, tuple[str, ...]]:
        """Return the object that a create would store, after all admission, and the warnings; nothing is stored."""
        operation = _doing("create (dry run)", resource, "", namespace)
        expected = confirm.of_create(resource, body, namespace, dry_run=True)
        query = _query(fieldManager=FIELD_MANAGER, dryRun="All")
        request = Request("POST", resource.path(namespace), operation, query, body, expected=expected)
        response = await self._open(request)
        try:
            answer = confirm.confirmed(operation, expected, response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(operation, why=_why(error)) from None
        finally:
            response.release()
        return answer, tuple(_warnings(response.headers.getall("Warning", [])))

    async def replace(
        self,
        resource: Resource,
        body: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
        before: Object | None = None,
    ) -> Object:
        """Replace an object as a whole; with a resource version in it, only if it is still that one.

        `before` is a Secret as it was: an answer that holds a part of its values is not quoted either, and labels and
        annotations that differ from it have to be in the answer. `managedFields` are not sent, so that the API server
        keeps its own: they may be nested too deeply to be encoded.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/#clearing-managedfields
        """
        meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
        body = {**body, "metadata": meta}
        name = str(meta["name"])
        return await self._write(
            resource,
            Request(
                "PUT",
                resource.path(namespace, name),
                _doing("update", resource, name, namespace),
                _query(fieldManager=manager, dryRun="All" if dry_run else ""),
                body,
                expected=confirm.of_replace(resource, body, namespace, dry_run=dry_run, before=before),
            ),
            before,
        )

    async def apply(  # noqa: PLR0913 - what the API takes
        self,
        resource: Resource,
        name: str,
        body: Object,
        namespace: str | None = None,
        *,
        force: bool = True,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Object:
        """Server-side apply: own the fields in `body` and no others."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return await self._write(
            resource,
            Request(
                "PATCH",
                resource.path(namespace, name),
                _doing("patch", resource, name, namespace),
                _query(fieldManager=manager, force="true" if force else "", dryRun="All" if dry_run else ""),
                whole,
                _APPLY_PATCH,
                timeout_seconds,
                expected=confirm.of_patch(resource, name, whole, namespace, dry_run=dry_run),
            ),
        )

    async def patch(  # noqa: PLR0913 - what the API takes
        self,
        resource: Resource,
        name: str,
        body: object,
        namespace: str | None = None,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Change parts of an object: a merge patch by default, or a JSON patch."""
        return await self._write(
            resource,
            Request(
                "PATCH",
                resource.path(namespace, name, subresource),
                _doing("patch", resource, name, namespace, subresource),
                _query(fieldManager=manager, dryRun="All" if dry_run else ""),
                body,
                content_type,
                expected=confirm.of_patch(resource, name, body, namespace, dry_run=dry_run),
            ),
        )

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str = "", resource_version: str = ""
    ) -> Object:
        """Delete an object; with a uid or version, only that very one."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in wanted.items() if value}
        body = {"preconditions": preconditions} if preconditions else None
        return await self.send(
            Request(
                "DELETE",
                resource.path(namespace, name),
                _doing("delete", resource, name, namespace),
                (),
                body,
                expected=confirm.of_delete(resource, name, namespace, uid=uid),
            )
        )

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
        doing = _doing("watch", resource, "", namespace)
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds),
            fieldSelector=field_selector,
            labelSelector=label_selector,
        )
        path = resource.path(namespace)
        response = await self._open(Request("GET", path, doing, query, timeout_seconds=timeout_seconds + grace_seconds))
        try:
            async for line in response.content:
                event = _decoded(doing, line)
                if event.get("type") == "ERROR":
                    refusal = _refusal_of(event.get("object", {}), 500, is_read=True)
                    raise of_refusal(doing, dataclasses.replace(refusal, said=denials.clean(refusal.said)))
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnavailableError(doing, why=_why(error)) from None
        finally:
            response.close()

    # --- sending ---

    async def send(self, request: Request) -> Object:
        """Send one request and decode its answer.

        Raises:
            KubeError: As the API server answered, or that it did not.
        """
        response = await self._open(request)
        try:
            content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(request, error) from None
        finally:
            response.release()
        if request.expected is not None:
            return confirm.confirmed(request.doing, request.expected, response.status, content)
        return _decoded(request.doing, content)

    async def connect(self, request: Request, protocol: str) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket at a request's path.

        Raises:
            KubeError: As the API server answered, or that it did not.
        """
        rest = self._client.rest_client
        try:
            _, url, headers, _, _ = await self._client.param_serialize(
                request.method, request.path, query_params=list(request.query), auth_settings=["BearerToken"]
            )
            if rest.pool_manager is None:
                rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001 - as the client's own websockets do
            return await rest.pool_manager.ws_connect(url, headers=headers, protocols=(protocol,), proxy=rest.proxy)
        except aiohttp.WSServerHandshakeError as error:
            status = error.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(request, error) from None
        try:
            await self.send(request)  # a refused handshake has no words; a plain request has
        except InvalidError as error:
            if error.refusal is None or "pgrade" not in error.refusal.said:  # "Upgrade request required" is no cause
                raise
        raise of_refusal(request.doing, Refusal(status))

    async def _write(self, resource: Resource, request: Request, before: Object | None = None) -> Object:
        """Send a change; what the API server says of a Secret's is quoted only where it holds no part of the object."""
        if resource == SECRETS:
            body = request.body if isinstance(request.body, dict) else None
            request = dataclasses.replace(request, hidden=denials.values_of(before, body))
        return await self.send(request)

    async def _open(self, request: Request) -> aiohttp.ClientResponse:
        try:
            return await self._once(request)
        except UnauthorizedError:
            if self._renew is None:
                raise
        try:
            await self._renew()
        except Exception:  # noqa: BLE001 - as in `from_kubeconfig`
            raise UnauthorizedError(request.doing, why="the credentials ran out and cannot be renewed") from None
        return await self._once(request)

    async def _once(self, request: Request) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=request.timeout_seconds)
        try:
            method, url, headers, body, _ = await self._client.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query),
                header_params={"Accept": _JSON, "Content-Type": request.content_type},
                body=request.body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            self.skew_seconds = _skew(response.headers.get("Date", ""), time.time())
            if response.status < _FIRST_FAILURE:
                return response
            try:
                content = await response.read()
            finally:
                response.release()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(request, error) from None
        raise of_refusal(request.doing, _refusal(request, response, content))

    async def _pages(
        self, resource: Resource, namespace: str | None, selectors: tuple[tuple[str, str], ...]
    ) -> tuple[Objects, str]:
        doing = _doing("list", resource, "", namespace)
        items: Objects = []
        after = ""
        while True:
            query = (*selectors, *_query(limit=str(PAGE), **{"continue": after}))
            page = await self.send(Request("GET", resource.path(namespace), doing, query))
            items.extend(
                {"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page.get("items") or ()
            )
            metadata = page.get("metadata", {})
            after = metadata.get("continue", "")
            if not after:
                return items, str(metadata.get("resourceVersion", ""))


def default_namespace(path: str | None = None, context: str | None = None) -> str:
    """The namespace that a kubeconfig's context names, `default` where it names none.

    Raises:
        KubeconfigError: There is no kubeconfig, or no such context.
    """
    doing = f"read the namespace of the kubeconfig{f' {path}' if path else ''}"
    if missing := _missing(path):
        raise KubeconfigError(doing, why=f"there is no file {missing}")
    try:
        known, current = _contexts(path)
        return str(known[context or current]["context"].get("namespace") or "default")
    except Exception:  # noqa: BLE001 - as in `from_kubeconfig`
        raise KubeconfigError(doing) from None


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """What the official client would write to a log of its own, and pass over: a credential plugin that fails."""
    told: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign] # for one call
    log = logging.getLogger(config.kube_config.__name__)
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield told
    finally:
        log.removeHandler(handler)
        log.propagate = propagates


def _contexts(path: str | None) -> tuple[dict[str, Object], str]:
    """A kubeconfig's contexts by name, and the current one's name; none when it cannot be read."""
    try:
        told = config.kube_config.KubeConfigMerger(_place(path)).config.value  # type: ignore[no-untyped-call] # as in close
        contexts = {str(one["name"]): one.value for one in told.get("contexts") or ()}
        return contexts, str(told.get("current-context") or "")
    except Exception:  # noqa: BLE001 - as in `from_kubeconfig`, which says what is wrong
        return {}, ""


def _place(path: str | None) -> str:
    """Where a kubeconfig is, as the official client takes it: several files are parted as in KUBECONFIG."""
    return str(Path(path or config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION).expanduser())


def _missing(path: str | None) -> str:
    """Where kubectl would look for a kubeconfig, when none of those files is there; else nothing."""
    named = path or os.environ.get("KUBECONFIG") or "~/.kube/config"
    places = [Path(place).expanduser() for place in named.split(os.pathsep) if place]
    return "" if any(place.is_file() for place in places) else " or ".join(map(str, places))


_FIRST_FAILURE: Final = 300


def _skew(date: str, now: float) -> float:
    """How far a `Date` header is ahead of `now`; it has whole seconds, so less than two of them are none."""
    try:
        ahead = parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return ahead if abs(ahead) >= _COARSE else 0.0


_COARSE: Final = 2.0


# A warning of admission, as in `299 - "text"`: https://www.rfc-editor.org/rfc/rfc7234#section-5.5
_WARNING: Final = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


def _warnings(headers: Iterable[str]) -> Iterator[str]:
    for header in headers:
        for text in _WARNING.findall(header):
            yield denials.clean(text.replace('\\"', '"'))


def _query(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in values.items() if value)


def _doing(verb: str, resource: Resource, name: str, namespace: str | None, subresource: str = "") -> str:
    what = f"{resource.plural}/{name}" if name else resource.plural
    if subresource:
        what = f"{what} ({subresource})"
    if not resource.namespaced:
        return f"{verb} {what}"
    return f"{verb} {what} in {f'namespace {namespace}' if namespace else 'all namespaces'}"


def _decoded(doing: str, content: bytes) -> Object:
    try:
        decoded = decode_any_depth(json.loads, content)
    except (ValueError, RecursionError):
        raise UnavailableError(doing, why="the answer is not JSON; is this a Kubernetes API server?") from None
    if not isinstance(decoded, dict):
        raise UnavailableError(doing, why="the answer is no object; is this a Kubernetes API server?")
    return decoded


def _refusal(request: Request, response: aiohttp.ClientResponse, content: bytes) -> Refusal:
    try:
        status = decode_any_depth(json.loads, content)
    except (ValueError, RecursionError):
        status = None
    after = response.headers.get("Retry-After", "")
    is_read = request.method == "GET"
    refusal = _refusal_of(status if isinstance(status, dict) else {}, response.status, is_read=is_read)
    said = refusal.said
    if request.hidden is not None:
        said = denials.guarded(refusal.status, said, request.hidden, request.doing)
    return dataclasses.replace(
        refusal, said=denials.clean(said), retry_after_seconds=float(after) if after.isdecimal() else None
    )


def _refusal_of(status: Mapping[str, Any], code: int, *, is_read: bool) -> Refusal:
    """What a `Status` object says, word by word; `code` where it does not."""
    said = str(status.get("message", ""))[:_LONGEST_SAID]
    number = status.get("code")
    number = number if isinstance(number, int) else code
    return Refusal(
        number, str(status.get("reason", "")), said, is_denial=denials.is_denial(number, said, is_read=is_read)
    )


# Characters of a sentence that are looked at: more than are ever shown.
_LONGEST_SAID: Final = 4096


def _failure(request: Request, error: BaseException) -> KubeError:
    """The error for a call without an answer of the API server."""
    hidden = request.hidden or ()
    if isinstance(error, RefusedRedirectError):
        return RedirectedError(request.doing, why=redirects.explain(error.status, error.location, error.base, hidden))
    if isinstance(error, aiohttp.ClientHttpProxyError) and redirects.is_redirect(error.status):
        location = error.headers.get("Location") if error.headers is not None else None
        told = redirects.explain(error.status, location, "", hidden)
        return RedirectedError(request.doing, why=f"the proxy is not the way to it: {told}")
    return UnavailableError(request.doing, why=_why(error))


def _why(error: BaseException) -> str:
    """Words for a connection that failed: never the library's whole text, which may hold addresses with credentials."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the API server's certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"cannot speak TLS with {error.host}:{error.port}: something else listens there"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        told = os.strerror(number) if number is not None and number > 0 else error.os_error.strerror or "unknown reason"
        return f"cannot connect to {error.host}:{error.port} ({told.lower()})"
    return f"the connection failed ({type(error).__name__})"
