"""Mints and verifies tokens: claims by the core, signatures by joserfc, randomness of the operating system."""

from __future__ import annotations

import json
import secrets
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError

from injector.core import claims
from injector.core.claims import TokenCheck
from injector.core.token import parse_token
from injector.core.token_id import ID_ALPHABET, ID_LENGTH, JTI_BYTES, id_of
from injector.tokens.signing_keys import Algorithm, SigningKeys, algorithm_of, generate, thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.core.claims import ExpectedClaims, TokenSpec
    from injector.core.token import Token

_OPAQUE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token and what annotations may hold of it; times in seconds since 1970, `expires` None for no expiry."""

    value: Token
    id: str
    issued: int
    expires: int | None


def new_id() -> str:
    """Return a new random id."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def mint_jwt(wanted: TokenSpec, keys: SigningKeys | None, *, now: int) -> MintedToken:
    """Return a JWT signed with the first key; without keys, with a new key that is not kept.

    Raises:
        BadClaimError: A claim is not valid.
        BadKeyError: The keys cannot sign.
        TokenError: The token would be too long.
    """
    key = (keys or generate(Algorithm.ED25519)).signing
    token_id = new_id()
    payload = claims.build(wanted, now=now, jti=f"{token_id}.{secrets.token_urlsafe(JTI_BYTES)}")
    algorithm = algorithm_of(key).value
    header = {"typ": "JWT", "alg": algorithm, "kid": thumbprint(key)}
    value = jwt.encode(header, payload, key, algorithms=[algorithm])
    return MintedToken(parse_token(value.encode()), token_id, now, now + wanted.lifetime)


def mint_opaque(*, now: int, lifetime: int | None) -> MintedToken:
    """Return 32 random bytes in base64url; the lifetime is only recorded next to them."""
    value = parse_token(secrets.token_urlsafe(_OPAQUE_BYTES).encode())
    return MintedToken(value, new_id(), now, None if lifetime is None else now + lifetime)


def describe_given(value: Token, *, now: int) -> MintedToken:
    """Return a token that the caller supplied; id and expiry are read from its claims if it is a JWT."""
    read = (decode_unverified(value) or UnverifiedJwt({}, {})).claims
    return MintedToken(value, id_of(read.get("jti")) or new_id(), now, claims.time_of(read, "exp"))


# The token of dry runs, which is never stored.
PLACEHOLDER: Final = mint_opaque(now=0, lifetime=None)


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedJwt:
    """Header and claims of a JWT, not verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def decode_unverified(value: Token) -> UnverifiedJwt | None:
    """Return header and claims of a JWT without verification; None if it is not a JWT."""
    try:
        read = jws.extract_compact(value.reveal().encode())
        payload = json.loads(read.payload)
    except (JoseError, ValueError, RecursionError):
        return None
    return UnverifiedJwt(read.headers(), payload) if isinstance(payload, dict) else None


def verify(value: Token, keys: SigningKeys | None, expected: ExpectedClaims, *, now: int) -> tuple[TokenCheck, ...]:
    """Check format, signature, times, audience and issuer of a token at `now` (seconds since 1970)."""
    read = decode_unverified(value)
    if read is None:
        form = TokenCheck("format", None, f"opaque, {len(value.reveal())} bytes: it has no claims to verify")
        if keys is None:
            return (form,)
        return (form, TokenCheck("signature", False, "missing: an opaque token is not signed"))
    token_id = id_of(read.claims.get("jti"))
    form = TokenCheck("format", True, f"JWT, {len(value.reveal())} bytes" + (f", id {token_id}" if token_id else ""))
    return (form, _signature(value, read, keys), *claims.evaluate(read.claims, expected, now=now))


def _signature(value: Token, read: UnverifiedJwt, keys: SigningKeys | None) -> TokenCheck:
    if keys is None:
        return TokenCheck("signature", None, "not checked: no --signing-key")
    algorithm = read.header.get("alg")
    known = [one.value for one in Algorithm]  # a list: the value in a header may be unhashable
    if algorithm not in known:
        return TokenCheck("signature", False, f"unknown algorithm; supported are {', '.join(sorted(known))}")
    named = [key for key in keys.keys if thumbprint(key) == read.header.get("kid")]
    for key in named or keys.keys:
        # Use a key with its own algorithm only: a public key must never serve as an HMAC secret.
        if algorithm_of(key).value == algorithm and _is_signed_by(value, key, algorithm):
            return TokenCheck("signature", True, f"{algorithm}, key {thumbprint(key)}")
    return TokenCheck(
        "signature", False, "does not match any of the keys" if len(keys.keys) > 1 else "does not match the key"
    )


def _is_signed_by(value: Token, key: Any, algorithm: str) -> bool:  # noqa: ANN401 - the library's union of keys
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jws.deserialize_compact(value.reveal(), key, algorithms=[algorithm])
    except (JoseError, ValueError):
        return False
    return True
