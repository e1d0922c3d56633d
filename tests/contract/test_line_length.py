"""Prose of the documentation has lines that fit a terminal and a diff."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
MAX_COLUMNS: Final = 120


def too_long(text: str) -> list[int]:
    """The numbers of the lines of prose that are too long and can be wrapped.

    Tables, code blocks, comments, lines with a URL and lines of one word cannot.
    """
    found = []
    in_code = False
    for number, line in enumerate(text.splitlines(), 1):
        start = line.lstrip()
        in_code ^= start.startswith("```")
        if len(line) <= MAX_COLUMNS or in_code or start.startswith(("|", "<!--")) or "://" in line:
            continue
        if " " in start:
            found.append(number)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_no_long_line_of_prose(page: Path) -> None:
    assert too_long(page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("word " * 24, []),
        ("word " * 25, [1]),
        ("\n  " + "word " * 25, [2]),
        ("w" * 121, []),
        ("https://a.example " + "word " * 25, []),
        ("| " + "word " * 25, []),
        ("<!-- not run: " + "word " * 25 + "-->", []),
        ("```\n" + "word " * 25 + "\n```\n" + "word " * 25, [4]),
    ],
)
def test_finding_is_a_long_line_that_can_be_wrapped(text: str, found: list[int]) -> None:
    assert too_long(text) == found
