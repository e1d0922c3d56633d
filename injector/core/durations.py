"""Durations in options and settings: `90s`, `10m`, `12h`, `90d`, `2w`; and as text for people."""

from __future__ import annotations

import re
from typing import Final

MINUTE: Final = 60  # seconds
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY

UNITS: Final = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_LONGEST: Final = 520 * WEEK
_DURATION: Final = re.compile(r"(\d{1,12})([smhdw]?)", re.ASCII)
# A value is quoted in messages if it is too short to be a token.
_LONGEST_QUOTE: Final = 15


def parse(text: str, *, shortest: int = 0) -> int:
    """Return the seconds in a whole number with a unit.

    Args:
        text: Such as `90s`, `10m`, `12h`, `90d` or `2w`; blanks around it are ignored.
        shortest: The least number of seconds that is allowed. The longest duration is 520 weeks.

    Raises:
        ValueError: There is no number or no unit, or the duration is out of range; the message says what to use.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        is_short = len(text) <= _LONGEST_QUOTE and text.isascii() and text.isprintable()
        value = f'"{text}"' if is_short else "the value"
        raise ValueError(f"{value} is not a duration; use a whole number and a unit: 30s, 10m, 12h, 90d or 2w")
    number, unit = found.groups()
    if not unit:
        raise ValueError(f'"{number}" has no unit; use {number}s, {number}m or 1h')
    seconds = int(number) * UNITS[unit]
    if not shortest <= seconds <= _LONGEST:
        raise ValueError(f'"{number}{unit}" is out of range; use {shortest}s to 520w')
    return seconds


def span(seconds: float) -> str:
    """Return a duration in the largest unit of which it has two or more: `89 days`, `3 hours`."""
    for unit, length in (("days", DAY), ("hours", HOUR), ("minutes", MINUTE)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} seconds"
