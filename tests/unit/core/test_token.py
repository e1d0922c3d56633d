from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from injector.core.errors import TokenError
from injector.core.token import MAX_TOKEN, MIN_TOKEN, Token, flaw_of, parse_sealable_token, parse_token

VALUE = b"marker-0123456789abcdef"


def test_printable_ascii_is_accepted_unchanged() -> None:
    every = bytes(range(0x21, 0x7F))

    assert flaw_of(every) is None
    assert parse_token(every).reveal() == every.decode()


@pytest.mark.parametrize("size", [MIN_TOKEN, MAX_TOKEN])
def test_length_bounds_are_inclusive(size: int) -> None:
    assert parse_token(b"x" * size).reveal() == "x" * size


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "it is empty"),
        (b"x", "it has 1 byte;"),
        (b"x" * (MIN_TOKEN - 1), "it has 15 bytes;"),
        (b"x" * (MAX_TOKEN + 1), "it has more than 4,096 bytes;"),
        (VALUE + b"\n", "it ends with a newline"),
        (VALUE + b"\r\n", "it ends with a newline"),
        (b"\n", "it ends with a newline"),
        (b"\xef\xbb\xbf" + VALUE, "it begins with a byte order mark"),
        (b" " + VALUE, "byte 1 is a space"),
        (VALUE + b" ", "byte 24 is a space"),
        (VALUE + b"\n" + VALUE, "byte 24 is a line break"),
        (VALUE + b"\x00", "byte 24 is a control character"),
        (VALUE + b"\x7f", "byte 24 is a control character"),
        (VALUE + "ü".encode(), "byte 24 is not ASCII"),
    ],
)
def test_anything_else_is_refused_with_the_reason(value: bytes, why: str) -> None:
    assert flaw_of(value) is not None
    with pytest.raises(TokenError) as caught:
        parse_token(value)

    message = str(caught.value)
    assert message.startswith(why)
    assert message.endswith("a token is 16 to 4,096 bytes of printable ASCII without spaces")
    assert b"marker" not in message.encode()


def test_value_is_shown_only_by_reveal() -> None:
    token = parse_token(VALUE)

    shown = [repr(token), str(token), f"{token}", f"{token!r:>40}", repr([token]), "%s" % token]  # noqa: UP031

    assert not any("marker" in text for text in shown)


def test_value_is_not_pickled_or_copied() -> None:
    token = parse_token(VALUE)

    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            attempt(token)
        assert "marker" not in "".join(traceback.format_exception(caught.value))


def test_equal_values_are_equal_tokens() -> None:
    assert parse_token(VALUE) == Token(VALUE)
    assert hash(parse_token(VALUE)) == hash(Token(VALUE))
    assert parse_token(VALUE) != parse_token(VALUE * 2)
    assert parse_token(VALUE) != VALUE


def test_sealable_token_has_no_single_quote() -> None:
    assert parse_sealable_token(VALUE).reveal() == VALUE.decode()
    with pytest.raises(TokenError, match=r"^byte 24 is a single quote; .* in a sealed Pod also without single quotes$"):
        parse_sealable_token(VALUE + b"'" + VALUE)
    with pytest.raises(TokenError, match="it is empty"):
        parse_sealable_token(b"")
