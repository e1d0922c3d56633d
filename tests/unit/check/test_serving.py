"""The certificate that a Pod serves, read through a forwarded port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from injector.check.reader import ClusterReader
from injector.check.serving import served_certificate
from injector.kube.errors import UnavailableError
from tests.unit.check.certificates import forwarding, self_signed
from tests.unit.kube.test_redirects import api_at, served

if TYPE_CHECKING:
    from pathlib import Path

PORTS = [{"name": "ops", "containerPort": 8080}, {"name": "webhook", "containerPort": 10250}]


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "n", "name": "webhook-1"},
        "spec": {"nodeName": "worker-1", "containers": list(containers)},
    }


async def certificate(context: ssl.SSLContext | None, pod: dict[str, Any]) -> x509.Certificate:
    """Read it twice from a server with this context; None: a server that answers without TLS."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if context is None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server, served(forwarding(port)) as api_port, api_at(api_port) as api:
        reader = ClusterReader(api, None, 0)
        first = await served_certificate(reader, pod)
        assert await served_certificate(reader, pod) is first
        return first


def test_certificate_is_returned_unverified_from_one_handshake(tmp_path: Path) -> None:
    pair = self_signed(begins=0, ends=1, name="leaf")
    pair.write(tmp_path, "leaf")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.crt", tmp_path / "leaf.key")
    found = asyncio.run(certificate(context, pod({"name": "a", "ports": None}, {"ports": PORTS})))

    assert found == x509.load_pem_x509_certificate(pair.certificate)


@pytest.mark.parametrize(
    ("ports", "why"),
    [
        ([], "it has no port named webhook"),
        (None, "it has no port named webhook"),
        ([PORTS[0]], "it has no port named webhook"),
        (PORTS, "no TLS on port 10250 (SSLError)"),
    ],
)
def test_no_certificate_says_why(ports: list[dict[str, Any]] | None, why: str) -> None:
    with pytest.raises(UnavailableError) as raised:
        asyncio.run(certificate(None, pod({"ports": ports})))
    assert str(raised.value) == f"cannot read the certificate that pods/webhook-1 serves: {why}"
