from __future__ import annotations

import re

import pytest

from injector.core.durations import parse, span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("3600s", 3600),
        ("1m", 60),
        ("30m", 1800),
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("2w", 1_209_600),
        (" 1h ", 3600),
    ],
)
def test_parse_returns_seconds(text: str, seconds: int) -> None:
    assert parse(text) == seconds


_FORMS = "is not a duration; use a whole number and a unit: 30s, 10m, 12h, 90d or 2w"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("90", '"90" has no unit; use 90s, 90m or 1h'),
        ("0", '"0" has no unit; use 0s, 0m or 1h'),
        ("", f'"" {_FORMS}'),
        ("d", f'"d" {_FORMS}'),
        ("-1d", f'"-1d" {_FORMS}'),
        ("1.5d", f'"1.5d" {_FORMS}'),
        ("90 d", f'"90 d" {_FORMS}'),
        ("1d12h", f'"1d12h" {_FORMS}'),
        ("٣d", f"the value {_FORMS}"),
        ("1\x1b[2J", f"the value {_FORMS}"),
        ("hunter2hunter2hunter2", f"the value {_FORMS}"),
        ("9" * 400 + "d", f"the value {_FORMS}"),
        ("0d", '"0d" is out of range; use 60s to 520w'),
        ("59s", '"59s" is out of range; use 60s to 520w'),
        ("521w", '"521w" is out of range; use 60s to 520w'),
    ],
)
def test_parse_rejects_other_text_with_what_to_use(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(text, shortest=60)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (90 * 86_400, "90 days")],
)
def test_span_uses_the_largest_unit_that_fits_twice(seconds: float, text: str) -> None:
    assert span(seconds) == text
