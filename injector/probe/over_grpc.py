"""Calls `GetMetadata` over gRPC. The empty request needs no generated code."""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

# The library logs to stderr: failures, which this module reports, and with GRPC_TRACE every header, tokens included.
os.environ.pop("GRPC_TRACE", None)
os.environ["GRPC_VERBOSITY"] = "NONE"

import grpc  # type: ignore[import-untyped] # it brings no types

from injector.core import names
from injector.core.exposure import NOTHING_LISTENS, CallResult
from injector.probe.target import NoAnswerError

if TYPE_CHECKING:
    from injector.core.token import Token
    from injector.probe.target import ProbeTarget

_METHOD: Final = "/dapr.proto.runtime.v1.Dapr/GetMetadata"
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # a token must not reach a proxy from an environment variable
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # The message is not read, and the limit above applies to its compressed size.
    ("grpc.per_message_decompression", 0),
)
# The status message is "Unauthorized"; daprd's own text is in its details, a google.rpc message.
_DETAILS: Final = "grpc-status-details-bin"
_REDIRECT: Final = re.compile(r"received http2 header with status: (3\d\d)")
_REFUSALS: Final = (b"missing api token", b"api token mismatch", b"missing metadata in request")


async def ask(target: ProbeTarget, token: Token | None, *, timeout_seconds: float) -> CallResult:
    """Request the metadata.

    Raises:
        NoAnswerError: There was no answer, or not from daprd.
    """
    metadata = () if token is None else ((names.API_TOKEN_HEADER, token.reveal()),)
    async with _channel(target) as channel:
        call = channel.unary_unary(_METHOD, request_serializer=bytes, response_deserializer=bytes)
        try:
            await call(b"", metadata=metadata, timeout=timeout_seconds, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            return _evaluate(target, error, timeout_seconds)
    return CallResult.SERVED


def _channel(target: ProbeTarget) -> grpc.aio.Channel:
    options = (*_OPTIONS, ("grpc.default_authority", target.authority))
    if target.tls is None:
        return grpc.aio.insecure_channel(_address(target), options)
    # The certificate is issued for a name, not for an address.
    overridden = (*options, ("grpc.ssl_target_name_override", target.name))
    return grpc.aio.secure_channel(_address(target), grpc.ssl_channel_credentials(target.ca_certificates), overridden)


def _address(target: ProbeTarget) -> str:
    """Return the address in gRPC's syntax: https://github.com/grpc/grpc/blob/master/doc/naming.md."""
    if target.socket:
        return f"unix:{target.socket}"
    if isinstance(target.address, IPv6Address):
        return f"ipv6:[{quote(str(target.address), safe=':')}]:{target.port}"
    return f"ipv4:{target.address}:{target.port}"


def _evaluate(target: ProbeTarget, error: grpc.aio.AioRpcError, timeout_seconds: float) -> CallResult:
    code, details = error.code(), (error.details() or "").lower()
    reported = dict(error.trailing_metadata() or ()).get(_DETAILS, b"")
    redirect = _REDIRECT.fullmatch(details)
    if redirect:  # the library neither follows redirects nor reports their target
        raise NoAnswerError(f"the server redirects (status {redirect[1]}), and no redirect is followed")
    if code is grpc.StatusCode.UNAUTHENTICATED and any(words in reported for words in _REFUSALS):
        return CallResult.REFUSED
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            raise NoAnswerError(f"no answer within {timeout_seconds:g} s")
        case grpc.StatusCode.UNIMPLEMENTED:
            raise NoAnswerError("not daprd, or its list of allowed APIs does not include metadata")
        case grpc.StatusCode.UNAVAILABLE:
            raise NoAnswerError(target.trouble() or _unavailable(details, with_tls=target.tls is not None))
        case _:
            raise NoAnswerError(f"not daprd (gRPC status {code.name})")


def _unavailable(details: str, *, with_tls: bool) -> str:
    """Return the reason for a failed connection from the library's message."""
    if "connection refused" in details:
        return NOTHING_LISTENS
    if "certificate_verify_failed" in details or "hostname verification" in details:
        return "TLS: the certificate is not trusted"
    if with_tls and ("ssl" in details or "tls" in details or "handshake" in details):
        return "TLS: the handshake failed; is this a port without TLS?"
    if "no route" in details or "unreachable" in details:
        return "no route to host"
    return "the server does not speak gRPC"
