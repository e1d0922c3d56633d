"""The public id of a token.

Annotations hold it, so that people can distinguish tokens without reading them. The `jti` is the id followed by 128
secret random bits: an attacker with a signing key and every annotation still cannot sign a token that is already in
use: docs/decisions/0009-public-ids.md.
"""

from __future__ import annotations

from typing import Final

# As in generated names of Kubernetes: no vowels, so no words, and no characters that are easily confused.
ID_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
ID_LENGTH: Final = 10
# Bytes, random and secret.
JTI_BYTES: Final = 16

# The secret part is base64url without padding.
_SECRET_LENGTH: Final = -(-JTI_BYTES * 8 // 6)
_SECRET_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def id_of(jti: object) -> str | None:
    """Return the public id in a `jti` that this project created; None for any other."""
    if not isinstance(jti, str):
        return None
    head, _, secret = jti.partition(".")
    return head if is_id(head) and len(secret) == _SECRET_LENGTH and _SECRET_ALPHABET.issuperset(secret) else None


def is_id(text: str) -> bool:
    """Return whether the text has the form of a token's id."""
    return len(text) == ID_LENGTH and set(text) <= set(ID_ALPHABET)
