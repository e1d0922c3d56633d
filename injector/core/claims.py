"""Builds and evaluates the claims of a JWT.

Claims are those of RFC 7519: https://www.rfc-editor.org/rfc/rfc7519#section-4.1. Neither PyJWT nor joserfc checks the
types of the claims that it signs, so `build` does. Tokens hold no personal data.
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
# A rollout takes longer than that.
SHORTEST_LIFETIME: Final = MINUTE

# What sets each registered claim.
OPTION_OF: Final = {
    "iss": "--iss",
    "sub": "--sub",
    "aud": "--aud",
    "exp": "--expires-in",
    "iat": "the time of issue",
    "nbf": "the time of issue",
    "jti": "the token's id",
}

_CLAIM_NAME: Final = re.compile(r"[!-~]{1,64}")
_PRINTABLE: Final = re.compile(r"[ -~]+")
# By the RFC, a name with a colon is a URI, so it starts with a scheme.
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")


class BadClaimError(InjectorError):
    """A claim is not valid; the message shows no value."""

    reason = "bad-claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """Claims of a token to create; `lifetime` in seconds, `extra`: the caller's own claims."""

    issuer: str = ISSUER
    subject: str = SUBJECT
    audience: Sequence[str] = (AUDIENCE,)
    lifetime: int = LIFETIME
    extra: Mapping[str, str] = field(default_factory=dict)


def build(wanted: TokenSpec, *, now: int, jti: str) -> dict[str, object]:
    """Return the claims of a token issued at `now` (seconds since 1970).

    Raises:
        BadClaimError: A claim is not valid; names the first one.
    """
    _check_name("iss", wanted.issuer)
    _check_name("sub", wanted.subject)
    if not wanted.audience:
        raise BadClaimError("--aud: no audience; give at least one")
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


def _check_name(claim: str, value: object) -> None:
    """Check a StringOrURI: https://www.rfc-editor.org/rfc/rfc7519#section-2."""
    if not isinstance(value, str):
        raise BadClaimError(f"{OPTION_OF[claim]}: not a string but {type(value).__name__}")
    if not _PRINTABLE.fullmatch(value) or value != value.strip():
        raise BadClaimError(f"{OPTION_OF[claim]}: not valid; use printable ASCII without spaces at its ends")
    if ":" in value and not _URI.fullmatch(value):
        raise BadClaimError(
            f"{OPTION_OF[claim]}: not a URI; with a colon it must be one, such as https://issuer.example or ns:shop"
        )


def _check_extra(name: str, value: object) -> None:
    if name in OPTION_OF:
        raise BadClaimError(f"--claim {name}: already set by {OPTION_OF[name]}; use another name")
    if not _CLAIM_NAME.fullmatch(name):
        raise BadClaimError("--claim: not a valid name; use 1 to 64 characters of printable ASCII without spaces")
    if not isinstance(value, str):
        raise BadClaimError(f"--claim {name}: not a string but {type(value).__name__}")
    if not _PRINTABLE.fullmatch(value):
        raise BadClaimError(f"--claim {name}: not valid; use printable ASCII, not empty")


# --- evaluation ---


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """Result of one check of a token.

    `what`: the part that was checked. `fine`: None if it was not checked. `message`: for people.
    """

    what: str
    fine: bool | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedClaims:
    """Claims that a verifier requires; `leeway`: allowed clock skew in seconds."""

    audience: str | None = AUDIENCE
    issuer: str | None = None
    leeway: int = 60


def evaluate(claims: Mapping[str, object], expected: ExpectedClaims, *, now: int) -> tuple[TokenCheck, ...]:
    """Check times, audience and issuer of a token's claims at `now` (seconds since 1970)."""
    return (
        _times(claims, expected.leeway, now),
        _audience(claims, expected.audience),
        _issuer(claims, expected.issuer),
    )


def time_of(claims: Mapping[str, object], name: str) -> int | None:
    """Return a claim as seconds since 1970; None if it is absent or not a time."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _END_OF_TIME:
        return None
    return int(value)


# After 9999-12-31, the last day that RFC 3339 can represent.
_END_OF_TIME: Final = 253_402_300_800


def _times(claims: Mapping[str, object], leeway: int, now: int) -> TokenCheck:
    for name in ("exp", "iat", "nbf"):
        if claims.get(name) is not None and time_of(claims, name) is None:
            return TokenCheck("times", False, f"{name} is not a time: it must be a number of seconds since 1970")
    expires, begins = time_of(claims, "exp"), time_of(claims, "nbf")
    if expires is None:
        return TokenCheck("times", False, "exp is missing: the token never expires")
    if begins is not None and now + leeway < begins:
        return TokenCheck("times", False, f"not valid yet: starts in {span(begins - now)}")
    if now - leeway >= expires:
        return TokenCheck("times", False, f"expired {span(now - expires)} ago")
    return TokenCheck("times", True, f"expires in {span(expires - now)}")


def _audience(claims: Mapping[str, object], wanted: str | None) -> TokenCheck:
    value = claims.get("aud")
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in audiences):
        return TokenCheck("audience", False, "aud is missing or not a string")
    if wanted is None:
        return TokenCheck("audience", None, "not checked")
    fine = wanted in audiences
    return TokenCheck("audience", fine, wanted if fine else f"aud does not contain {wanted}")


def _issuer(claims: Mapping[str, object], wanted: str | None) -> TokenCheck:
    value = claims.get("iss")
    if not isinstance(value, str):
        return TokenCheck("issuer", False, "iss is missing or not a string")
    if wanted is None:
        return TokenCheck("issuer", None, "not checked")
    return TokenCheck("issuer", value == wanted, wanted if value == wanted else f"is not {wanted}")
