from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from injector.webhook.certs.pair import (
    CertificateError,
    ServingPair,
    load,
    parse_pair,
    read_pair,
    server_context,
)
from tests.http.certificates import DAY, NOW, key_pem, new_key
from tests.unit.webhook.certs.handshaking import CHAIN, ISSUER, KEY, handshake

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY = ISSUER.pem  # signed again for each call


def problems(chain: bytes, key: bytes) -> tuple[str, ...]:
    with pytest.raises(CertificateError) as caught:
        parse_pair(chain, key, NOW)
    return caught.value.problems


def test_valid_pair_has_names_and_expiry() -> None:
    pair = parse_pair(CHAIN, key_pem(KEY), NOW)
    assert (pair.names, pair.expires) == (("localhost", "127.0.0.1"), NOW + DAY)
    assert pair.is_valid(NOW + DAY - DAY / 100)
    assert not pair.is_valid(NOW + DAY)


def test_repr_does_not_show_the_key() -> None:
    assert "PRIVATE" not in repr(parse_pair(CHAIN, key_pem(KEY), NOW))


def test_chain_is_kept_in_order() -> None:
    pair = parse_pair(b"some words\n" + CHAIN + AUTHORITY, b"words\n" + key_pem(KEY) + CHAIN, NOW)
    assert pair.chain == CHAIN + AUTHORITY
    assert pair.key == key_pem(KEY)


def test_every_problem_of_a_pair_is_reported() -> None:
    other = ISSUER.issue(new_key(), hosts=(), since=NOW - 2 * DAY, until=NOW - DAY)
    found = problems(other, key_pem(KEY))
    assert [problem.split(" at ")[0] for problem in found] == [
        "the certificate expired",
        "the certificate has no subject alternative name, which API servers require",
        "the private key does not match the certificate",
    ]


def test_certificate_that_is_not_yet_valid_is_a_problem() -> None:
    assert "not valid before" in problems(ISSUER.issue(KEY, since=NOW + DAY / 2), key_pem(KEY))[0]


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_invalid_content_is_reported_for_both_files(junk: bytes) -> None:
    assert problems(junk, b"junk") == (
        "the certificate file contains no readable PEM certificate",
        "the private key file contains no readable PEM key",
    )


def test_encrypted_key_is_reported() -> None:
    assert problems(CHAIN, key_pem(KEY, BestAvailableEncryption(b"x"))) == (
        "the private key is encrypted; use an unencrypted PEM key",
    )


def test_missing_files_are_both_reported(tmp_path: Path) -> None:
    with pytest.raises(CertificateError) as caught:
        read_pair(tmp_path / "a", tmp_path / "b", NOW)
    assert ["cannot be read: no such file" in problem for problem in caught.value.problems] == [True, True]


def test_context_serves_the_pair() -> None:
    context = server_context(ssl.TLSVersion.TLSv1_3, parse_pair(CHAIN, key_pem(KEY), NOW))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0
    assert ssl.DER_cert_to_PEM_cert(handshake(context)).encode() == CHAIN


def test_context_without_a_pair_rejects_handshakes() -> None:
    context = server_context(ssl.TLSVersion.TLSv1_3)
    with pytest.raises(ssl.SSLError):
        handshake(context)
    load(context, parse_pair(CHAIN, key_pem(KEY), NOW))
    assert ssl.DER_cert_to_PEM_cert(handshake(context)).encode() == CHAIN


def test_pair_rejected_by_openssl_keeps_the_previous_one() -> None:
    context = server_context(ssl.TLSVersion.TLSv1_3, parse_pair(CHAIN, key_pem(KEY), NOW))
    foreign = ServingPair(CHAIN, key_pem(new_key()), NOW + DAY, ("localhost",))
    with pytest.raises(CertificateError, match="OpenSSL rejects the pair"):
        load(context, foreign)
    assert ssl.DER_cert_to_PEM_cert(handshake(context)).encode() == CHAIN


def test_key_too_small_for_openssl_is_rejected() -> None:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    chain = ISSUER.issue(small)  # type: ignore[arg-type] # any key can be signed
    pair = parse_pair(chain, key_pem(small), NOW)  # type: ignore[arg-type] # as above
    with pytest.raises(CertificateError, match="OpenSSL rejects the pair"):
        server_context(ssl.TLSVersion.TLSv1_3, pair)
