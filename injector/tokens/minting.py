"""Tokens made and read: claims from the core, signatures by joserfc, randomness from the system."""

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
from injector.tokens.signing_keys import Algorithm, SigningKeys, algorithm_of, generate, thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.core.claims import ExpectedClaims, TokenSpec
    from injector.core.token import Token

_OPAQUE_BYTES: Final = 32
_JTI_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token and what may be said of it; times in seconds since 1970, None where it has no end."""

    value: Token
    id: str
    issued: int
    expires: int | None


def new_id() -> str:
    """An id that no other token has."""
    return "".join(secrets.choice(claims.ID_ALPHABET) for _ in range(claims.ID_LENGTH))


def mint_jwt(wanted: TokenSpec, keys: SigningKeys | None, *, now: int) -> MintedToken:
    """A JWT, signed by the ring's first key; without a ring by a key that is made for it and forgotten.

    Raises:
        BadClaimError: It would say what no token should.
        BadKeyError: The ring cannot sign.
        TokenError: It would be too long.
    """
    key = (keys or generate(Algorithm.ED25519)).signing
    token_id = new_id()
    payload = claims.build(wanted, now=now, jti=f"{token_id}.{secrets.token_urlsafe(_JTI_BYTES)}")
    algorithm = algorithm_of(key).value
    header = {"typ": "JWT", "alg": algorithm, "kid": thumbprint(key)}
    value = jwt.encode(header, payload, key, algorithms=[algorithm])
    return MintedToken(parse_token(value.encode()), token_id, now, now + wanted.lifetime)


def mint_opaque(*, now: int, lifetime: int | None) -> MintedToken:
    """32 random bytes in base64url; a lifetime is only noted beside it."""
    value = parse_token(secrets.token_urlsafe(_OPAQUE_BYTES).encode())
    return MintedToken(value, new_id(), now, None if lifetime is None else now + lifetime)


def describe_given(value: Token, *, now: int) -> MintedToken:
    """A token of somebody else's; what a JWT says of its id and times is taken over."""
    read = (decode_unverified(value) or UnverifiedJwt({}, {})).claims
    return MintedToken(value, claims.id_of(read.get("jti")) or new_id(), now, claims.time_of(read, "exp"))


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedJwt:
    """A JWT's two readable parts, unverified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def decode_unverified(value: Token) -> UnverifiedJwt | None:
    """What a JWT says, unverified; None when it is no JWT."""
    try:
        read = jws.extract_compact(value.reveal().encode())
        payload = json.loads(read.payload)
    except (JoseError, ValueError, RecursionError):
        return None
    return UnverifiedJwt(read.headers(), payload) if isinstance(payload, dict) else None


def verify(value: Token, keys: SigningKeys | None, expected: ExpectedClaims, *, now: int) -> tuple[TokenCheck, ...]:
    """Signature, times, audience and issuer of a token, at `now` in seconds since 1970."""
    read = decode_unverified(value)
    if read is None:
        form = TokenCheck(
            "format", None, f"opaque, {len(value.reveal())} bytes: it says nothing that could be verified"
        )
        return (form,) if keys is None else (form, TokenCheck("signature", False, "it is no JWT, and bears none"))
    token_id = claims.id_of(read.claims.get("jti"))
    form = TokenCheck(
        "format", True, f"a JWT of {len(value.reveal())} bytes" + (f", id {token_id}" if token_id else "")
    )
    return (form, _signature(value, read, keys), *claims.evaluate(read.claims, expected, now=now))


def _signature(value: Token, read: UnverifiedJwt, keys: SigningKeys | None) -> TokenCheck:
    if keys is None:
        return TokenCheck("signature", None, "not looked at: no key was given")
    algorithm = read.header.get("alg")
    known = [one.value for one in Algorithm]  # a list: a header may hold what has no hash
    if algorithm not in known:
        return TokenCheck("signature", False, f"its algorithm is none of {', '.join(sorted(known))}")
    named = [key for key in keys.keys if thumbprint(key) == read.header.get("kid")]
    for key in named or keys.keys:
        # A key is tried with its own algorithm only: a public key must never be taken for a secret.
        if algorithm_of(key).value == algorithm and _is_signed_by(value, key, algorithm):
            return TokenCheck("signature", True, f"{algorithm}, by key {thumbprint(key)}")
    return TokenCheck(
        "signature", False, "not by any of the keys given" if len(keys.keys) > 1 else "not by the key given"
    )


def _is_signed_by(value: Token, key: Any, algorithm: str) -> bool:  # noqa: ANN401 - the library's union of keys
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jws.deserialize_compact(value.reveal(), key, algorithms=[algorithm])
    except (JoseError, ValueError):
        return False
    return True
