"""Reads the certificate that a Pod of the webhook serves, by a TLS handshake through the API server."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final

from cryptography import x509

from injector.kube.errors import UnavailableError
from injector.kube.portforward import forwarded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from injector.check.reader import ClusterReader
    from injector.kube.client import Api
    from injector.kube.resources import Object

    # Opens a connection with the arguments `ssl` and `server_hostname`.
    Connect: TypeAlias = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

# The port of the container that the API server calls: charts/dapr-token-injector/templates/webhook/deployment.yaml.
_PORT: Final = "webhook"
HANDSHAKE_SECONDS: Final = 10.0
MOST_HANDSHAKES: Final = 20  # of a check, one for each Pod


async def served_certificate(reader: ClusterReader, pod: Object) -> x509.Certificate:
    """Return the certificate that a Pod serves; not verified. There is one handshake for each Pod.

    Raises:
        UnavailableError: The Pod has no port named `webhook`, it cannot be reached, or what answers does not use TLS.
    """
    meta = pod["metadata"]
    key = ("served certificate", meta["namespace"], meta["name"])
    return await reader.once(key, lambda: _handshake(reader.api, pod))


async def unverified(connect: Connect) -> x509.Certificate:
    """Return the certificate of a TLS handshake, which may be untrusted; nothing is sent.

    Raises:
        OSError: The connection fails, or is not TLS.
        ValueError: The certificate cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await connect(ssl=context, server_hostname="")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(certificate)


async def _handshake(api: Api, pod: Object) -> x509.Certificate:
    operation = f"read the certificate that pods/{pod['metadata']['name']} serves"
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    port = next((int(one["containerPort"]) for one in ports if one.get("name") == _PORT), None)
    if port is None:
        raise UnavailableError(operation, why=f"it has no port named {_PORT}")
    async with forwarded(api, pod, port) as (path, forward):
        try:
            return await unverified(
                partial(asyncio.open_unix_connection, path, ssl_handshake_timeout=HANDSHAKE_SECONDS)
            )
        except (OSError, ValueError) as error:
            why = forward.trouble() or f"no TLS on port {port} ({type(error).__name__})"
            raise UnavailableError(operation, why=why) from None
