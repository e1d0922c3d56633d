"""Reads bundles of certificates and connects with them as the API server, a Go program, does."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

if TYPE_CHECKING:
    from collections.abc import Iterable

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"


def readable(bundle: bytes) -> list[x509.Certificate]:
    """Return the certificates in a PEM text that can be read. As in Go, others are skipped."""
    found = []
    for part in bundle.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        try:
            found.append(x509.load_pem_x509_certificate(_BEGIN + body + end))
        except ValueError:
            continue
    return found


def seconds_valid(certificate: x509.Certificate) -> tuple[int, int]:
    """Return begin and end of a certificate's validity in Unix time."""
    return int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp())


def verifying_context(certificates: Iterable[x509.Certificate]) -> ssl.SSLContext:
    """Return a context that trusts these certificates, or those of the system if there are none.

    As in Go, each of them ends a chain, only alternative names are compared, and the strict rules of newer versions of
    Python do not apply.
    """
    pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)
    context = ssl.create_default_context(cadata=pem or None)
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
