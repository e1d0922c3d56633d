from __future__ import annotations

import ipaddress
import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from injector.config.shapes import KeyAlgorithm
from injector.webhook.certs.authority import (
    BACKDATE,
    is_ours,
    issue_leaf,
    known_anchors,
    make_authority,
    parse_anchors,
    parse_authority,
)
from injector.webhook.certs.pair import CertificateError, parse_pair, server_context
from tests.http.certificates import NOW, Issuer, key_pem, new_key
from tests.unit.webhook.certs.handshaking import handshake

HOUR = timedelta(hours=1)
AUTHORITY = make_authority(KeyAlgorithm.ECDSA_P256, 100 * HOUR, NOW)
OTHER = make_authority(KeyAlgorithm.ECDSA_P256, 100 * HOUR, NOW)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_leaf_is_trusted_by_clients_that_trust_its_ca(algorithm: KeyAlgorithm) -> None:
    authority = make_authority(algorithm, HOUR, NOW)
    leaf = issue_leaf(authority, ("hook.dapr.svc", "127.0.0.1"), algorithm, HOUR, NOW)
    # A strict client of a newer Python requires every extension of the standard.
    context = server_context(ssl.TLSVersion.TLSv1_3, leaf.pair)
    for name in ("hook.dapr.svc", "127.0.0.1"):
        assert handshake(context, authority.anchor.pem + OTHER.anchor.pem, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, OTHER.anchor.pem, "hook.dapr.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, authority.anchor.pem, "other.dapr.svc")


def test_leaf_is_valid_as_a_pair_of_files_mode() -> None:
    leaf = issue_leaf(AUTHORITY, ("a.b.svc", "::1"), KeyAlgorithm.ECDSA_P256, HOUR, NOW)
    assert parse_pair(leaf.pair.chain, leaf.pair.key, NOW) == leaf.pair
    found = x509.load_pem_x509_certificate(leaf.pair.chain)
    assert (found.not_valid_before_utc, found.not_valid_after_utc) == (NOW - BACKDATE, NOW + HOUR)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("::1")]


def test_leaf_never_outlives_its_ca() -> None:
    leaf = issue_leaf(AUTHORITY, ("a",), KeyAlgorithm.ECDSA_P256, 10 * HOUR, NOW + 95 * HOUR)
    assert leaf.pair.expires == AUTHORITY.anchor.expires == NOW + 100 * HOUR


def test_leaf_is_renewed_at_two_thirds_and_after_clock_set_back() -> None:
    leaf = issue_leaf(AUTHORITY, ("a",), KeyAlgorithm.ECDSA_P256, 30 * HOUR, NOW)
    due = {hours: leaf.is_due(NOW + hours * HOUR) for hours in (-1, 0, 19, 20, 1000)}
    assert due == {-1: True, 0: False, 19: False, 20: True, 1000: True}
    assert not leaf.is_due(NOW - timedelta(seconds=30))
    ending = {hours: leaf.is_ending(NOW + hours * HOUR) for hours in (-1, 20, 26, 27)}
    assert ending == {-1: True, 20: False, 26: False, 27: True}


def test_ca_round_trip() -> None:
    assert parse_authority(AUTHORITY.anchor.pem, AUTHORITY.key) == AUTHORITY
    assert parse_anchors(AUTHORITY.anchor.pem + OTHER.anchor.pem) == (AUTHORITY.anchor, OTHER.anchor)
    assert AUTHORITY.anchor.issued == NOW
    assert "PRIVATE" not in repr(AUTHORITY)
    assert parse_authority(WITH_RSA.anchor.pem, WITH_RSA.key) == WITH_RSA


def test_key_with_wrong_numbers_is_rejected() -> None:
    good = load_pem_private_key(WITH_RSA.key, None)
    assert isinstance(good, rsa.RSAPrivateKey)
    numbers = good.private_numbers()
    bent = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d + 2, numbers.dmp1 + 2, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    )
    key = bent.private_key(unsafe_skip_rsa_key_validation=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(CertificateError, match="does not match the private key"):
        parse_authority(WITH_RSA.anchor.pem, pem)


WITH_RSA, OTHER_WITH_RSA = (make_authority(KeyAlgorithm.RSA_2048, HOUR, NOW) for _ in range(2))
LEAF = issue_leaf(AUTHORITY, ("a",), KeyAlgorithm.ECDSA_P256, HOUR, NOW)


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        (b"", AUTHORITY.key, "no readable PEM certificate"),
        (b"junk", AUTHORITY.key, "no readable PEM certificate"),
        (AUTHORITY.anchor.pem, b"junk", "no readable ECDSA or RSA key"),
        (AUTHORITY.anchor.pem, OTHER.key, "does not match the private key"),
        (AUTHORITY.anchor.pem, WITH_RSA.key, "does not match the private key"),
        (WITH_RSA.anchor.pem, OTHER_WITH_RSA.key, "does not match the private key"),
        (WITH_RSA.anchor.pem, AUTHORITY.key, "does not match the private key"),
        (AUTHORITY.anchor.pem + OTHER.anchor.pem, AUTHORITY.key, "more than one certificate"),
        (Issuer().pem, AUTHORITY.key, "not from a CA of the injector"),
        (LEAF.pair.chain, LEAF.pair.key, "not from a CA of the injector"),
    ],
)
def test_invalid_ca_is_rejected_without_showing_a_value(certificate: bytes, key: bytes, words: str) -> None:
    with pytest.raises(CertificateError, match=words) as caught:
        parse_authority(certificate, key)
    assert "BEGIN" not in str(caught.value)


def test_foreign_ca_with_our_name_is_not_ours() -> None:
    ours = x509.load_pem_x509_certificate(AUTHORITY.anchor.pem)
    issuer = Issuer()
    forged = x509.load_pem_x509_certificate(issuer.issue(new_key()))
    assert is_ours(ours)
    assert not is_ours(forged)
    assert not is_ours(x509.load_pem_x509_certificate(LEAF.pair.chain))


def test_bundle_separates_own_and_foreign_cas() -> None:
    assert known_anchors(AUTHORITY.anchor.pem) == ((AUTHORITY.anchor,), True)
    assert known_anchors(AUTHORITY.anchor.pem + Issuer().pem) == ((AUTHORITY.anchor,), False)
    assert known_anchors(key_pem(new_key())) == ((), False)
    assert known_anchors(b"junk") == ((), False)
