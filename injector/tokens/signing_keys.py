"""Keys that sign tokens: read in every form in which people keep them, made, replaced, and their public half told.

A key file of ours is a JWK Set (RFC 7517): its first key signs, the others are public halves of keys that signed
before, so that tokens which are still in use can be verified. PEM files and single JWKs are read, and never written to.
An HS256 key is a secret of the caller's: at least 32 bytes as they are, or a JWK.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OctKey, OKPKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Key = OKPKey | ECKey | OctKey

# RFC 7518, 3.2: a key of the hash's size or larger. The library only warns.
SHORTEST_HMAC_KEY: Final = 32  # bytes
# Ours: no key file comes near.
LARGEST_FILE: Final = 256 * 1024  # bytes
# Ours: public halves that are kept; at a rotation a quarter that is a decade.
_MOST_KEYS: Final = 40


class Algorithm(StrEnum):
    """How tokens are signed; names as in a JWS header (`Ed25519`: RFC 9864)."""

    ED25519 = "Ed25519"
    ES256 = "ES256"
    HS256 = "HS256"


class BadKeyError(Exception):
    """A key cannot be used; the message says why and holds nothing of it."""


@dataclass(frozen=True, slots=True, repr=False)
class SigningKeys:
    """Keys of one file, the signing one first. `is_jwk_set`: a JWK Set that may be rotated."""

    keys: tuple[Key, ...]
    is_jwk_set: bool

    @property
    def signing(self) -> Key:
        """The key that signs.

        Raises:
            BadKeyError: Only its public half is here.
        """
        if not self.keys[0].is_private:
            raise BadKeyError("it holds only public halves, which verify and do not sign")
        return self.keys[0]

    @property
    def algorithm(self) -> Algorithm:
        """What the first key signs with."""
        return algorithm_of(self.keys[0])

    def rotated(self) -> SigningKeys:
        """A new signing key in front; of those before only the public halves stay.

        Raises:
            BadKeyError: This is no JWK Set of ours.
        """
        if not self.is_jwk_set:
            raise BadKeyError("it is no JWK Set made by this command, and is not written to; replace it yourself")
        public = [_import_key(key.as_dict(private=False)) for key in self.keys]
        return SigningKeys((_GENERATORS[self.algorithm](), *public)[:_MOST_KEYS], is_jwk_set=True)

    def public(self) -> dict[str, list[dict[str, Any]]]:
        """The JWK Set that verifiers are given.

        Raises:
            BadKeyError: An HS256 key has no public half.
        """
        if self.algorithm is Algorithm.HS256:
            raise BadKeyError("an HS256 key has no public half: whoever can verify can also sign")
        return {"keys": [_jwk(key, private=False) for key in self.keys]}

    def dump(self) -> bytes:
        """The JWK Set with the signing key's private half, for the one place that stores it."""
        keys = [_jwk(key, private=key.is_private) for key in self.keys]
        return json.dumps({"keys": keys}, indent=2).encode() + b"\n"


def generate(algorithm: Algorithm) -> SigningKeys:
    """A JWK Set with one new key.

    Raises:
        BadKeyError: HS256 takes a secret of the caller's.
    """
    if algorithm is Algorithm.HS256:
        raise BadKeyError("HS256 takes a secret of yours (32 random bytes or more) and makes none")
    return SigningKeys((_GENERATORS[algorithm](),), is_jwk_set=True)


def parse(data: bytes, algorithm: Algorithm | None) -> SigningKeys:
    """The keys in a file's bytes; `algorithm` None takes that of the key.

    Raises:
        BadKeyError: There is no such key in it.
    """
    parsed = _parse(data, algorithm)
    for key in parsed.keys:
        _check(key)
    if algorithm is not None and parsed.algorithm is not algorithm:
        raise BadKeyError(f"its key is for {parsed.algorithm}, and {algorithm} was asked for")
    return parsed


def algorithm_of(key: Key) -> Algorithm:
    """What a key signs with."""
    if isinstance(key, OKPKey):
        return Algorithm.ED25519
    return Algorithm.ES256 if isinstance(key, ECKey) else Algorithm.HS256


def thumbprint(key: Key) -> str:
    """The `kid`: RFC 7638."""
    return key.thumbprint()


_GENERATORS: Final[Mapping[Algorithm, Callable[[], Key]]] = {
    Algorithm.ED25519: lambda: OKPKey.generate_key("Ed25519"),
    Algorithm.ES256: lambda: ECKey.generate_key("P-256"),
}


def _parse(data: bytes, algorithm: Algorithm | None) -> SigningKeys:
    if len(data) > LARGEST_FILE:
        raise BadKeyError("it is larger than any key")
    text = data.strip()
    if not text:
        raise BadKeyError("it is empty")
    if text.startswith(b"{"):
        return _from_json(text)
    if text.startswith(b"-----BEGIN"):
        return SigningKeys((_from_pem(text),), is_jwk_set=False)
    if algorithm is not Algorithm.HS256:
        raise BadKeyError("it holds neither a JWK, a JWK Set nor PEM; a plain secret is for --alg HS256")
    # A line end that an editor or echo left behind is not part of a secret.
    return SigningKeys((_import_key({"kty": "oct"}, data.removesuffix(b"\n").removesuffix(b"\r")),), is_jwk_set=False)


def _from_json(text: bytes) -> SigningKeys:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise BadKeyError("it begins as JSON and is none") from None
    entries = document.get("keys")
    if entries is None:
        return SigningKeys((_import_key(document),), is_jwk_set=False)
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
        raise BadKeyError('its "keys" is not a list of keys')
    return SigningKeys(tuple(map(_import_key, entries)), is_jwk_set=True)


def _from_pem(text: bytes) -> Key:
    for kind in (OKPKey, ECKey):
        try:
            return kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
    raise BadKeyError("its PEM is neither an Ed25519 nor a P-256 key, or it is encrypted")


def _import_key(document: Mapping[str, Any], secret: bytes | None = None) -> Key:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of short HMAC keys, which `_check` refuses
            key = OctKey.import_key(secret) if secret is not None else JWKRegistry.import_key(dict(document))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        # The library's own message is left out: it was not written with secrets in mind.
        raise BadKeyError("one of its keys is malformed") from None
    if not isinstance(key, OKPKey | ECKey | OctKey):
        raise BadKeyError("one of its keys is neither Ed25519, P-256 nor a secret for HS256")
    return key


def _check(key: Key) -> None:
    if isinstance(key, OctKey):
        if len(key.raw_value) < SHORTEST_HMAC_KEY:
            raise BadKeyError(
                f"its secret has {len(key.raw_value)} bytes; HS256 needs {SHORTEST_HMAC_KEY} or more, "
                "such as `openssl rand -base64 48`"
            )
    elif key.curve_name not in {"Ed25519", "P-256"}:
        raise BadKeyError("one of its keys is on another curve; allowed are Ed25519 and P-256")


def _jwk(key: Key, *, private: bool) -> dict[str, Any]:
    return {**key.as_dict(private=private), "kid": thumbprint(key), "alg": algorithm_of(key).value, "use": "sig"}
