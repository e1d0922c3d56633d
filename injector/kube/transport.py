"""How requests are sent to an API server, and what becomes of its answers.

Authentication, TLS and connections are the official client's. Every call first becomes a `Request`, a plain value that
tests can look at and messages can name.

Nothing is tried again but a request that was answered with 401, once, with credentials read anew (they may come from
a plugin whose token ran out). Whoever calls knows better what a second try would mean.

No redirect is followed, and a write counts as done only when its answer is the object that was written (`confirm`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from injector import __version__
from injector.core.depth import decode_any_depth
from injector.kube import api_messages, confirm, redirects
from injector.kube.connections import LIVENESS, Connections, Liveness, RefusedRedirectError
from injector.kube.errors import (
    InvalidError,
    KubeError,
    RedirectedError,
    Refusal,
    UnauthorizedError,
    UnavailableError,
    error_from_status,
)
from injector.kube.resources import REQUEST_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from injector.kube.confirm import Expected
    from injector.kube.resources import Object

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One call before it is sent. `operation` completes "cannot ..."; a body never shows in the repr."""

    method: str
    path: str
    operation: str
    query: tuple[tuple[str, str], ...] = ()
    body: object = field(default=None, repr=False)
    content_type: str = JSON
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    hidden: tuple[str, ...] | None = field(default=None, repr=False)  # values that no quoted answer may hold a part of
    expected: Expected | None = field(default=None, repr=False)  # of a write: what the answer has to be


class Transport:
    """Sends requests to one API server; an asynchronous context manager that closes its connections."""

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()  # type: ignore[no-untyped-call] # the official client is typed in parts

    async def send(self, request: Request) -> Object:
        """Send one request and decode its answer.

        Raises:
            KubeError: As the API server answered, or that it did not.
        """
        answer, _ = await self.send_for_warnings(request)
        return answer

    async def send_for_warnings(self, request: Request) -> tuple[Object, tuple[str, ...]]:
        """The same, with the warnings of admission.

        Raises:
            KubeError: As the API server answered, or that it did not.
        """
        response = await self.open(request)
        try:
            content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(request, error) from None
        finally:
            response.release()
        warnings = tuple(_warnings(response.headers.getall("Warning", [])))
        if request.expected is not None:
            return confirm.confirmed(request.operation, request.expected, response.status, content), warnings
        return decode_object(request.operation, content), warnings

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
            if error.refusal is None or "pgrade" not in error.refusal.message:  # "Upgrade request required" is no cause
                raise
        raise error_from_status(request.operation, Refusal(status))

    async def open(self, request: Request) -> aiohttp.ClientResponse:
        """Send one request; the answer is a success whose body is still to be read.

        Raises:
            KubeError: As the API server answered, or that it did not.
        """
        try:
            return await self._once(request)
        except UnauthorizedError:
            if self._renew is None:
                raise
        try:
            await self._renew()
        except Exception:  # noqa: BLE001 - as in `kubeconfig.from_file`
            raise UnauthorizedError(request.operation, why="the credentials ran out and cannot be renewed") from None
        return await self._once(request)

    async def _once(self, request: Request) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=request.timeout_seconds)
        try:
            method, url, headers, body, _ = await self._client.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query),
                header_params={"Accept": JSON, "Content-Type": request.content_type},
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
        raise error_from_status(request.operation, _refusal(request, response, content))


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
            yield api_messages.single_line(text.replace('\\"', '"'))


def parameters(**values: str) -> tuple[tuple[str, str], ...]:
    """The query of a request; empty values are left out."""
    return tuple((key, value) for key, value in values.items() if value)


def decode_object(operation: str, content: bytes) -> Object:
    """The JSON object that an answer is.

    Raises:
        UnavailableError: It is something else.
    """
    try:
        decoded = decode_any_depth(json.loads, content)
    except (ValueError, RecursionError):
        raise UnavailableError(operation, why="the answer is not JSON; is this a Kubernetes API server?") from None
    if not isinstance(decoded, dict):
        raise UnavailableError(operation, why="the answer is no object; is this a Kubernetes API server?")
    return decoded


def _refusal(request: Request, response: aiohttp.ClientResponse, content: bytes) -> Refusal:
    try:
        status = decode_any_depth(json.loads, content)
    except (ValueError, RecursionError):
        status = None
    after = response.headers.get("Retry-After", "")
    is_read = request.method == "GET"
    refusal = _refusal_of(status if isinstance(status, dict) else {}, response.status, is_read=is_read)
    message = refusal.message
    if request.hidden is not None:
        message = api_messages.redact_secret_values(refusal.status, message, request.hidden, request.operation)
    return dataclasses.replace(
        refusal,
        message=api_messages.single_line(message),
        retry_after_seconds=float(after) if after.isdecimal() else None,
    )


def error_from_event(operation: str, status: Mapping[str, Any]) -> KubeError:
    """The error for the `Status` object of an event of a watch."""
    refusal = _refusal_of(status, _NO_STATUS, is_read=True)
    return error_from_status(operation, dataclasses.replace(refusal, message=api_messages.single_line(refusal.message)))


_NO_STATUS: Final = 500  # of an event whose object does not say


def _refusal_of(status: Mapping[str, Any], code: int, *, is_read: bool) -> Refusal:
    """What a `Status` object says, word by word; `code` where it does not."""
    message = str(status.get("message", ""))[:_LONGEST_MESSAGE]
    number = status.get("code")
    number = number if isinstance(number, int) else code
    return Refusal(
        number,
        str(status.get("reason", "")),
        message,
        is_denial=api_messages.is_denial(number, message, is_read=is_read),
    )


# Characters of a sentence that are looked at: more than are ever shown.
_LONGEST_MESSAGE: Final = 4096


def _failure(request: Request, error: BaseException) -> KubeError:
    """The error for a call without an answer of the API server."""
    hidden = request.hidden or ()
    if isinstance(error, RefusedRedirectError):
        return RedirectedError(
            request.operation, why=redirects.explain(error.status, error.location, error.base, hidden)
        )
    if isinstance(error, aiohttp.ClientHttpProxyError) and redirects.is_redirect(error.status):
        location = error.headers.get("Location") if error.headers is not None else None
        told = redirects.explain(error.status, location, "", hidden)
        return RedirectedError(request.operation, why=f"the proxy is not the way to it: {told}")
    return UnavailableError(request.operation, why=why(error))


def why(error: BaseException) -> str:
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
