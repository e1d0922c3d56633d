"""`status --watch`: a live table on a terminal, otherwise a line for each change of a workload.

It lists again after each interval. A watch would report changes sooner, but of each change of any Pod it gets the whole
Pod, and the metadata of Secrets and the owners would need watches of their own.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

import click

from injector.cli import connection
from injector.cli.output import is_terminal, live_display
from injector.cli.signals import interrupt_on_termination
from injector.cli.status.report import HEAD, URGENCY, columns, rows_of, summary
from injector.cli.status.views import nothing
from injector.core.assessment import Severity
from injector.kube.backoff import Backoff
from injector.kube.errors import KubeError, NotFoundError
from injector.times import rfc3339
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

    from injector.cli.connection import Connect
    from injector.cli.status.views import Answer, View
    from injector.kube.client import Api

_COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.OK: "green"}


class Screen(Protocol):
    """Shows what happens."""

    def show(self, answer: Answer) -> None:
        """Show a new state."""

    def note(self, line: str) -> None:
        """Show why there is no new state."""


def watch(connect: Connect, view: View, output: str, interval: float) -> Answer:
    """Show the state of a view until Ctrl-C, and return the last one, which stays on a terminal.

    Raises:
        click.ClickException: The first state cannot be read.
        KeyboardInterrupt: There is no state yet.
    """
    last: list[Answer] = []
    is_live = is_terminal(sys.stdout)
    screen = StatusTable(with_namespace=view.namespace is None, is_wide=output == "wide") if is_live else Lines(output)
    try:
        with interrupt_on_termination(), ExitStack() as display:
            if isinstance(screen, StatusTable):
                display.enter_context(live_display(sys.stdout, screen.rendered))
            connection.run(connect, lambda api: _poll(api, view, screen, interval, last))
    except KeyboardInterrupt:
        if not last:
            raise
    if is_live:
        last[0].show(output)
    return last[0]


async def _poll(api: Api, view: View, screen: Screen, interval: float, last: list[Answer]) -> None:
    backoff = Backoff(random.Random())  # noqa: S311 - no secret
    while True:
        delay = interval
        try:
            last[:] = [await view.read(api)]
            backoff.succeeded()
            screen.show(last[0])
        except KubeError as error:
            if not last:
                raise
            if isinstance(error, NotFoundError):  # the namespace or the object was deleted
                last[:] = [nothing(str(error))]
                screen.show(last[0])
            requested = error.refusal.retry_after_seconds if error.refusal is not None else None
            delay = max(interval, requested or 0, backoff.delay_seconds(error))
            screen.note(f"{error}; next try in {delay:.0f} seconds")
        await asyncio.sleep(delay)


class Lines:
    """Writes the first state as without `--watch`, and then a line for each workload that has changed."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._states: dict[str, str] | None = None
        self._limits: tuple[str, ...] = ()

    def show(self, answer: Answer) -> None:
        """Write what has changed."""
        states = {" ".join(row.cells[:2]): " ".join(row.cells[2:6]) for row in rows_of(answer.status)}
        if self._states is None:
            answer.show(self._output)
        else:
            now = rfc3339(int(time.time()))
            for name in sorted(states.keys() | self._states.keys()):
                before, after = self._states.get(name, "-"), states.get(name, "gone")
                if before != after:
                    click.echo(f"{now} {name}: {before} -> {after}")
            for limit in answer.status.limits:
                if limit not in self._limits:
                    self.note(limit)
        self._states, self._limits = states, answer.status.limits
        sys.stdout.flush()

    def note(self, line: str) -> None:
        """Write why there is no new state, to stderr."""
        click.echo(f"note: {escaped(line)}", err=True)


class StatusTable:
    """Shows the worst workloads, as many as fit."""

    def __init__(self, *, with_namespace: bool, is_wide: bool) -> None:
        self._columns = columns(with_namespace=with_namespace, is_wide=is_wide)
        self._rows: Sequence[tuple[Severity, str, tuple[str, ...]]] = ()
        self._summary = "reading"
        self._note = ""

    def show(self, answer: Answer) -> None:
        """Take a new state, which the next refresh shows."""
        rows = rows_of(answer.status)
        self._rows = [(URGENCY[row.urgency], row.worst.protection.value, row.cells[self._columns]) for row in rows]
        self._summary = summary(answer.status.pods)
        self._note = "; ".join(answer.status.limits)

    def note(self, line: str) -> None:
        """Take a line that is shown until the next state."""
        self._note = line

    def rendered(self, height: int) -> Group:
        """Return a table of at most `height` lines: the worst rows, a count of the others, the summary and a note."""
        from rich.console import Group  # noqa: PLC0415 - only who watches pays for it
        from rich.table import Table as RichTable  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        rows, below = self._rows, [line for line in (self._note, self._summary) if line]
        table = RichTable(box=None, pad_edge=False, show_header=bool(rows))
        for heading in HEAD[self._columns]:
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        room = height - 1 - len(below)  # without the headings
        shown = rows if len(rows) <= room else rows[: max(room - 1, 0)]
        for severity, _, cells in shown:
            table.add_row(*map(Text, cells), style=_COLOURS.get(severity, ""))
        others = Counter(protection for _, protection, _ in rows[len(shown) :])
        more = ", ".join(f"{count:,} {protection}" for protection, count in others.items())
        lines = [f"and {others.total():,} more: {more}"] if others else []
        texts = [Text(escaped(line), no_wrap=True, overflow="ellipsis") for line in (*lines, *below)]
        return Group(table, *texts) if shown else Group(*texts)
