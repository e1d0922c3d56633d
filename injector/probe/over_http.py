"""Questions over HTTP: one request on a connection of its own, its answer read with bounds on size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httptools

from injector.core import names
from injector.core.exposure import Answer
from injector.probe.place import NoAnswerError, why

if TYPE_CHECKING:
    from injector.core.token import Token
    from injector.probe.place import Place

METADATA: Final = "/v1.0/metadata"
METRICS: Final = "/metrics"
PROFILES: Final = "/debug/pprof/cmdline"
# No route of daprd. Its API hands what it does not know to service invocation, which misses an app id and says so in
# JSON; its public port has nothing but health and metadata. Nothing is changed by either.
_NO_ROUTE: Final = "/v1.0/dapr-token-injector-probe"
_MOST: Final = 1024 * 1024  # bytes; metadata of a thousand components is less
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_REFUSAL: Final = b"invalid api token"


class _Response:
    """What httptools tells of an answer."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.is_complete = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.is_complete = True

    @property
    def status(self) -> int:
        code: int = self.parser.get_status_code()
        return code


async def ask(place: Place, token: Token | None, *, timeout_seconds: float) -> Answer:
    """Ask for the metadata, which needs the token (health does not).

    Raises:
        NoAnswerError: There was no answer, or none of daprd's.
    """
    response = await get(place, METADATA, token, timeout_seconds=timeout_seconds)
    body = bytes(response.body)
    if response.status == _UNAUTHORIZED and body.startswith(_REFUSAL):
        return Answer.REFUSED
    # An API that an allow list has cut down answers with an error of its own: the token was taken all the same.
    if (response.status == _OK and b"runtimeversion" in body.lower()) or b'"errorCode":"ERR_' in body:
        return Answer.SERVED
    raise NoAnswerError(f"what answers there is not daprd (status {response.status} for {METADATA})")


async def is_public(place: Place, *, timeout_seconds: float) -> bool:
    """Whether a port that serves metadata to everyone is daprd's public one, and not its API."""
    response = await get(place, _NO_ROUTE, None, timeout_seconds=timeout_seconds)
    return b"errorCode" not in response.body


async def serves(place: Place, path: str, *, timeout_seconds: float) -> bool:
    """Whether a path is served to a caller without a token; false also when nothing answers."""
    try:
        response = await get(place, path, None, timeout_seconds=timeout_seconds)
    except NoAnswerError:
        return False
    return response.status == _OK


async def get(place: Place, path: str, token: Token | None, *, timeout_seconds: float) -> _Response:
    """One request.

    Raises:
        NoAnswerError: There was no answer of HTTP.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _exchange(place, path, token)
    except httptools.HttpParserError:
        raise NoAnswerError("what answers there does not speak HTTP") from None
    except (OSError, EOFError) as error:  # asyncio's timeouts and TLS errors are OSErrors
        raise NoAnswerError(place.trouble() or why(error, timeout_seconds=timeout_seconds)) from None


async def _exchange(place: Place, path: str, token: Token | None) -> _Response:
    reader, writer = await place.open()
    try:
        fields = [f"GET {path} HTTP/1.1", f"Host: {place.authority}", "Connection: close"]
        if token is not None:
            fields.append(f"{names.API_TOKEN_HEADER}: {token.reveal()}")
        writer.write("\r\n".join((*fields, "", "")).encode())
        response = _Response()
        while not response.is_complete and len(response.body) < _MOST:
            piece = await reader.read(65536)
            if not piece:
                break
            response.parser.feed_data(piece)
        if not response.status:
            raise ConnectionResetError
        return response
    finally:
        writer.close()
