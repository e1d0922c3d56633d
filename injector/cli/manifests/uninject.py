"""`uninject`: remove from manifests what `inject` wrote into them."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

import click

from injector.cli.main import Exit
from injector.cli.manifests import options
from injector.manifests import uninjecting
from injector.manifests.layout import reread
from injector.manifests.uninjecting import EntryOutcome, UninjectOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.cli.output import Reporter, Tally
    from injector.manifests.documents import Document
    from injector.manifests.layout import Splice
    from injector.manifests.nodes import Json


@click.command(short_help="Remove from manifests what inject wrote into them.")
@options.filenames
@options.output_options
def command(*, filenames: Sequence[str], output: str | None, in_place: bool, quiet: bool) -> int:
    """Remove from manifests what inject wrote into them.

    Removes every entry that the annotation dapr-token-injector/status lists and
    that is unchanged, the seal of a sealed Pod, and then the annotation. A file
    that inject changed is restored byte for byte. An entry that replaced another
    one stays: the previous value is not recorded.

    Exit codes: 0 fine, 2 usage error or bad input, 3 internal error. A file with
    an error is not written; the others are.
    """
    run = options.RewritingRun(filenames, output, in_place=in_place, quiet=quiet)
    run.rewrite(_Uninject(run.reporter))
    return Exit.USAGE if run.failed else Exit.FINE


class _Uninject:
    """Removes and reports."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def splices(self, read: Sequence[Document], tally: Tally) -> list[Splice]:
        """Return the splices that take the entries out of the chunk's text."""
        evaluated = [uninjecting.evaluate(document) for document in read]
        splices = uninjecting.uninject(read, evaluated)
        for result in chain.from_iterable(evaluated):
            verdict = "remove" if result.outcome is UninjectOutcome.REMOVED else "skip"
            tally.decisions[verdict, result.outcome.value] += 1
            self._report(result)
        return splices

    def values(self, read: Sequence[Document], tally: Tally) -> Sequence[Json]:
        """Return the documents without the entries."""
        splices = self.splices(read, tally)
        return reread(read, splices) if splices else [document.value for document in read]

    def _report(self, result: uninjecting.TemplateResult) -> None:
        where = f"{result.source}:{result.line}: {result.object}"
        if result.outcome is UninjectOutcome.BAD_RECORD:
            self._reporter.note(f"{where}: its status annotation is not a record of inject and was not modified")
        if result.seal_reader:
            self._reporter.note(f"{where}: its seal stays: container {result.seal_reader} reads from it")
        for entry, outcome in result.entries:
            if outcome in _LEFT:
                self._reporter.note(f"{where}: {entry.env} of container {entry.container} {_LEFT[outcome]}")


_LEFT: Final = {
    EntryOutcome.REPLACED: "stays: it replaced another entry, which was not recorded",
    EntryOutcome.CHANGED: "stays: it was changed since",
    EntryOutcome.GONE: "no longer exists",
}
