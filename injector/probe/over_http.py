"""Sends HTTP requests: each on its own connection, with limits on the size and time of the response."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

import httptools

from injector.core import names
from injector.core.exposure import CallResult
from injector.kube import redirects
from injector.probe.target import NoAnswerError, failure_text

if TYPE_CHECKING:
    from injector.core.token import Token
    from injector.probe.target import ProbeTarget

METADATA: Final = "/v1.0/metadata"
METRICS: Final = "/metrics"
PROFILES: Final = "/debug/pprof/cmdline"
# Paths that the API port serves and the public port does not: it has only health and metadata. The API passes the first
# one, which is not a route, to service invocation, which reports a missing app id. If a list of allowed APIs excludes
# service invocation, one of the others still exists, if only for another method. None of these requests changes
# anything.
_ONLY_API: Final = (
    "/v1.0/dapr-token-injector-probe",
    "/v1.0/state/dapr-token-injector-probe",
    "/v1.0/publish/dapr-token-injector-probe/probe",
    "/v1.0/bindings/dapr-token-injector-probe",
    "/v1.0/secrets/dapr-token-injector-probe/probe",
    "/v1.0/actors/dapr-token-injector-probe/probe/state",
)
_MAX_BYTES: Final = 1024 * 1024  # of a response with its headers; metadata of a thousand components is smaller
_CHUNK_BYTES: Final = 65536  # bytes
_FINAL: Final = 200  # responses with a lower status are followed by another one
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_NOT_FOR_ALL: Final = frozenset({_UNAUTHORIZED, 403, _NOT_FOUND})
_REFUSAL: Final = b"invalid api token"
_TLS_ALERT: Final = b"\x15\x03"


class _Response:
    """Collects a response from httptools."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.is_complete = False
        self.is_shared_across_origins = False
        self.location: str | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"vary" and b"origin" in value.lower():
            self.is_shared_across_origins = True
        if name.lower() == b"location" and self.location is None:
            self.location = value.decode("latin-1")

    def on_body(self, chunk: bytes) -> None:
        self.body += chunk

    def on_message_complete(self) -> None:
        self.is_complete = self.status >= _FINAL

    @property
    def status(self) -> int:
        code: int = self.parser.get_status_code()
        return code


async def ask(target: ProbeTarget, token: Token | None, *, timeout_seconds: float) -> CallResult:
    """Request the metadata, which requires the token (health does not).

    Raises:
        NoAnswerError: There was no answer, or not from daprd.
    """
    response = await get(target, METADATA, token, timeout_seconds=timeout_seconds)
    body = bytes(response.body)
    if response.status == _UNAUTHORIZED and body.startswith(_REFUSAL):
        return CallResult.REFUSED
    # If a list of allowed APIs excludes metadata, the API accepts the token and answers with an error of its own.
    if (response.status == _OK and b"runtimeversion" in body.lower()) or b'"errorCode":"ERR_' in body:
        return CallResult.SERVED
    raise NoAnswerError(f"not daprd (status {response.status} for {METADATA})")


async def is_public(target: ProbeTarget, *, timeout_seconds: float) -> bool:
    """Return whether a port that serves metadata without a token is daprd's public port and not its API.

    The public port serves only two paths and no CORS headers.

    Raises:
        NoAnswerError: A request got no answer.
    """
    for path in _ONLY_API:
        response = await get(target, path, None, timeout_seconds=timeout_seconds)
        if response.status != _NOT_FOUND or response.is_shared_across_origins or b"errorCode" in response.body:
            return False
    return True


async def is_served(target: ProbeTarget, path: str, *, timeout_seconds: float) -> bool:
    """Return whether a path is served without a token.

    Raises:
        NoAnswerError: There was no answer, or it is neither a success nor a rejection.
    """
    response = await get(target, path, None, timeout_seconds=timeout_seconds)
    if response.status != _OK and response.status not in _NOT_FOR_ALL:
        raise NoAnswerError(f"neither served nor refused (status {response.status} for {path})")
    return response.status == _OK


async def get(target: ProbeTarget, path: str, token: Token | None, *, timeout_seconds: float) -> _Response:
    """Send one request. Redirects are rejected: the answer must come from the target itself.

    Raises:
        NoAnswerError: There was no HTTP response, or it is a redirect.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            response = await _exchange(target, path, token)
    except httptools.HttpParserError:
        raise NoAnswerError("the server does not speak HTTP") from None
    except (OSError, EOFError) as error:  # asyncio's timeouts and TLS errors are OSErrors
        raise NoAnswerError(target.trouble() or failure_text(error, timeout_seconds=timeout_seconds)) from None
    if redirects.is_redirect(response.status):
        asked = f"{'http' if target.tls is None else 'https'}://{target.authority}{path}"
        hidden = () if token is None else (base64.b64encode(token.reveal().encode()).decode(),)
        raise NoAnswerError(redirects.explain(response.status, response.location, asked, hidden))
    return response


async def _exchange(target: ProbeTarget, path: str, token: Token | None) -> _Response:
    reader, writer = await target.open()
    try:
        fields = [f"GET {path} HTTP/1.1", f"Host: {target.authority}", "Connection: close"]
        if token is not None:
            fields.append(f"{names.API_TOKEN_HEADER}: {token.reveal()}")
        writer.write("\r\n".join((*fields, "", "")).encode())
        response = _Response()
        received = 0
        while not response.is_complete and received < _MAX_BYTES:
            chunk = await reader.read(_CHUNK_BYTES)
            if not chunk:
                break
            if not received and chunk.startswith(_TLS_ALERT):
                raise NoAnswerError("the server speaks TLS; use https:// or grpcs://")
            received += len(chunk)
            response.parser.feed_data(chunk)
        if response.status < _FINAL:
            if received >= _MAX_BYTES:
                raise NoAnswerError("the response does not end")
            raise ConnectionResetError
        return response
    finally:
        writer.close()
