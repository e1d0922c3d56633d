from __future__ import annotations

import base64
import json

import pytest

from injector.core.claims import ExpectedClaims, TokenSpec
from injector.core.errors import TokenError
from injector.core.token import Token, parse_token
from injector.core.token_id import is_id
from injector.tokens.minting import MintedToken, decode_unverified, describe_given, mint_jwt, mint_opaque, verify
from injector.tokens.signing_keys import Algorithm, SigningKeys, generate, parse

NOW = 1_800_000_000
RINGS = {
    "Ed25519": generate(Algorithm.ED25519),
    "ES256": generate(Algorithm.ES256),
    "HS256": parse(b"s" * 32, Algorithm.HS256),
}


def verdicts(value: Token, ring: SigningKeys | None, now: int = NOW) -> dict[str, bool | None]:
    return {one.what: one.fine for one in verify(value, ring, ExpectedClaims(), now=now)}


def compact(header: dict[str, object], payload: bytes, signature: bytes = b"x" * 64) -> Token:
    parts = (json.dumps(header).encode(), payload, signature)
    return parse_token(b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts))


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_signed_token_verifies(ring: SigningKeys) -> None:
    made = mint_jwt(TokenSpec(), ring, now=NOW)

    assert verdicts(made.value, ring) == {
        "format": True,
        "signature": True,
        "times": True,
        "audience": True,
        "issuer": None,
    }


@pytest.mark.parametrize(("name", "length"), [("HS256", 354), ("Ed25519", 399), ("ES256", 397)])
def test_header_is_type_algorithm_and_thumbprint(name: str, length: int) -> None:
    made = mint_jwt(TokenSpec(), RINGS[name], now=NOW)
    read = decode_unverified(made.value)

    assert read is not None
    assert read.header == {"typ": "JWT", "alg": name, "kid": read.header["kid"]}
    assert len(read.header["kid"]) == 43
    assert len(made.value.reveal()) == length


def test_verify_shows_id_but_not_the_rest_of_jti() -> None:
    made = mint_jwt(TokenSpec(), RINGS["Ed25519"], now=NOW)
    read = decode_unverified(made.value)

    assert read is not None
    head, _, secret = read.claims["jti"].partition(".")
    assert head == made.id
    assert is_id(head)
    assert len(base64.urlsafe_b64decode(secret + "==")) == 16
    assert secret not in "".join(one.message for one in verify(made.value, None, ExpectedClaims(), now=NOW))
    assert (made.issued, made.expires) == (NOW, NOW + 90 * 86_400)


def test_earlier_token_verifies_by_public_half_after_key_rotation() -> None:
    before = generate(Algorithm.ES256)
    made = mint_jwt(TokenSpec(), before, now=NOW)

    assert verdicts(made.value, before.rotated())["signature"] is True


@pytest.mark.parametrize(
    "other", [generate(Algorithm.ED25519), RINGS["ES256"], RINGS["HS256"]], ids=["same", "ec", "hs"]
)
def test_other_key_does_not_verify(other: SigningKeys) -> None:
    assert verdicts(mint_jwt(TokenSpec(), RINGS["Ed25519"], now=NOW).value, other)["signature"] is False


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "EdDSA", "RS256", "", None, 7, ["HS256"]])
def test_algorithm_in_forged_header_is_rejected(algorithm: object) -> None:
    payload = json.dumps({"exp": NOW + 60, "aud": "dapr-api"}).encode()

    assert verdicts(compact({"alg": algorithm}, payload), RINGS["Ed25519"]).get("signature") is not True


def test_public_key_is_not_taken_for_a_secret() -> None:
    public = RINGS["Ed25519"].public()["keys"][0]["x"].encode()
    forged = mint_jwt(TokenSpec(), parse(public, Algorithm.HS256), now=NOW)

    assert verdicts(forged.value, RINGS["Ed25519"])["signature"] is False


@pytest.mark.parametrize("at", [0, 30, 150, 390])
def test_one_changed_character_is_found(at: int) -> None:
    made = mint_jwt(TokenSpec(), RINGS["Ed25519"], now=NOW).value.reveal()
    changed = made[:at] + ("A" if made[at] != "A" else "B") + made[at + 1 :]

    assert verdicts(parse_token(changed.encode()), RINGS["Ed25519"]).get("signature") is not True


@pytest.mark.parametrize(
    "value",
    [
        b"plain-opaque-token-0123456789",
        b"....................",
        b"eyJ.eyJ.eyJ-0123456789",
        b"e30.W10.AAAAAAAAAAAAAAAA",
        b"e30.bm8gSlNPTg.AAAAAAAAAAAA",
    ],
)
def test_verify_fails_for_opaque_token_only_with_a_key(value: bytes) -> None:
    assert verdicts(parse_token(value), None) == {"format": None}
    assert verdicts(parse_token(value), RINGS["Ed25519"]) == {"format": None, "signature": False}


def test_expired_token_fails_the_check_of_times() -> None:
    made = mint_jwt(TokenSpec(lifetime=60), RINGS["Ed25519"], now=NOW)

    assert verdicts(made.value, RINGS["Ed25519"], NOW + 3600)["times"] is False


def test_mint_without_keys_uses_a_temporary_key() -> None:
    made = mint_jwt(TokenSpec(), None, now=NOW)

    assert verdicts(made.value, None)["signature"] is None


def test_too_long_claims_create_no_token() -> None:
    with pytest.raises(TokenError, match="16 to 4,096"):
        mint_jwt(TokenSpec(extra={"long": "x" * 4096}), None, now=NOW)


def test_opaque_token_is_32_random_bytes() -> None:
    one, other = mint_opaque(now=NOW, lifetime=None), mint_opaque(now=NOW, lifetime=60)

    assert len(base64.urlsafe_b64decode(one.value.reveal() + "=")) == 32
    assert one.value != other.value
    assert one.id != other.id
    assert (one.expires, other.expires) == (None, NOW + 60)


def test_given_jwt_keeps_its_id_and_expiry() -> None:
    made = mint_jwt(TokenSpec(), None, now=NOW)

    assert describe_given(made.value, now=NOW + 5) == MintedToken(made.value, made.id, NOW + 5, made.expires)


def test_given_opaque_token_gets_a_random_id() -> None:
    ids = {describe_given(parse_token(b"plain-opaque-token-0123456789"), now=NOW).id for _ in range(5)}

    assert len(ids) == 5


@pytest.mark.parametrize("expires", ["x", True, -1, 1e400, None, []])
def test_given_jwt_with_invalid_exp_has_no_expiry(expires: object) -> None:
    value = compact({"alg": "HS256"}, json.dumps({"exp": expires}).encode())

    assert describe_given(value, now=NOW).expires is None
