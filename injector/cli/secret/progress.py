"""Shows the progress of a rotation on stderr: a live table on a terminal, otherwise a line for each change."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

import click

from injector.cli.output import is_terminal, live_display, table
from injector.core.messages import listed
from injector.core.rollout import SkipReason, State
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.live import Live
    from rich.table import Table as RichTable

    from injector.core.rollout import Progress
    from injector.core.token_state import Ref

_COLOURS: Final[Mapping[State, str]] = {
    State.READY: "green",
    State.UP_TO_DATE: "green",
    State.STARTED: "cyan",
    State.RESTARTING: "cyan",
    State.SKIPPED: "yellow",
    State.UNCERTAIN: "yellow",
    State.FAILED: "red",
    State.NOT_INJECTED: "red",
    State.UNKNOWN: "red",
    State.NOT_STARTED: "yellow",
    State.NOT_RESTARTED: "yellow",
}
_MOST_PODS: Final = 3


class ProgressTable:
    """Shows progress for as long as it is entered."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._shown: dict[Ref, Progress] = {}

    def __enter__(self) -> Self:
        if is_terminal(sys.stderr):
            # Rows are made at each refresh, not at each change: that would be quadratic in the number of workloads.
            self._live = live_display(sys.stderr, lambda height: live_rows(list(self._shown.values()), height))
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def in_state(self, *states: State) -> list[str]:
        """Return the workloads in one of these states."""
        return [str(ref) for ref, one in self._shown.items() if one.state in states]

    def show(self, progress: Progress) -> None:
        """Show the progress of one workload, which has changed."""
        before = self._shown.get(progress.ref)
        self._shown[progress.ref] = progress
        is_news = before is None or (before.state, before.message) != (progress.state, progress.message)
        if self._live is None and is_news and progress.state in _REPORTED_STATES:
            click.echo(f"{progress.ref}: {progress.state}{_in_brackets(message_of(progress))}", err=True)

    def note(self, line: str) -> None:
        """Print a line above the table."""
        if self._live is not None:
            self._live.console.print(escaped(line), markup=False, highlight=False)
        else:
            click.echo(line, err=True)


def _in_brackets(message: str) -> str:
    return f" ({message})" if message else ""


_REPORTED_STATES: Final = frozenset({State.RESTARTING, State.STARTED, State.READY, State.FAILED, State.NOT_INJECTED})


def lines(progress: Iterable[Progress]) -> Iterator[str]:
    """Yield the result of a rotation, a line for each workload, with aligned columns."""
    rows = [(str(one.ref), one.state.value, _rest(one)) for one in progress]
    if not rows:
        yield "no running Pod uses these Secrets"
        return
    yield from table(rows)


def message_of(one: Progress) -> str:
    """Return why a workload is in its state, with the option that continues."""
    if one.state is State.UNCERTAIN:
        return f"{one.message}; restart with --include-uncertain"
    if one.skip_reason is SkipReason.PAUSED:
        return f"{one.message}, then run this again with --resume"
    return f"{one.message}; continue with --resume" if one.is_cancelled else one.message


def _rest(one: Progress) -> str:
    pods = {"outdated": one.outdated, "uncertain": one.uncertain, "without a token": one.missing}
    parts = [message_of(one), *(f"{word}: {some(found)}" for word, found in pods.items() if found)]
    return "; ".join(part for part in parts if part)


def some(pods: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return listed(pods, _MOST_PODS)


def live_rows(progress: Sequence[Progress], height: int) -> RichTable:
    """A table of at most `height` lines: if not all rows fit, those in progress and a count of the others."""
    from rich.table import Table as RichTable  # noqa: PLC0415 - only who watches pays for it
    from rich.text import Text  # noqa: PLC0415 - as above

    table = RichTable(box=None, pad_edge=False, show_header=bool(progress))
    for heading in ("WORKLOAD", "STATE"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    table.add_column()  # gives way first: of its texts, which do not wrap, the beginning is shown
    shown = progress
    if len(progress) + 1 > height:
        shown = [one for one in progress if one.state is State.RESTARTING][: max(height - 2, 0)]
    for one in shown:
        table.add_row(
            Text(escaped(str(one.ref))),
            Text(one.state, style=_COLOURS.get(one.state, "")),
            Text(escaped(_rest(one)), no_wrap=True, overflow="ellipsis"),
        )
    counts = Counter(one.state.value for one in progress)
    counts.subtract(one.state.value for one in shown)
    if others := [f"{count:,} {state}" for state, count in counts.items() if count]:
        table.add_row(
            Text(f"and {counts.total():,} more"), Text(""), Text(", ".join(others), no_wrap=True, overflow="ellipsis")
        )
    return table
