from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from injector.tokens.signing_keys import Algorithm, BadKeyError, SigningKeys, generate, parse, thumbprint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ASYMMETRIC = [Algorithm.ED25519, Algorithm.ES256]


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_made_key_is_read_again(algorithm: Algorithm) -> None:
    made = generate(algorithm)
    read = parse(made.dump(), None)

    assert read.algorithm is algorithm
    assert thumbprint(read.signing) == thumbprint(made.signing)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_public_half_has_no_private_member(algorithm: Algorithm) -> None:
    (output,) = generate(algorithm).public()["keys"]

    assert not {"d", "k"} & set(output)
    assert output["alg"] == algorithm
    assert output["kid"]


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_rotation_keeps_only_public_halves(algorithm: Algorithm) -> None:
    before = generate(algorithm)
    after = parse(before.rotated().rotated().dump(), None)
    stored = json.loads(after.dump())["keys"]

    assert len(stored) == 3
    assert ["d" in key for key in stored] == [True, False, False]
    assert thumbprint(after.keys[2]) == thumbprint(before.signing)
    assert after.algorithm is algorithm


def test_number_of_public_halves_is_bounded() -> None:
    ring = generate(Algorithm.ED25519)
    for _ in range(60):
        ring = ring.rotated()

    assert len(ring.keys) == 40


def test_public_halves_do_not_sign() -> None:
    public = parse(json.dumps(generate(Algorithm.ES256).public()).encode(), None)

    with pytest.raises(BadKeyError, match="only public keys, which cannot sign"):
        _ = public.signing


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ed25519.Ed25519PrivateKey.generate(), Algorithm.ED25519),
        (ec.generate_private_key(ec.SECP256R1()), Algorithm.ES256),
    ],
    ids=["Ed25519", "ES256"],
)
def test_pem_is_read_and_never_rotated(key: PrivateKeyTypes, algorithm: Algorithm) -> None:
    ring = parse(pem(key), None)

    assert ring.algorithm is algorithm
    with pytest.raises(BadKeyError, match="not a JWK Set, so it is not modified"):
        ring.rotated()


def test_plain_hs256_secret_ignores_trailing_newline() -> None:
    secrets = [parse(b"s" * 32 + end, Algorithm.HS256) for end in (b"", b"\n", b"\r\n")]

    assert {thumbprint(ring.signing) for ring in secrets} == {thumbprint(secrets[0].signing)}
    assert secrets[0].algorithm is Algorithm.HS256


SHORT = b"marker-too-short-to-be-a-secret"


@pytest.mark.parametrize(
    ("content", "algorithm", "why"),
    [
        (b"", None, "^empty$"),
        (b" \n", None, "^empty$"),
        (b"x" * 300_000, None, "larger than any key file"),
        (b"s" * 32, None, "for a plain secret, use --alg HS256"),
        (SHORT, Algorithm.HS256, "the secret has 31 bytes; HS256 needs 32 or more"),
        (b'{"kty":"oct","k":"c2hvcnQ"}', None, "HS256 needs 32 or more"),
        (b'{"kty":"oct","k":"!!"}', None, "HS256 needs 32 or more|malformed"),
        (b"{", None, "not valid JSON"),
        (b'{"a":' * 40_000, None, "not valid JSON"),
        (b"{}", None, "malformed"),
        (b'{"keys":[]}', None, "not a list of keys"),
        (b'{"keys":7}', None, "not a list of keys"),
        (b'{"keys":["marker"]}', None, "not a list of keys"),
        (b'{"kty":"EC","crv":"P-256","x":"marker"}', None, "malformed"),
        (b'{"kty":"marker"}', None, "malformed"),
        (pem(rsa.generate_private_key(65537, 1024)), None, "neither an Ed25519 nor a P-256 key"),  # noqa: S505 - quickly made
        (pem(ec.generate_private_key(ec.SECP384R1())), None, "another curve"),
        (pem(ed448.Ed448PrivateKey.generate()), None, "another curve"),
        (pem(x25519.X25519PrivateKey.generate()), None, "another curve"),
        (b"-----BEGIN marker-----", None, "neither an Ed25519 nor a P-256 key"),
        (generate(Algorithm.ES256).dump(), Algorithm.ED25519, "the key is for ES256, but --alg is Ed25519"),
    ],
)
def test_parse_rejects_other_content_with_the_reason(content: bytes, algorithm: Algorithm | None, why: str) -> None:
    with pytest.raises(BadKeyError, match=why) as caught:
        parse(content, algorithm)

    assert "marker" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_hs256_key_is_neither_generated_exported_nor_rotated() -> None:
    ring = parse(b"s" * 32, Algorithm.HS256)
    for attempt in (lambda: generate(Algorithm.HS256), ring.public, ring.rotated):
        with pytest.raises(BadKeyError):
            attempt()


def test_repr_of_signing_keys_shows_no_key() -> None:
    ring = generate(Algorithm.ED25519)
    private = json.loads(ring.dump())["keys"][0]["d"]

    assert private not in repr(ring)
    assert isinstance(ring, SigningKeys)
