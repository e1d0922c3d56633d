"""Formats text for people: numbers with their nouns, lines of pages, and characters that a terminal would act on."""

from __future__ import annotations

import re
import textwrap
from typing import Final


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: `1 file`, `2,000 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


_PAGE_WIDTH: Final = 118


def folded(paragraph: str) -> str:
    """Return a paragraph of a page in Markdown, in lines of at most 118 characters."""
    return textwrap.fill(paragraph, _PAGE_WIDTH, break_long_words=False, break_on_hyphens=False)


_SUSPECT: Final = re.compile(r"[^ -~]")
# Line ends and tabs are the layout of a text.
_SUSPECT_IN_LINES: Final = re.compile(r"\r(?!\n)|[^ -~\n\t\r]")


def escaped(text: str, *, is_line: bool = True) -> str:
    """Return the text with JSON's escapes for what is not printable: control, bidirectional and invisible characters.

    `is_line` escapes line ends and tabs, too. JSON in which only such characters are escaped keeps its values.
    """
    return (_SUSPECT if is_line else _SUSPECT_IN_LINES).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    if found[0].isprintable():
        return found[0]
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
