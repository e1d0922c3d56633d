"""Throwaway certificate authorities: P-256 keys, certificates for a day.

An `Authority` signs the control plane's certificates or a webhook's. Nothing here outlives the run, so
there are no serial files, revocations or renewals.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.controlplane.workspace import write_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LIFETIME = dt.timedelta(days=1)
_NEW = dt.timedelta()
_CLOCK_SKEW = dt.timedelta(minutes=5)
# Python 3.13 and newer verify strictly: a CA without these is rejected.
_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `name`.crt and `name`.key (0600) into `folder`; return their paths."""
        return (
            write_private(folder / f"{name}.crt", self.certificate),
            write_private(folder / f"{name}.key", self.key),
        )


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority in memory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, common_name: str, *, age: dt.timedelta = _NEW) -> Authority:
        """Make a self-signed authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name)
        builder = _builder(name, name, key.public_key(), age)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_CA_USAGE, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, *, hosts: Sequence[str], age: dt.timedelta = _NEW) -> Pair:
        """Sign a serving certificate for IP addresses and DNS names; it expires at the age of a day."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue(_name(hosts[0]), (names, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])), age)

    def issue_client(self, *, user: str, group: str | None = None) -> Pair:
        """Sign a client certificate: Kubernetes reads `user` from its CN and `group` from its O."""
        return self._issue(_name(user, group), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),))

    def _issue(self, subject: x509.Name, extensions: Sequence[x509.ExtensionType], age: dt.timedelta = _NEW) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self.certificate.subject, key.public_key(), age)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension in (*extensions, issuer):
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Encode a private key, unencrypted."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, age: dt.timedelta
) -> x509.CertificateBuilder:
    begins = dt.datetime.now(dt.UTC) - age
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - _CLOCK_SKEW)
        .not_valid_after(begins + _LIFETIME)
    )


def _name(common_name: str, organization: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
