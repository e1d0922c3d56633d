"""Values, lists and warnings in messages."""

from __future__ import annotations

import pytest

from injector.core.messages import listed, redact, warning

HIDDEN = "a value of {} characters (not shown: it may be a token)"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), ""),
        (("a", "b"), "a, b"),
        (("a",) * 20, ", ".join("a" * 20)),
        (("a",) * 22, ", ".join("a" * 20) + ", and 2 more"),
        (("a" * 500, "b" * 12, "c"), "a" * 500 + ", " + "b" * 12 + ", and 1 more"),
        (("a" * 600, "b"), "a" * 600 + ", and 1 more"),
    ],
)
def test_long_list_is_shown_in_part(words: tuple[str, ...], text: str) -> None:
    assert listed(words) == text


@pytest.mark.parametrize(
    "value",
    [
        "My_Secret",
        "other-ns/s",
        "../x",
        "a b",
        "MY_SECRET",
        "MyAppSecret",
        "my-app-secret-v2-2024",
        "dapr-api-token-20240101",
        "s:token",
        "K8s_Secret",
        "DAPR_API_TOKEN_SECRET_NAME",
        "my-secret-name-that-is-long_",
    ],
)
def test_readable_value_is_shown(value: str) -> None:
    assert redact(value) == f'"{value}"'


@pytest.mark.parametrize(
    "value",
    [
        "eyJ",
        "'eyJhbGci",
        "Bearer eyJhbGci",
        "a" * 64,
        "abcdefgh12345678",
        "ABCDEFGHabcdefgh",
        "ABCDEFGHIJKLMNOP",
        "1234567890123456",
        "aB3+dE5/gH7=jK9_",
        "q3Zx7LmP0v-d9RtY2wNs5-bG8cJf1A",
        "550e8400-e29b-41d4-a716-446655440000",
        "00000000-0000-4000-8000-000000000000_",
        "76155982-5254-4089-8215-735350635512",
        "hJ8#kL2$mN5%",
        "!@#$pass",
        "Tr0ub4dor&3",
    ],
)
def test_value_that_resembles_a_token_is_never_shown(value: str) -> None:
    assert redact(value) == HIDDEN.format(len(value))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("{{ .Values.secret }}", 'the placeholder "{{ .Values.secret }}"'),
        ("$(SECRET)", 'the placeholder "$(SECRET)"'),
        ("<your-secret>", 'the placeholder "<your-secret>"'),
        ("${SECRET}", 'the placeholder "${SECRET}"'),
        ("orders-${ENV}", 'the placeholder "orders-${ENV}"'),
        ("#{SECRET}#", 'the placeholder "#{SECRET}#"'),
        ("%SECRET%", 'the placeholder "%SECRET%"'),
        ("@@SECRET@@", 'the placeholder "@@SECRET@@"'),
        # The default of a placeholder may be a token.
        ("${DAPR_SECRET:=dapr-api-token}", "a placeholder"),
        ("${TOKEN:=q3Zx7LmP0v-d9RtY2wNs5}", "a placeholder"),
        ("<path:secret/data/dapr#token-of-the-application-in-production-1>", "a placeholder"),
    ],
)
def test_placeholder_is_named(value: str, shown: str) -> None:
    assert redact(value) == shown


def test_shown_value_has_at_most_forty_characters() -> None:
    assert redact("a_" * 20) == '"' + "a_" * 20 + '"'
    assert redact("a_" * 20 + "b") == '"' + "a_" * 18 + 'a..."'
    assert redact("a_" * 31 + "a") == '"' + "a_" * 18 + 'a..."'
    assert redact("a_" * 32) == HIDDEN.format(64)


def test_shown_value_is_printable_ascii() -> None:
    assert redact("ä\n\x1b") == '"???"'


def test_warning_is_printable_ascii_under_120_characters() -> None:
    assert warning("a\nb\x1bé~ ") == "a?b??~ "
    assert warning("x" * 119) == "x" * 119
    assert warning("x" * 120) == "x" * 116 + "..."
