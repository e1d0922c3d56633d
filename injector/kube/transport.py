"""Sends requests to an API server and decodes its answers.

The official client does authentication, TLS and connections. Every call is a `Request`, a plain value.

Only a request that was answered with 401 is sent again: once, with credentials that were read again, because the token
of a credential plugin may have expired. All other retries are the caller's decision.

Redirects are not followed. A write counts as done only if its answer is the object that was written (`confirm`).
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
from injector.files import error_text
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
    """One call. `operation` completes "cannot ..." in error messages.

    `hidden`: values of Secrets in base64; no error message quotes a part of them. `expected`: the answer that confirms
    a write. The repr does not show the body.
    """

    method: str
    path: str
    operation: str
    query: tuple[tuple[str, str], ...] = ()
    body: object = field(default=None, repr=False)
    content_type: str = JSON
    accept: str = JSON
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    hidden: tuple[str, ...] | None = field(default=None, repr=False)
    expected: Expected | None = field(default=None, repr=False)


class Transport:
    """A connection to one API server; an asynchronous context manager that closes it."""

    def __init__(
        self,
        configuration: Configuration,
        renew: Callable[[], Awaitable[None]] | None = None,
        *,
        liveness: Liveness = LIVENESS,
    ) -> None:
        self.configuration = configuration  # holds credentials
        self._client = ApiClient(configuration)
        self._client.rest_client = Connections(configuration, liveness)
        self._client.user_agent = f"dapr-token-injector/{__version__}"
        self._renew = renew
        # Seconds by which the API server's clock was ahead of the local one at its last answer.
        self.skew_seconds = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()  # type: ignore[no-untyped-call] # the official client is typed in parts

    async def send(self, request: Request) -> Object:
        """Send a request and return its decoded answer.

        Raises:
            KubeError: The API server rejects the request or does not answer.
        """
        answer, _ = await self.send_for_warnings(request)
        return answer

    async def send_for_warnings(self, request: Request) -> tuple[Object, tuple[str, ...]]:
        """Send a request and return its decoded answer and the warnings of admission.

        Raises:
            KubeError: The API server rejects the request or does not answer.
        """
        response = await self.open(request)
        content = await _content(request, response)
        warnings = tuple(_warnings(response.headers.getall("Warning", [])))
        if request.expected is not None:
            return confirm.confirmed(request.operation, request.expected, response.status, content), warnings
        return decode_object(request.operation, content), warnings

    async def fetch(self, request: Request) -> bytes:
        """Send a request that reads, and return its answer as it is.

        Raises:
            KubeError: The API server rejects the request or does not answer.
        """
        return await _content(request, await self.open(request))

    async def connect(self, request: Request, protocol: str) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket at a request's path.

        Raises:
            KubeError: The API server rejects the request or does not answer.
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
            await self.send(request)  # the answer to a rejected handshake has no message; that to a plain request has
        except InvalidError as error:
            # "Upgrade request required" is not the cause.
            if error.refusal is None or "pgrade" not in error.refusal.message:
                raise
        raise error_from_status(request.operation, Refusal(status))

    async def open(self, request: Request) -> aiohttp.ClientResponse:
        """Send a request and return the response, which is a success; its body is not read yet.

        Raises:
            KubeError: The API server rejects the request or does not answer.
        """
        try:
            return await self._once(request)
        except UnauthorizedError:
            if self._renew is None:
                raise
        try:
            await self._renew()
        except Exception:  # noqa: BLE001 - as in `kubeconfig.from_file`
            raise UnauthorizedError(request.operation, why="the credentials expired and cannot be renewed") from None
        return await self._once(request)

    async def _once(self, request: Request) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=request.timeout_seconds)
        try:
            method, url, headers, body, _ = await self._client.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query),
                header_params={"Accept": request.accept, "Content-Type": request.content_type},
                body=request.body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure(request, error) from None
        self.skew_seconds = _skew(response.headers.get("Date", ""), time.time())
        if response.status < _FIRST_FAILURE:
            return response
        raise error_from_status(request.operation, _refusal(request, response, await _content(request, response)))


_FIRST_FAILURE: Final = 300
# Bytes: more than a page of the largest objects that clusters have.
_LONGEST_ANSWER: Final = 256 * 1024 * 1024


async def _content(request: Request, response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response, and release its connection.

    Raises:
        UnavailableError: The body breaks off, is not complete in time, or is too long.
    """
    parts: list[bytes] = []
    length = 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            length += len(part)
            if length > _LONGEST_ANSWER:
                raise UnavailableError(
                    request.operation, why="the answer is too long; is this a Kubernetes API server?"
                )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _failure(request, error) from None
    finally:
        response.release()
    return b"".join(parts)


def _skew(date: str, now: float) -> float:
    """Return by how many seconds a `Date` header is ahead of `now`; 0 below 2 s, because it has whole seconds."""
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
    """Return the query of a request without empty values."""
    return tuple((key, value) for key, value in values.items() if value)


def decode_object(operation: str, content: bytes) -> Object:
    """Return an answer's JSON object.

    Raises:
        UnavailableError: The answer is not a JSON object.
    """
    try:
        decoded = decode_any_depth(json.loads, content)
    except (ValueError, RecursionError):
        raise UnavailableError(operation, why="the answer is not JSON; is this a Kubernetes API server?") from None
    if not isinstance(decoded, dict):
        raise UnavailableError(operation, why="the answer is not an object; is this a Kubernetes API server?")
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
    """Return the error for the `Status` object in an event of a watch."""
    refusal = _refusal_of(status, _NO_STATUS, is_read=True)
    return error_from_status(operation, dataclasses.replace(refusal, message=api_messages.single_line(refusal.message)))


_NO_STATUS: Final = 500  # if the object has no code


def _refusal_of(status: Mapping[str, Any], code: int, *, is_read: bool) -> Refusal:
    """Return the refusal in a `Status` object, with its whole message; `code` if the object has none."""
    message = str(status.get("message", ""))[:_LONGEST_MESSAGE]
    number = status.get("code")
    number = number if isinstance(number, int) else code
    return Refusal(
        number,
        str(status.get("reason", "")),
        message,
        is_denial=api_messages.is_denial(number, message, is_read=is_read),
    )


# Characters of a message that are read: more than are ever shown.
_LONGEST_MESSAGE: Final = 4096


def _failure(request: Request, error: BaseException) -> KubeError:
    """Return the error for a call that the API server did not answer."""
    hidden = request.hidden or ()
    if isinstance(error, RefusedRedirectError):
        return RedirectedError(
            request.operation, why=redirects.explain(error.status, error.location, error.base, hidden)
        )
    if isinstance(error, aiohttp.ClientHttpProxyError) and redirects.is_redirect(error.status):
        location = error.headers.get("Location") if error.headers is not None else None
        explanation = redirects.explain(error.status, location, "", hidden)
        return RedirectedError(request.operation, why=f"the proxy is not the way to it: {explanation}")
    return UnavailableError(request.operation, why=why(error))


def why(error: BaseException) -> str:
    """Return why a connection failed, without the library's text, which may contain URLs with credentials."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the API server's certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"cannot speak TLS with {error.host}:{error.port}: something else listens there"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        # The loop's own text of a failed connect is the address.
        reason = os.strerror(number).lower() if number is not None and number > 0 else error_text(error.os_error)
        return f"cannot connect to {error.host}:{error.port} ({reason})"
    return f"the connection failed ({type(error).__name__})"
