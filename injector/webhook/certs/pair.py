"""The serving pair: validated before use, loaded from the validated bytes, replaced while the server runs.

If the key does not match, `ssl.SSLContext.load_cert_chain` raises, and the context then rejects all handshakes. So a
new pair is read once, validated by `parse_pair` (a pure function of bytes and a time), tested in a temporary context,
and only then loaded into the live context. Open connections keep their session; new handshakes use the new pair.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from injector.core.errors import InjectorError
from injector.files import error_text
from injector.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

Now = Callable[[], datetime]


class CertificateError(InjectorError):
    """A pair is invalid. `problems` lists all reasons; none of them quotes the key."""

    reason = "bad-certificate"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ServingPair:
    """A certificate chain and its key, valid at the time when they were parsed."""

    chain: bytes  # PEM, leaf first
    key: bytes = field(repr=False)  # PEM
    expires: datetime
    names: tuple[str, ...]  # subject alternative names

    def is_valid(self, at: datetime) -> bool:
        """Whether the leaf has not expired."""
        return at < self.expires


def parse_pair(chain: bytes, key: bytes, at: datetime) -> ServingPair:
    """Return the pair in two PEM texts, if it is valid at `at`.

    Raises:
        CertificateError: With all problems: unreadable, key of another certificate, expired, not yet valid, no names.
    """
    problems: list[str] = []
    certificates = _certificates(chain, problems)
    secret = _key(key, problems)
    names: tuple[str, ...] = ()
    for leaf in certificates[:1]:
        names = _names(leaf)
        problems.extend(_faults(leaf, names, at))
        if secret is not None and _encoded(secret.public_key()) != _encoded(leaf.public_key()):
            problems.append("the private key does not match the certificate")
    if problems or secret is None:
        raise CertificateError(problems)
    # Encoded again from the parsed values: a file may have other contents in addition, and OpenSSL would use the first
    # that it finds.
    return ServingPair(
        chain=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates),
        key=secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        expires=certificates[0].not_valid_after_utc,
        names=names,
    )


def read_pair(chain_file: Path, key_file: Path, at: datetime) -> ServingPair:
    """Return the pair in two files.

    Raises:
        CertificateError: A file cannot be read, or the pair is invalid; see `parse_pair`.
    """
    problems: list[str] = []
    chain = _read(chain_file, "certificate", problems)
    key = _read(key_file, "private key", problems)
    if problems:
        raise CertificateError(problems)
    return parse_pair(chain, key, at)


def server_context(minimum: ssl.TLSVersion, pair: ServingPair | None = None) -> ssl.SSLContext:
    """Return a context that serves `pair`. Without a pair it rejects all handshakes until one is loaded.

    Raises:
        CertificateError: OpenSSL rejects the pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum
    context.set_alpn_protocols(["http/1.1"])
    # An API server never resumes a session, so session tickets would be of no use.
    context.num_tickets = 0
    if pair is not None:
        load(context, pair)
    return context


def load(context: ssl.SSLContext, pair: ServingPair) -> None:
    """Serve `pair` in `context` from the next handshake. If OpenSSL rejects the pair, the context does not change.

    Raises:
        CertificateError: OpenSSL rejects the pair, for example because the key is too small for its security level.
    """
    with _in_memory(pair) as path:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        except ssl.SSLError as error:
            raise CertificateError([f"OpenSSL rejects the pair: {error.reason or 'unknown reason'}"]) from None
        context.load_cert_chain(path)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def _certificates(chain: bytes, problems: list[str]) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(chain)
    except ValueError:
        problems.append("the certificate file contains no readable PEM certificate")
        return []


def _key(key: bytes, problems: list[str]) -> PrivateKeyTypes | None:
    try:
        return load_pem_private_key(key, password=None)
    except TypeError:
        problems.append("the private key is encrypted; use an unencrypted PEM key")
    except Exception:  # noqa: BLE001 - the library raises several types; none may show the bytes of the key
        problems.append("the private key file contains no readable PEM key")
    return None


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def _faults(leaf: x509.Certificate, names: tuple[str, ...], at: datetime) -> Iterator[str]:
    if at >= leaf.not_valid_after_utc:
        yield f"the certificate expired at {leaf.not_valid_after_utc.isoformat()}"
    if at < leaf.not_valid_before_utc:
        yield f"the certificate is not valid before {leaf.not_valid_before_utc.isoformat()}"
    if not names:
        yield "the certificate has no subject alternative name, which API servers require"


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# Bytes. Much more than a chain and a key; limits the memory if a path is wrong.
_MAX_PEM: Final = 1024 * 1024


def _read(path: Path, what: str, problems: list[str]) -> bytes:
    try:
        return read_regular(path, _MAX_PEM)
    except OSError as error:
        problems.append(f"the {what} file {path} cannot be read: {error_text(error)}")
        return b""


@contextlib.contextmanager
def _in_memory(pair: ServingPair) -> Iterator[str]:
    """Provide the validated bytes as a temporary file in memory, because OpenSSL can only read files."""
    descriptor = os.memfd_create("serving-pair", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o400)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pair.chain + pair.key)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
