"""The words of messages: values that may be shown, lists of bounded length, and warnings that an API server accepts.

Any value may be a token that was pasted into the wrong place, so a message contains a value only after `redact`, which
hides everything that may be a token.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.placeholders import has_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A random token has long runs of letters and digits that mix cases or letters with digits; a name that a person chose
# has separators or words.
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/=_]{16,}")
# Long, and neither words nor a date.
_LONG_NUMBER: Final = re.compile(r"[A-Z0-9]{16,}")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# Positions where lower case, capitals and digits meet, except for the capital that begins a word; base64url may have
# dashes in between. A chosen name has few of them, "web-v2" has one; 16 random letters and digits have 8.
_SEAM: Final = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Za-z])|(?<=[A-Z])(?=[0-9])|(?<=[A-Z])(?=[A-Z][a-z])")
# A chosen name, even a wrong one, has few of these: "$(NAME)" has three. A password of 16 characters has more.
_SYMBOL: Final = re.compile(r"[^A-Za-z0-9._/ -]")
_MOST_ODDITIES: Final = 3
# The beginning of a JSON Web Token: base64 of '{"'.
_JWT: Final = "eyJ"


def redact(value: str) -> str:
    """A user's value for a message: quoted printable ASCII of at most 40 characters, or only its length.

    A placeholder is called so: what it stands for is not in the text, but its default may be a token.
    """
    is_template = has_placeholder(value)
    if looks_like_token(value):
        return "a placeholder" if is_template else f"a value of {len(value)} characters (not shown: it may be a token)"
    clipped = value if len(value) <= names.MAX_SHOWN_VALUE else value[: names.MAX_SHOWN_VALUE - 3] + "..."
    return f'{"the placeholder " if is_template else ""}"{_plain(clipped)}"'


def unrendered(value: str) -> str:
    """The advice for a value with a placeholder, to be added to a message; empty for other values."""
    return "; render the manifest first" if has_placeholder(value) else ""


def warning(text: str) -> str:
    """The text as a valid warning: printable ASCII of less than 120 characters.

    The API server drops a warning that has a control character, and may cut a long one in the middle.
    """
    return _plain(text if len(text) <= names.MAX_WARNING else text[: names.MAX_WARNING - 3] + "...")


def _plain(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)


class WarningList:
    """Warnings in the order in which they are found: the first `MAX_WARNINGS` as text, the rest only counted.

    A response must not grow with the request, and no work is done for a text that it does not contain.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.more = 0

    def add(self, *parts: str) -> None:
        """Add one warning. The parts are joined only if there is room."""
        if len(self.lines) < names.MAX_WARNINGS:
            self.lines.append(warning("".join(parts)))
        else:
            self.more += 1

    def extend(self, lines: Iterable[str], more: int = 0) -> None:
        """Add finished warnings, and a number of warnings without text."""
        for line in lines:
            self.add(line)
        self.more += more

    def result(self) -> tuple[str, ...]:
        """All lines; if there were more warnings, the last line has their number."""
        return (*self.lines, f"and {self.more} more warnings") if self.more else tuple(self.lines)


def listed(words: Sequence[str], most: int = names.MAX_LISTED) -> str:
    """The words, separated by commas; of a long list, the first ones and the number of the others."""
    shown_words: list[str] = []
    room = names.MAX_LISTED_CHARACTERS
    for word in words[:most]:
        room -= len(word)
        if room < 0 and shown_words:
            break
        shown_words.append(word)
    more = len(words) - len(shown_words)
    return ", ".join([*shown_words, f"and {more:,} more"] if more else shown_words)


def looks_like_token(value: str) -> bool:
    """Whether a value looks like a token, which no message may show."""
    if len(value) > names.MAX_SHOWABLE_LENGTH or _JWT in value or _LONG_NUMBER.search(value) or _UUID.search(value):
        return True
    oddities = len(_SEAM.findall(value)) + len(set(_SYMBOL.findall(value)))
    return oddities > _MOST_ODDITIES or any(_is_mixed(run) for run in _LONG_RUN.findall(value))


def _is_mixed(run: str) -> bool:
    kinds = (any(c.islower() for c in run), any(c.isupper() for c in run), any(c.isdigit() for c in run))
    return sum(kinds) > 1
