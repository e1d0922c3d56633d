"""The injector's CAs and the leaf certificates that they sign. The time is an argument of all functions.

A CA is recognised by its certificate, so only the Secret needs to be stored: a CA of the injector is self-signed, is
allowed to sign, and has the organization `dapr-token-injector`. All other certificates belong to other owners.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from injector.config.shapes import KeyAlgorithm
from injector.webhook.certs.pair import CertificateError, ServingPair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

ORGANIZATION: Final = "dapr-token-injector"
# Clocks of nodes differ; a client whose clock is behind must not see a certificate that is not valid yet.
BACKDATE: Final = timedelta(minutes=5)
# If the clock was set back by more than this, certificates are created again. NTP regularly sets it back by less.
STEPPED_BACK: Final = timedelta(minutes=1)

PrivateKey: TypeAlias = "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey"


@dataclass(frozen=True, slots=True)
class Anchor:
    """The certificate of a CA of the injector, as in a caBundle."""

    pem: bytes
    fingerprint: str  # SHA-256 of the DER, in hexadecimal
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA with its private key."""

    anchor: Anchor
    key: bytes = field(repr=False)  # PEM


@dataclass(frozen=True, slots=True)
class Leaf:
    """A serving pair that a CA of the injector signed."""

    pair: ServingPair
    issuer: Anchor
    issued: datetime

    def is_due(self, at: datetime) -> bool:
        """Whether two thirds of its lifetime have passed, or the clock was set back to before its start."""
        return not self.issued - STEPPED_BACK <= at < self.issued + self._life * 2 / 3

    def is_ending(self, at: datetime) -> bool:
        """Whether at most a tenth of its lifetime is left, or the clock was set back to before its start."""
        return not self.issued - STEPPED_BACK <= at < self.issued + self._life * 9 / 10

    @property
    def _life(self) -> timedelta:
        return self.pair.expires - self.issued


def make_authority(algorithm: KeyAlgorithm, lifetime: timedelta, at: datetime) -> Authority:
    """Return a new CA. Call it in a thread: generating an RSA key takes 0.1 s and more."""
    key, at = _new_key(algorithm), at.replace(microsecond=0)
    serial = x509.random_serial_number()
    # Each CA has a unique name, so that only one chain can be built for each leaf.
    name = _name(f"{ORGANIZATION} CA {at:%Y-%m-%d} {serial % 2**32:08x}")
    builder = _builder(name, name, key, at, at + lifetime).serial_number(serial)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(_anchor(certificate), _pem(key))


def issue_leaf(
    authority: Authority, names: Sequence[str], algorithm: KeyAlgorithm, lifetime: timedelta, at: datetime
) -> Leaf:
    """Return a leaf for DNS names and IP addresses; it expires no later than its CA."""
    key, at = _new_key(algorithm), at.replace(microsecond=0)
    issuer_key = _read_key(authority.key)
    issuer = x509.load_pem_x509_certificate(authority.anchor.pem)
    until = min(at + lifetime, authority.anchor.expires)
    certificate = (
        _builder(_name(f"{ORGANIZATION} webhook"), issuer.subject, key, at, until)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    pair = ServingPair(
        chain=certificate.public_bytes(Encoding.PEM),
        key=_pem(key),
        expires=certificate.not_valid_after_utc,
        names=tuple(names),
    )
    return Leaf(pair, authority.anchor, at)


def parse_anchors(pem: bytes) -> tuple[Anchor, ...]:
    """Return the certificates in a PEM text.

    Raises:
        CertificateError: It has no certificate, one that cannot be read, or one that is not a CA of the injector.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(["contains no readable PEM certificate"]) from None
    if not all(map(is_ours, certificates)):
        raise CertificateError(["contains a certificate that is not from a CA of the injector"])
    return tuple(map(_anchor, certificates))


def parse_authority(certificate: bytes, key: bytes) -> Authority:
    """Return the CA in two PEM texts.

    Raises:
        CertificateError: One of them cannot be read, they do not match, or the CA is not one of the injector.
    """
    anchors = parse_anchors(certificate)
    if len(anchors) != 1:
        raise CertificateError(["contains more than one certificate"])
    secret = _read_key(key)
    if not _signs_for(secret, x509.load_pem_x509_certificate(anchors[0].pem)):
        raise CertificateError(["contains a certificate that does not match the private key"])
    return Authority(anchors[0], _pem(secret))


def known_anchors(pem: bytes) -> tuple[tuple[Anchor, ...], bool]:
    """Return the CAs of the injector in a bundle, and whether it contains nothing else."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return (), False
    ours = tuple(_anchor(certificate) for certificate in certificates if is_ours(certificate))
    return ours, len(ours) == len(certificates)


def is_ours(certificate: x509.Certificate) -> bool:
    """Whether a certificate is a CA of the injector."""
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if [attribute.value for attribute in organizations] != [ORGANIZATION]:
        return False
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(certificate)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return constraints.ca


def _anchor(certificate: x509.Certificate) -> Anchor:
    return Anchor(
        pem=certificate.public_bytes(Encoding.PEM),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        issued=certificate.not_valid_before_utc + BACKDATE,
        expires=certificate.not_valid_after_utc,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .not_valid_before(since - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        # TLS 1.2 with an RSA key may require it; TLS 1.3 never does.
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(algorithm: KeyAlgorithm) -> PrivateKey:
    if algorithm is KeyAlgorithm.RSA_2048:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _read_key(pem: bytes) -> PrivateKey:
    """Return a key without checking it: the library's own checks of an RSA key block the process for 40 ms."""
    try:
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except Exception:  # noqa: BLE001 - the library raises several types; none may show the bytes of the key
        key = None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CertificateError(["contains no readable ECDSA or RSA key in PEM"])
    return key


def _signs_for(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Whether a key belongs to a certificate: signs and verifies a short text, which takes up to 2 ms."""
    public = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPrivateKey) and isinstance(public, rsa.RSAPublicKey):
            public.verify(
                key.sign(_TRIAL, padding.PKCS1v15(), hashes.SHA256()), _TRIAL, padding.PKCS1v15(), hashes.SHA256()
            )
            return True
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(key.sign(_TRIAL, ec.ECDSA(hashes.SHA256())), _TRIAL, ec.ECDSA(hashes.SHA256()))
            return True
    except Exception:  # noqa: BLE001 - an unchecked key may raise any error; none may show its bytes
        return False
    return False


_TRIAL: Final = b"dapr-token-injector"


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
