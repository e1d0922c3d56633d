from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.http.certificates import Issuer, key_pem, new_key
from tests.unit.probe.servers import MARKER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """TLS context of a server for localhost, and the file with its CA."""
    issuer, key = Issuer(), new_key()
    (tmp_path / "chain").write_bytes(issuer.issue(key))
    (tmp_path / "key").write_bytes(key_pem(key))
    (tmp_path / "ca").write_bytes(issuer.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    return context, str(tmp_path / "ca")


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(MARKER)
    path.chmod(0o600)
    return str(path)
