"""What a token of ours says about itself, before anybody signs it: claims, and what may not be claimed.

Neither PyJWT nor joserfc checks the types of what it signs, so this does. Claims are those of RFC 7519:
https://www.rfc-editor.org/rfc/rfc7519#section-4.1. Nothing personal belongs into one.

A token's id is public: it stands in annotations, so that people can tell tokens apart without reading one. The `jti` is
the id and 128 secret random bits behind it: whoever has a signing key and every annotation still cannot make a token
that exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from injector.core.durations import DAY, MINUTE, span
from injector.core.errors import InjectorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ISSUER: Final = "dapr-token-injector"
AUDIENCE: Final = "dapr-api"
SUBJECT: Final = "dapr"
LIFETIME: Final = 90 * DAY  # seconds
# No token can be rolled out in less.
SHORTEST_LIFETIME: Final = MINUTE

# Claims that an option of its own sets.
OPTION_OF: Final = {
    "iss": "--iss",
    "sub": "--sub",
    "aud": "--aud",
    "exp": "--expires-in",
    "iat": "the time of issue",
    "nbf": "the time of issue",
    "jti": "chance",
}
# What Kubernetes itself makes random names of: no vowels, so no words, and nothing that looks like another character.
ID_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
ID_LENGTH: Final = 10

_CLAIM_NAME: Final = re.compile(r"[!-~]{1,64}")
_PRINTABLE: Final = re.compile(r"[ -~]+")
# A name with a colon is a URI by the RFC: a scheme stands before it.
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")


class BadClaimError(InjectorError):
    """Something is asked for that no token should say; the message shows no value."""

    reason = "bad-claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """What a token is to say; `lifetime` in seconds, `extra` are claims of the caller's own."""

    issuer: str = ISSUER
    subject: str = SUBJECT
    audience: Sequence[str] = (AUDIENCE,)
    lifetime: int = LIFETIME
    extra: Mapping[str, str] = field(default_factory=dict)


def build(wanted: TokenSpec, *, now: int, jti: str) -> dict[str, object]:
    """The claims of a token that is issued at `now` (seconds since 1970).

    Raises:
        BadClaimError: With the first claim that cannot be.
    """
    _check_name("iss", wanted.issuer)
    _check_name("sub", wanted.subject)
    if not wanted.audience:
        raise BadClaimError("aud: at least one audience is needed")
    for audience in wanted.audience:
        _check_name("aud", audience)
    for name, value in wanted.extra.items():
        _check_extra(name, value)
    return {
        "iss": wanted.issuer,
        "sub": wanted.subject,
        "aud": wanted.audience[0] if len(wanted.audience) == 1 else list(wanted.audience),
        "iat": now,
        "nbf": now,
        "exp": now + wanted.lifetime,
        "jti": jti,
        **wanted.extra,
    }


def id_of(jti: object) -> str | None:
    """The public id in a `jti` of ours; None in any other."""
    if not isinstance(jti, str):
        return None
    head, dot, _ = jti.partition(".")
    return head if dot and is_id(head) else None


def is_id(text: str) -> bool:
    """Whether the text is a token's id."""
    return len(text) == ID_LENGTH and set(text) <= set(ID_ALPHABET)


def _check_name(claim: str, value: object) -> None:
    """A StringOrURI: https://www.rfc-editor.org/rfc/rfc7519#section-2."""
    if not isinstance(value, str):
        raise BadClaimError(f"{claim}: text is needed, not {type(value).__name__}")
    if not _PRINTABLE.fullmatch(value) or value != value.strip():
        raise BadClaimError(f"{claim}: printable ASCII is needed, without blanks at its ends, and not empty")
    if ":" in value and not _URI.fullmatch(value):
        raise BadClaimError(f"{claim}: with a colon it has to be a URI, such as https://issuer.example or ns:shop")


def _check_extra(name: str, value: object) -> None:
    if name in OPTION_OF:
        raise BadClaimError(f"claim {name} is not free: {OPTION_OF[name]} sets it")
    if not _CLAIM_NAME.fullmatch(name):
        raise BadClaimError("the name of a claim is 1 to 64 characters of printable ASCII without spaces")
    if not isinstance(value, str):
        raise BadClaimError(f"claim {name}: text is needed, not {type(value).__name__}")
    if not _PRINTABLE.fullmatch(value):
        raise BadClaimError(f"claim {name}: printable ASCII is needed, and not empty")


# --- what a token that was read says ---


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """One look at a token: what was looked at, whether it is as it should be (None: unknown), and words."""

    what: str
    fine: bool | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedClaims:
    """What a verifier asks for; `leeway` in seconds, for clocks that differ."""

    audience: str | None = AUDIENCE
    issuer: str | None = None
    leeway: int = 60


def evaluate(claims: Mapping[str, object], expected: ExpectedClaims, *, now: int) -> tuple[TokenCheck, ...]:
    """Times, audience and issuer of a token's claims at `now` (seconds since 1970)."""
    return (
        _times(claims, expected.leeway, now),
        _audience(claims, expected.audience),
        _issuer(claims, expected.issuer),
    )


def time_of(claims: Mapping[str, object], name: str) -> int | None:
    """A claim that is a time, in seconds since 1970; None when it is absent or none."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _END_OF_TIME:
        return None
    return int(value)


# 9999-12-31, the last day that RFC 3339 can write.
_END_OF_TIME: Final = 253_402_300_800


def _times(claims: Mapping[str, object], leeway: int, now: int) -> TokenCheck:
    for name in ("exp", "iat", "nbf"):
        if claims.get(name) is not None and time_of(claims, name) is None:
            return TokenCheck("times", False, f"{name} is no time: a number of seconds since 1970 is needed")
    expires, begins = time_of(claims, "exp"), time_of(claims, "nbf")
    if expires is None:
        return TokenCheck("times", False, "there is no exp: it never expires")
    if begins is not None and now + leeway < begins:
        return TokenCheck("times", False, f"not valid yet: begins in {span(begins - now)}")
    if now - leeway >= expires:
        return TokenCheck("times", False, f"expired {span(now - expires)} ago")
    return TokenCheck("times", True, f"expires in {span(expires - now)}")


def _audience(claims: Mapping[str, object], wanted: str | None) -> TokenCheck:
    value = claims.get("aud")
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in audiences):
        return TokenCheck("audience", False, "there is no aud, or it is no text")
    if wanted is None:
        return TokenCheck("audience", None, "not asked for")
    fine = wanted in audiences
    return TokenCheck("audience", fine, wanted if fine else f"is not meant for {wanted}")


def _issuer(claims: Mapping[str, object], wanted: str | None) -> TokenCheck:
    value = claims.get("iss")
    if not isinstance(value, str):
        return TokenCheck("issuer", False, "there is no iss, or it is no text")
    if wanted is None:
        return TokenCheck("issuer", None, "not asked for")
    return TokenCheck("issuer", value == wanted, wanted if value == wanted else f"is not {wanted}")
