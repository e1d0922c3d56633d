"""`inject`: what the webhook would do, done to manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from injector.cli.main import Exit
from injector.cli.manifests import options
from injector.cli.manifests.rewrite import Rewriter
from injector.core.model import Reason, Verdict
from injector.manifests import injecting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from injector.cli.output import Reporter, Tally
    from injector.manifests.chunks import Chunk
    from injector.manifests.documents import Document
    from injector.manifests.nodes import Json


@click.command(short_help="Write the tokens' references into manifests, as the webhook would.")
@options.filenames
@options.output_options
@options.policy_options
def command(
    *,
    filenames: Sequence[str],
    output: str | None,
    in_place: bool,
    quiet: bool,
    policy_file: Path | None,
    use_default_secret: bool,
) -> int:
    """Write the tokens' references into manifests, as the webhook would.

    Reads files, folders (every .yaml, .yml and .json below) and standard input.
    Whatever has a Pod template is looked at; everything else passes as it is.
    Only the lines of an entry are inserted or replaced: comments, order,
    quotes and line ends stay. No cluster is asked.

    \b
      inject -f deploy/ -o diff          what would change
      inject -f deploy/ --in-place       change it
      helm template . | inject | kubectl apply -f -

    Exit codes: 0 fine, 1 a Pod would be denied, 2 usage error or bad input (of
    such a file nothing is written; the others go on), 3 internal error.
    """  # noqa: D301 - click's mark for lines that stay as they are is a real backspace
    question = options.question(policy_file, use_default_secret=use_default_secret)
    run = options.Run.of(filenames, output, in_place=in_place, quiet=quiet)
    inject = _Inject(question, run.reporter)
    rewriter = Rewriter(inject, run.output, in_place=in_place, reporter=run.reporter)
    run.each(rewriter.file)
    run.end(rewriter.tally.lines("changed" if in_place else "to change"))
    if rewriter.tally.failed or run.failed:
        return Exit.USAGE
    denied = any(verdict == Verdict.DENY for verdict, _ in rewriter.tally.decisions)
    return Exit.FINDINGS if denied else Exit.FINE


class _Inject:
    """The change, and its report."""

    def __init__(self, question: injecting.Question, reporter: Reporter) -> None:
        self._question = question
        self._reporter = reporter

    def text(self, chunk: Chunk, read: Sequence[Document], tally: Tally) -> str:
        """The piece's text with the entries in it."""
        findings = self._evaluated(read)
        text = injecting.inject(chunk, read, findings)
        self._count(findings, tally)
        return text

    def values(self, _: Chunk, read: Sequence[Document], tally: Tally) -> Sequence[Json]:
        """The documents with the webhook's patch applied; no text is edited, so no layout is in the way."""
        findings = self._evaluated(read)
        self._count(findings, tally)
        return [injecting.patched(document, found) for document, found in zip(read, findings, strict=True)]

    def _evaluated(self, read: Sequence[Document]) -> list[list[injecting.Finding]]:
        return [injecting.evaluate(document, self._question) for document in read]

    def _count(self, findings: Sequence[Sequence[injecting.Finding]], tally: Tally) -> None:
        for found in (one for document in findings for one in document):
            tally.decisions[found.verdict.value, found.reason.value] += 1
            self._report(found)

    def _report(self, found: injecting.Finding) -> None:
        where = f"{found.source}:{found.line}: {found.object}"
        if found.message:
            self._reporter.note(f"{where}: denied: {found.message}")
        for warning in found.warnings:
            self._reporter.note(f"{where}: warning: {warning}")
        wants_sidecar = found.verdict is Verdict.INJECT or found.reason in {Reason.NO_SIDECAR, Reason.WOULD_INJECT}
        if wants_sidecar and not found.has_sidecar:
            self._reporter.note(f"{where}: {_NO_SIDECAR}")


_NO_SIDECAR: Final = "no container daprd in the template: Dapr adds it at admission, and the webhook does the rest then"
