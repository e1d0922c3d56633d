"""The fenced blocks of a page, with what an HTML comment on the line before says about them.

`<!-- not run: REASON -->`: no test runs the block.
`<!-- run in: PAGE, ... -->`: its commands are those of other pages, where they are run.
`<!-- tested: NAME -->`: a test of its own refers to it by name.
`<!-- file: NAME -->`: a file that the reader saves; later commands use it.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
NOT_RUN: Final = "not run"
RUN_IN: Final = "run in"
TESTED: Final = "tested"
FILE: Final = "file"
SHELL: Final = frozenset({"console", "sh", "bash", "shell"})
_BLOCK: Final = re.compile(
    r"^(?: *<!-- (?P<mark>[a-z ]+): (?P<about>[^\n]+) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block, with its continuation lines, and the output that the page shows below it."""

    text: str
    output: str


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its fence, `mark` and `about` are of the comment before it."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    about: str = ""

    def commands(self) -> Iterator[Command]:
        """The commands: those after a `$` and a space, or the whole block if it has none."""
        if self.language != "console":
            yield Command(self.text, "")
            return
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            end = next(end for end in range(1, len(lines) + 1) if _is_complete("".join(lines[:end])))
            yield Command("".join(lines[:end]), "".join(lines[end:]))


def _is_complete(text: str) -> bool:
    """Whether a shell would run the text, and not read on: no quote is open, and no backslash ends it."""
    if text.endswith("\\\n"):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def blocks(page: str) -> tuple[Block, ...]:
    """The blocks of a page, which is named from the top of the repository."""
    return parse(page, (ROOT / page).read_text())


def parse(page: str, text: str) -> tuple[Block, ...]:
    """The blocks of a text."""
    return tuple(
        Block(
            page,
            text.count("\n", 0, match.start("indent")) + 1,
            match["language"],
            textwrap.dedent(match["text"]),
            match["mark"] or "",
            match["about"] or "",
        )
        for match in _BLOCK.finditer(text)
    )


def shell_blocks(page: str) -> tuple[Block, ...]:
    """The blocks of a page that a reader types."""
    return tuple(block for block in blocks(page) if block.language in SHELL)


def named_blocks(page: str) -> dict[str, Block]:
    """The blocks of a page that have a test of their own, by name."""
    return {block.about: block for block in blocks(page) if block.mark == TESTED}


def pages() -> tuple[str, ...]:
    """Every page for users and contributors."""
    found = [*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/**/*.md")]
    return tuple(sorted(str(page.relative_to(ROOT)) for page in found))
