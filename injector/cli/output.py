"""Writes the output of commands: results to stdout, notes and progress to stderr, colours on terminals."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, TextIO, TypeVar, cast

import click

from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType
    from rich.live import Live

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")

# Moves the cursor to the start of the line and clears the line.
_CLEAR: Final = "\r\x1b[K"
# Files between two updates of the progress line: frequent enough to be seen, rare enough to be cheap.
_EVERY: Final = 10


def output_option(*formats: str, note: str = "") -> Callable[[_CommandT], _CommandT]:
    """Return the option `-o`, `--output`; the first format is the default, `note` follows in the help."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help=f"Set the output format{note}.",
    )


class SafeStream:
    """A text stream that escapes what a terminal would act on; `raw` takes our colours and cursor movements."""

    def __init__(self, stream: TextIO) -> None:
        self.raw: Final = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters escaped."""
        return self.raw.write(escaped(text, is_line=False))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.raw, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Escape everything that is written to stdout and stderr as text. Bytes pass: they are a user's manifests.

    A stream that is closed, as by `>&-`, takes everything and keeps nothing.
    """
    before = [stream or open(os.devnull, "w", encoding="utf-8") for stream in (sys.stdout, sys.stderr)]  # noqa: SIM115,PTH123 - for the rest of the process
    safe = [cast("TextIO", SafeStream(stream)) for stream in before]
    sys.stdout, sys.stderr = safe
    try:
        yield
    finally:
        # click and `main` replace a stream that was closed: that one stays.
        sys.stdout, sys.stderr = (
            old if now is new else now for now, new, old in zip((sys.stdout, sys.stderr), safe, before, strict=True)
        )


def echo_styled(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Write a text with styles of ours in it, in which everything else is `escaped`."""
    click.echo(text, file=raw(sys.stderr if err else sys.stdout), nl=nl, color=True)


def raw(stream: TextIO) -> TextIO:
    """Return the stream itself, without the escapes of `safe_streams`."""
    return stream.raw if isinstance(stream, SafeStream) else stream


def is_terminal(stream: IO[str]) -> bool:
    """Return whether the stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def wants_colour(stream: IO[str]) -> bool:
    """Return whether to colour output: on a terminal with colours, unless NO_COLOR (https://no-color.org) is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


_DIFF_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


def coloured(line: str) -> str:
    """Return a line of a diff with colours."""
    text = line.removesuffix("\n")
    end = line[len(text) :]
    if line.startswith(("+++", "---")):
        return click.style(text, bold=True) + end
    colour = _DIFF_COLOURS.get(line[:1])
    return click.style(text, fg=colour) + end if colour else line


def show_progress(line: str) -> None:
    """Replace the progress line on stderr, if that is a terminal; empty removes it."""
    if is_terminal(sys.stderr):
        echo_styled(f"{_CLEAR}{line}", err=True, nl=False)


def live_display(stream: TextIO, rendered: Callable[[int], RenderableType]) -> Live:
    """Return a display of what `rendered` returns for a height; it is drawn four times a second."""
    from rich.console import Console  # noqa: PLC0415 - only who watches pays for it
    from rich.live import Live  # noqa: PLC0415 - as above

    console = Console(file=raw(stream), no_color=not wants_colour(stream))
    # A display that is higher than the terminal could not be erased.
    return Live(
        console=console,
        transient=True,
        refresh_per_second=4,
        get_renderable=lambda: rendered(console.height - 1),
    )


class Reporter:
    """Writes notes, errors and progress to stderr."""

    def __init__(self, total: int, *, quiet: bool, noun: str = "files", every: int = _EVERY) -> None:
        self._total = total
        self._quiet = quiet
        self._noun = noun
        self._every = every
        self._is_terminal = not quiet and is_terminal(sys.stderr)
        self._passed = 0
        self._is_shown = False

    def expect(self, more: int) -> None:
        """Add to the total."""
        self._total += more

    def passed(self) -> None:
        """Count a finished item and update the progress line."""
        self._passed += 1
        if self._is_terminal and self._total > 1 and self._passed % self._every == 0:
            echo_styled(f"{_CLEAR}{self._passed} of {self._total} {self._noun}", err=True, nl=False)
            self._is_shown = True

    def clear(self) -> None:
        """Remove the progress line before other output."""
        if self._is_shown:
            echo_styled(_CLEAR, err=True, nl=False)
            self._is_shown = False

    def note(self, line: str) -> None:
        """Write a note, unless quiet."""
        if not self._quiet:
            self.clear()
            click.echo(escaped(line), err=True)

    def error(self, line: str) -> None:
        """Write an error."""
        self.clear()
        click.echo(f"Error: {escaped(line)}", err=True)


@dataclass(slots=True)
class Tally:
    """Counts of a run; `decisions` counts Pod templates by verdict and reason, such as `("skip", "no-sidecar")`."""

    files: int = 0
    documents: int = 0
    changed: int = 0
    failed: int = 0
    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add the counts of another run."""
        self.files += other.files
        self.documents += other.documents
        self.changed += other.changed
        self.failed += other.failed
        self.decisions.update(other.decisions)

    def lines(self, verb: str) -> list[str]:
        """Return the summary of a run; `verb`: the past participle for changed files."""
        templates = sum(self.decisions.values())
        head = [counted(self.files, "file"), counted(self.documents, "document"), counted(templates, "Pod template")]
        summary = f"{', '.join(head)}; {counted(self.changed, 'file')} {verb}"
        if self.failed:
            summary += f"; {counted(self.failed, 'file')} not done"
        width = max((len(reason) for _, reason in self.decisions), default=0)
        rows = sorted(self.decisions.items())
        return [summary, *(f"  {verdict:<8} {reason:<{width}} {count:>7,}" for (verdict, reason), count in rows)]


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as lines with aligned columns; the first row may be headings."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
