"""A handshake in memory, and a pair to make it with."""

from __future__ import annotations

import ssl

from tests.http.certificates import Issuer, new_key

ISSUER = Issuer()
KEY = new_key()
CHAIN = ISSUER.issue(KEY)


def handshake(context: ssl.SSLContext, trusted: bytes | None = None, name: str = "localhost") -> bytes:
    """The leaf that a handshake with `context` shows; by default the client trusts ISSUER."""
    trusting = ssl.create_default_context(cadata=(trusted or ISSUER.pem).decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found
