"""Questions over HTTP: one request on a connection of its own, its answer read with bounds on size and time."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

import httptools

from injector.core import names
from injector.core.exposure import Answer
from injector.kube import redirects
from injector.probe.target import NoAnswerError, error_text

if TYPE_CHECKING:
    from injector.core.token import Token
    from injector.probe.target import ProbeTarget

METADATA: Final = "/v1.0/metadata"
METRICS: Final = "/metrics"
PROFILES: Final = "/debug/pprof/cmdline"
# What the public port has not, for it has nothing but health and metadata. The API hands the first, which is no route,
# to service invocation, which misses an app id. Where a list of allowed APIs leaves that out, one of the others is
# there still, if only for another method. Nothing is changed by any.
_ONLY_API: Final = (
    "/v1.0/dapr-token-injector-probe",
    "/v1.0/state/dapr-token-injector-probe",
    "/v1.0/publish/dapr-token-injector-probe/probe",
    "/v1.0/bindings/dapr-token-injector-probe",
    "/v1.0/secrets/dapr-token-injector-probe/probe",
    "/v1.0/actors/dapr-token-injector-probe/probe/state",
)
_MAX_BYTES: Final = 1024 * 1024  # bytes of an answer, headers and all; metadata of a thousand components is less
_CHUNK_BYTES: Final = 65536  # bytes
_FINAL: Final = 200  # of the answers with a lesser status, another one follows
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_NOT_FOR_ALL: Final = frozenset({_UNAUTHORIZED, 403, _NOT_FOUND})
_REFUSAL: Final = b"invalid api token"
_TLS_ALERT: Final = b"\x15\x03"


class _Response:
    """What httptools tells of an answer."""

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


async def ask(target: ProbeTarget, token: Token | None, *, timeout_seconds: float) -> Answer:
    """Ask for the metadata, which needs the token (health does not).

    Raises:
        NoAnswerError: There was no answer, or none of daprd's.
    """
    response = await get(target, METADATA, token, timeout_seconds=timeout_seconds)
    body = bytes(response.body)
    if response.status == _UNAUTHORIZED and body.startswith(_REFUSAL):
        return Answer.REFUSED
    # An API that an allow list has cut down answers with an error of its own: the token was taken all the same.
    if (response.status == _OK and b"runtimeversion" in body.lower()) or b'"errorCode":"ERR_' in body:
        return Answer.SERVED
    raise NoAnswerError(f"what answers there is not daprd (status {response.status} for {METADATA})")


async def is_public(target: ProbeTarget, *, timeout_seconds: float) -> bool:
    """Whether a port that serves metadata to everyone is daprd's public one, and not its API.

    The public port knows no path but two, and nothing of other origins.

    Raises:
        NoAnswerError: A question got no answer.
    """
    for path in _ONLY_API:
        response = await get(target, path, None, timeout_seconds=timeout_seconds)
        if response.status != _NOT_FOUND or response.is_shared_across_origins or b"errorCode" in response.body:
            return False
    return True


async def is_served(target: ProbeTarget, path: str, *, timeout_seconds: float) -> bool:
    """Whether a path is served to a caller without a token.

    Raises:
        NoAnswerError: There was no answer, or one that says neither.
    """
    response = await get(target, path, None, timeout_seconds=timeout_seconds)
    if response.status != _OK and response.status not in _NOT_FOR_ALL:
        raise NoAnswerError(f"neither served nor refused (status {response.status} for {path})")
    return response.status == _OK


async def get(target: ProbeTarget, path: str, token: Token | None, *, timeout_seconds: float) -> _Response:
    """One request. A redirect is refused: who was asked is the target, and no other server answers for it.

    Raises:
        NoAnswerError: There was no answer of HTTP, or it is a redirect.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            response = await _exchange(target, path, token)
    except _TLSError:
        raise NoAnswerError("what answers there speaks TLS; write https:// or grpcs://") from None
    except _EndlessError:
        raise NoAnswerError("what answers there does not come to an end") from None
    except httptools.HttpParserError:
        raise NoAnswerError("what answers there does not speak HTTP") from None
    except (OSError, EOFError) as error:  # asyncio's timeouts and TLS errors are OSErrors
        raise NoAnswerError(target.trouble() or error_text(error, timeout_seconds=timeout_seconds)) from None
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
                raise _TLSError
            received += len(chunk)
            response.parser.feed_data(chunk)
        if response.status < _FINAL:
            raise _EndlessError if received >= _MAX_BYTES else ConnectionResetError
        return response
    finally:
        writer.close()


class _TLSError(Exception):
    """The peer does not understand us, and says so in TLS."""


class _EndlessError(Exception):
    """The peer announces an answer, again and again."""
