"""`inject`: apply the webhook's patch to manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from injector.cli.main import Exit
from injector.cli.manifests import options
from injector.core.model import Reason, Verdict
from injector.manifests import injecting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from injector.cli.output import Reporter, Tally
    from injector.manifests.documents import Document
    from injector.manifests.layout import Splice
    from injector.manifests.nodes import Json


@click.command(short_help="Inject token references into manifests, as the webhook would.")
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
    """Inject token references into manifests, as the webhook would.

    Reads files, folders (every .yaml, .yml and .json file in them) and standard
    input. Objects without a Pod template are not modified. Only the lines of an
    entry are inserted or replaced: comments, order, quotes and line ends stay.
    It needs no cluster.

    \b
    Examples:
      inject -f deploy/ -o diff          show the changes
      inject -f deploy/ --in-place       change the files
      helm template . | inject | kubectl apply -f -

    Exit codes: 0 fine, 1 a Pod would be denied, 2 usage error or bad input, 3
    internal error. A file with an error is not written; the others are.
    """  # noqa: D301 - click's mark for lines that stay as they are is a real backspace
    question = options.question(policy_file, use_default_secret=use_default_secret)
    run = options.RewritingRun(filenames, output, in_place=in_place, quiet=quiet)
    tally = run.rewrite(_Inject(question, run.reporter))
    if run.failed:
        return Exit.USAGE
    denied = any(verdict == Verdict.DENY for verdict, _ in tally.decisions)
    return Exit.FINDINGS if denied else Exit.FINE


class _Inject:
    """Injects and reports."""

    def __init__(self, question: injecting.InjectOptions, reporter: Reporter) -> None:
        self._question = question
        self._reporter = reporter

    def splices(self, read: Sequence[Document], tally: Tally) -> list[Splice]:
        """Return the splices that put the entries into the chunk's text."""
        findings = self._evaluated(read)
        splices = injecting.inject(read, findings)
        self._count(findings, tally)
        return splices

    def values(self, read: Sequence[Document], tally: Tally) -> Sequence[Json]:
        """Return the documents with the webhook's patch; no text is edited, so every layout is accepted."""
        findings = self._evaluated(read)
        self._count(findings, tally)
        return [injecting.patched(document, found) for document, found in zip(read, findings, strict=True)]

    def _evaluated(self, read: Sequence[Document]) -> list[list[injecting.TemplateDecision]]:
        return [injecting.evaluate(document, self._question) for document in read]

    def _count(self, findings: Sequence[Sequence[injecting.TemplateDecision]], tally: Tally) -> None:
        for found in (one for document in findings for one in document):
            tally.decisions[found.verdict.value, found.reason.value] += 1
            self._report(found)

    def _report(self, found: injecting.TemplateDecision) -> None:
        where = f"{found.source}:{found.line}: {found.object}"
        if found.message:
            self._reporter.note(f"{where}: denied: {found.message}")
        for warning in found.warnings:
            self._reporter.note(f"{where}: warning: {warning}")
        wants_sidecar = found.verdict is Verdict.INJECT or found.reason in {Reason.NO_SIDECAR, Reason.WOULD_INJECT}
        if wants_sidecar and not found.has_sidecar:
            self._reporter.note(f"{where}: {_NO_SIDECAR}")


_NO_SIDECAR: Final = (
    "no container daprd in the template: Dapr adds it at admission, and the webhook injects the token then"
)
