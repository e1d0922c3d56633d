"""Serving pairs for tests: good ones, and each kind of bad one."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
HOSTS = ("localhost", "127.0.0.1")


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that we recommend."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey, protection: KeySerializationEncryption | None = None) -> bytes:
    """PEM of a key, in plain unless a protection is given."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption())


@dataclass(frozen=True)
class Issuer:
    """A certificate authority in memory."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = _builder(name, self.key, NOW - DAY, NOW + 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        return (
            builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )

    def issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        hosts: tuple[str, ...] = HOSTS,
        since: dt.datetime = NOW - DAY,
        until: dt.datetime = NOW + DAY,
    ) -> bytes:
        """PEM of a serving certificate for `key`."""
        builder = _builder(x509.Name([]), key, since, until)
        if hosts:
            names = x509.SubjectAlternativeName([_general(host) for host in hosts])
            builder = builder.add_extension(names, critical=True)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, since: dt.datetime, until: dt.datetime
) -> x509.CertificateBuilder:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=since,
        not_valid_after=until,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True)
class Files:
    """A serving pair on disk, as `serve` reads it."""

    chain: Path
    key: Path

    @classmethod
    def write(cls, folder: Path, chain: bytes, key: bytes) -> Files:
        """Write both files."""
        files = cls(folder / "tls.crt", folder / "tls.key")
        files.replace(chain, key)
        return files

    def replace(self, chain: bytes, key: bytes) -> None:
        """Put new files in place of the old ones, as a volume's update does: never half of one."""
        for path, content in ((self.chain, chain), (self.key, key)):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)
