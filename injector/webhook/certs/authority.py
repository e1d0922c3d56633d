"""Certificate authorities of our own and the leaves that they sign: X.509 made from values, the time an argument.

An authority is recognised by what it says of itself, so that nothing beside the Secret needs to be remembered: it is
self-signed, it may sign, and its organization is ours. Whatever is not so belongs to somebody else.
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
# Clocks of nodes differ; whoever is behind must not see a certificate of the future.
BACKDATE: Final = timedelta(minutes=5)
# A clock that was set back by more than this makes certificates anew; less is what NTP does all day.
STEPPED_BACK: Final = timedelta(minutes=1)

PrivateKey: TypeAlias = "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey"


@dataclass(frozen=True, slots=True)
class Anchor:
    """The certificate of an authority of ours, as a caBundle holds it."""

    pem: bytes
    fingerprint: str  # SHA-256 of the DER, in hexadecimal
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that can sign."""

    anchor: Anchor
    key: bytes = field(repr=False)  # PEM


@dataclass(frozen=True, slots=True)
class Leaf:
    """A serving pair that an authority of ours signed."""

    pair: ServingPair
    issuer: Anchor
    issued: datetime

    def is_due(self, at: datetime) -> bool:
        """Whether two thirds of its life have passed, or the clock was set back to before its life."""
        return not self.issued - STEPPED_BACK <= at < self.issued + self._life * 2 / 3

    def is_ending(self, at: datetime) -> bool:
        """Whether only the last tenth of its life is left, or the clock was set back to before its life."""
        return not self.issued - STEPPED_BACK <= at < self.issued + self._life * 9 / 10

    @property
    def _life(self) -> timedelta:
        return self.pair.expires - self.issued


def make_authority(algorithm: KeyAlgorithm, lifetime: timedelta, at: datetime) -> Authority:
    """A new authority; an RSA key takes a tenth of a second and more, so call it off the event loop."""
    key, at = _new_key(algorithm), at.replace(microsecond=0)
    serial = x509.random_serial_number()
    # Every authority has a name of its own: a chain is then built one way only.
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
    """A leaf for DNS names and IP addresses; it never outlives its authority."""
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
    """The certificates in a PEM text.

    Raises:
        CertificateError: It holds none, one that cannot be read, or one that is no authority of ours.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(["holds no readable PEM certificate"]) from None
    if not all(map(is_ours, certificates)):
        raise CertificateError(["holds the certificate of an authority that is not ours"])
    return tuple(map(_anchor, certificates))


def parse_authority(certificate: bytes, key: bytes) -> Authority:
    """The authority in two PEM texts.

    Raises:
        CertificateError: One of them cannot be read, they do not belong together, or the authority is not ours.
    """
    anchors = parse_anchors(certificate)
    if len(anchors) != 1:
        raise CertificateError(["holds more than one certificate"])
    secret = _read_key(key)
    if not _signs_for(secret, x509.load_pem_x509_certificate(anchors[0].pem)):
        raise CertificateError(["holds a certificate that its private key does not belong to"])
    return Authority(anchors[0], _pem(secret))


def known_anchors(pem: bytes) -> tuple[tuple[Anchor, ...], bool]:
    """Authorities of ours in a bundle, whoever wrote it, and whether it holds nothing else."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return (), False
    ours = tuple(_anchor(certificate) for certificate in certificates if is_ours(certificate))
    return ours, len(ours) == len(certificates)


def is_ours(certificate: x509.Certificate) -> bool:
    """Whether an authority of ours says so of itself."""
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
        # TLS 1.2 with an RSA key may ask for it; TLS 1.3 never does.
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
    """A key that is yet to be tried: the library's own checks of an RSA key hold everything up for 40 ms."""
    try:
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except Exception:  # noqa: BLE001 - the library raises several kinds; none may show the key's bytes
        key = None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CertificateError(["holds no readable ECDSA or RSA key in PEM"])
    return key


def _signs_for(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Whether what a key signs is accepted in the name of a certificate: tried, which takes 2 ms at most."""
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
    except Exception:  # noqa: BLE001 - a key that was not checked may fail in any way; none may show its bytes
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
