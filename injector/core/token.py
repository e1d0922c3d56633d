"""What a token may be, and the type that holds one without ever showing it.

Dapr compares strings, so anything goes that every client can put into an HTTP header and into gRPC metadata unchanged:
printable ASCII without blanks. The lower bound keeps out what can be guessed, the upper one what servers refuse as a
header.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NoReturn, final

from injector.core.errors import TokenError

# Bytes. Ours: 16 random ones are what OWASP asks of a session's key; common servers take headers of 8 KiB in all.
MIN_TOKEN: Final = 16
MAX_TOKEN: Final = 4096

_ALLOWED: Final = f"a token is {MIN_TOKEN} to {MAX_TOKEN:,} bytes of printable ASCII without spaces"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PRINTABLE: Final = frozenset(range(0x21, 0x7F))  # `!` to `~`


@final
class Token:
    """A token that was checked. Its value is had by `reveal` alone: no repr, format, pickle or traceback shows it."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        """Use `parse_token`: it checks first."""
        self._value = value

    def reveal(self) -> str:
        """The value, for the one place that sends or stores it."""
        return self._value.decode("ascii")

    def __repr__(self) -> str:
        return "Token(...)"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Token) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not written down by accident")


class TokenFlaw(Enum):
    """What can be wrong with the bytes of a token."""

    EMPTY = "empty"
    NEWLINE = "newline"
    CHARACTER = "character"  # anything but printable ASCII without spaces
    LENGTH = "length"


def flaw_of(value: bytes) -> TokenFlaw | None:
    """Return the first thing that is wrong with the bytes of a token; None for a valid one."""
    if not value:
        return TokenFlaw.EMPTY
    if b"\n" in value or b"\r" in value:
        return TokenFlaw.NEWLINE
    if not _PRINTABLE.issuperset(value):
        return TokenFlaw.CHARACTER
    return None if MIN_TOKEN <= len(value) <= MAX_TOKEN else TokenFlaw.LENGTH


def parse_token(value: bytes) -> Token:
    """Return the bytes as a token, exactly as they are: nothing is trimmed.

    Raises:
        TokenError: They are not a valid token; the message has at most a length or a position of them.
    """
    flaw = flaw_of(value)
    if flaw is not None:
        raise TokenError(f"{_reason(value, flaw)}; {_ALLOWED}")
    return Token(value)


def parse_sealable_token(value: bytes) -> Token:
    """Return the bytes as a token that an env file can hold between single quotes, where nothing can be escaped.

    Raises:
        TokenError: As `parse_token`, and if there is a single quote in it.
    """
    token = parse_token(value)
    position = value.find(b"'")
    if position >= 0:
        raise TokenError(
            f"byte {position + 1:,} is a single quote; {_ALLOWED}, in a sealed Pod also without single quotes"
        )
    return token


def _reason(value: bytes, flaw: TokenFlaw) -> str:
    """What is wrong with the bytes, in words. What a file usually gets wrong comes before the rest."""
    if flaw is TokenFlaw.EMPTY:
        return "it is empty (Dapr takes an empty token for none and serves clients without a token)"
    if flaw is TokenFlaw.LENGTH:
        return (
            f"it has {len(value):,} byte{'' if len(value) == 1 else 's'}"
            if len(value) < MIN_TOKEN
            else f"it has more than {MAX_TOKEN:,} bytes"
        )
    if value.startswith(_BYTE_ORDER_MARK):
        return "it begins with a byte order mark"
    if value.endswith((b"\n", b"\r")):
        return "it ends with a newline (editors and `echo` add one; `printf %s` does not)"
    position = next(position for position, byte in enumerate(value) if byte not in _PRINTABLE)
    return f"byte {position + 1:,} is {_kind(value[position])}"


def _kind(byte: int) -> str:
    match byte:
        case 0x20:
            return "a space"
        case 0x0A | 0x0D:
            return "a line break"
        case _ if byte < 0x80:  # noqa: PLR2004 - the end of ASCII
            return "a control character"
        case _:
            return "not ASCII"
