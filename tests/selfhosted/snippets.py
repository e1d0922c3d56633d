"""Examples of a page of the documentation: fenced code below a line `<!-- tested: NAME -->`, indented as it is."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOW_TO: Final = Path(__file__).parents[2] / "docs/how-to"
_EXAMPLE: Final = re.compile(
    r"^ *<!-- tested: (?P<name>\S+) -->\n *```(?P<language>\w+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_FENCE: Final = re.compile(r"^```(?P<language>\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One example."""

    name: str
    language: str
    text: str


def snippets(page: str) -> dict[str, Snippet]:
    """The examples of a page, by name."""
    found = [
        Snippet(match["name"], match["language"], textwrap.dedent(match["text"]))
        for match in _EXAMPLE.finditer((HOW_TO / page).read_text())
    ]
    return {snippet.name: snippet for snippet in found}


def fences(page: str) -> int:
    """How many pieces of code a page has at the margin."""
    return len(_FENCE.findall((HOW_TO / page).read_text()))
