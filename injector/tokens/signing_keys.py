"""Reads, generates and rotates the keys that sign tokens, and exports their public half.

A key file that this project writes is a JWK Set (RFC 7517): its first key signs, the others are public halves of
earlier signing keys, so that tokens still in use can be verified. PEM files and single JWKs are only read. An HS256 key
is a secret that the user supplies: at least 32 raw bytes, or a JWK.
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

# RFC 7518, section 3.2: at least the size of the hash. joserfc only warns.
SHORTEST_HMAC_KEY: Final = 32  # bytes
# Our choice: far above any real key file.
LARGEST_FILE: Final = 256 * 1024  # bytes
# Our choice of how many keys are kept: a decade of quarterly rotations.
_MOST_KEYS: Final = 40


class Algorithm(StrEnum):
    """Signature algorithms, named as in a JWS header (`Ed25519`: RFC 9864)."""

    ED25519 = "Ed25519"
    ES256 = "ES256"
    HS256 = "HS256"


class BadKeyError(Exception):
    """A key cannot be used; the message gives the reason and no part of the key."""


@dataclass(frozen=True, slots=True, repr=False)
class SigningKeys:
    """Keys of one file, the signing key first. `is_jwk_set`: the file is a JWK Set, so it can be rotated."""

    keys: tuple[Key, ...]
    is_jwk_set: bool

    @property
    def signing(self) -> Key:
        """The key that signs.

        Raises:
            BadKeyError: The file holds only its public half.
        """
        if not self.keys[0].is_private:
            raise BadKeyError("only public keys, which cannot sign; use the file with the private key")
        return self.keys[0]

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the first key."""
        return algorithm_of(self.keys[0])

    def rotated(self) -> SigningKeys:
        """Return a new signing key followed by the public halves of the existing keys.

        Raises:
            BadKeyError: The file is not a JWK Set.
        """
        if not self.is_jwk_set:
            raise BadKeyError("not a JWK Set, so it is not modified; replace the key yourself")
        public = [_import_key(key.as_dict(private=False)) for key in self.keys]
        return SigningKeys((_GENERATORS[self.algorithm](), *public)[:_MOST_KEYS], is_jwk_set=True)

    def public(self) -> dict[str, list[dict[str, Any]]]:
        """Return the JWK Set for verifiers.

        Raises:
            BadKeyError: An HS256 key has no public half.
        """
        if self.algorithm is Algorithm.HS256:
            raise BadKeyError("an HS256 key has no public half; use Ed25519 or ES256")
        return {"keys": [_jwk(key, private=False) for key in self.keys]}

    def dump(self) -> bytes:
        """Return the JWK Set with the private half of the signing key, to store it."""
        keys = [_jwk(key, private=key.is_private) for key in self.keys]
        return json.dumps({"keys": keys}, indent=2).encode() + b"\n"


def generate(algorithm: Algorithm) -> SigningKeys:
    """Return a JWK Set with one new key.

    Raises:
        BadKeyError: The algorithm is HS256, whose secret the user supplies.
    """
    if algorithm is Algorithm.HS256:
        raise BadKeyError("HS256 keys are not generated; supply a secret of 32 random bytes or more")
    return SigningKeys((_GENERATORS[algorithm](),), is_jwk_set=True)


def parse(data: bytes, algorithm: Algorithm | None) -> SigningKeys:
    """Return the keys in a file's content; `algorithm` None accepts that of the key.

    Raises:
        BadKeyError: The content holds no key for the algorithm.
    """
    parsed = _parse(data, algorithm)
    for key in parsed.keys:
        _check(key)
    if algorithm is not None and parsed.algorithm is not algorithm:
        raise BadKeyError(f"the key is for {parsed.algorithm}, but --alg is {algorithm}")
    return parsed


def algorithm_of(key: Key) -> Algorithm:
    """Return the algorithm of a key."""
    if isinstance(key, OKPKey):
        return Algorithm.ED25519
    return Algorithm.ES256 if isinstance(key, ECKey) else Algorithm.HS256


def thumbprint(key: Key) -> str:
    """Return the `kid` (RFC 7638)."""
    return key.thumbprint()


_GENERATORS: Final[Mapping[Algorithm, Callable[[], Key]]] = {
    Algorithm.ED25519: lambda: OKPKey.generate_key("Ed25519"),
    Algorithm.ES256: lambda: ECKey.generate_key("P-256"),
}


def _parse(data: bytes, algorithm: Algorithm | None) -> SigningKeys:
    if len(data) > LARGEST_FILE:
        raise BadKeyError("larger than any key file")
    text = data.strip()
    if not text:
        raise BadKeyError("empty")
    if text.startswith(b"{"):
        return _from_json(text)
    if text.startswith(b"-----BEGIN"):
        return SigningKeys((_from_pem(text),), is_jwk_set=False)
    if algorithm is not Algorithm.HS256:
        raise BadKeyError("not a JWK, JWK Set or PEM; for a plain secret, use --alg HS256")
    # A newline that an editor or echo added is not part of the secret.
    return SigningKeys((_import_key({"kty": "oct"}, data.removesuffix(b"\n").removesuffix(b"\r")),), is_jwk_set=False)


def _from_json(text: bytes) -> SigningKeys:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise BadKeyError("not valid JSON") from None
    entries = document.get("keys")
    if entries is None:
        return SigningKeys((_import_key(document),), is_jwk_set=False)
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
        raise BadKeyError('"keys" is not a list of keys')
    return SigningKeys(tuple(map(_import_key, entries)), is_jwk_set=True)


def _from_pem(text: bytes) -> Key:
    for kind in (OKPKey, ECKey):
        try:
            return kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
    raise BadKeyError("the PEM is encrypted, or holds neither an Ed25519 nor a P-256 key")


def _import_key(document: Mapping[str, Any], secret: bytes | None = None) -> Key:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about short HMAC keys, which `_check` rejects
            key = OctKey.import_key(secret) if secret is not None else JWKRegistry.import_key(dict(document))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        # The library's message is left out: it could hold a part of the key.
        raise BadKeyError("a key is malformed") from None
    if not isinstance(key, OKPKey | ECKey | OctKey):
        raise BadKeyError("a key is neither Ed25519, P-256 nor a secret for HS256")
    return key


def _check(key: Key) -> None:
    if isinstance(key, OctKey):
        if len(key.raw_value) < SHORTEST_HMAC_KEY:
            raise BadKeyError(
                f"the secret has {len(key.raw_value)} bytes; HS256 needs {SHORTEST_HMAC_KEY} or more, "
                "such as `openssl rand -base64 48`"
            )
    elif key.curve_name not in {"Ed25519", "P-256"}:
        raise BadKeyError("a key is on another curve; use Ed25519 or P-256")


def _jwk(key: Key, *, private: bool) -> dict[str, Any]:
    return {**key.as_dict(private=private), "kid": thumbprint(key), "alg": algorithm_of(key).value, "use": "sig"}
