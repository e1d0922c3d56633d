"""Certificates of any lifetime, and a kubelet that forwards a Pod's port to a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.controlplane.pki import Pair, private_pem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def self_signed(*, begins: int, ends: int, name: str = "dapr-token-injector") -> Pair:
    """Return a certificate that is valid between two times, in seconds since 1970."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(dt.datetime.fromtimestamp(begins, dt.UTC))
    builder = builder.not_valid_after(dt.datetime.fromtimestamp(ends, dt.UTC))
    certificate = builder.sign(key, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def forwarding(port: int) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that forwards websockets to a port on loopback."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        for greeting in (b"\0\0\0", b"\1\0\0"):
            await socket.send_bytes(greeting)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def downward() -> None:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65536):
                    await socket.send_bytes(b"\0" + piece)
            await socket.close()

        down = asyncio.ensure_future(downward())
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data[1:])
        writer.close()
        down.cancel()
        return socket

    return handle
