"""`explain`: explain why a Pod would or would not be patched, rule by rule."""

from __future__ import annotations

import shutil
import sys
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from injector.cli.main import Exit
from injector.cli.manifests import files, options
from injector.cli.output import echo_styled, output_option, wants_colour
from injector.core.explain import AppliedRule, RuleName, explain
from injector.manifests import injecting
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from injector.manifests.documents import Document, Object, Template

# Columns for the rule's name; the rest is for the value and the outcome.
_RULE_WIDTH: Final = 14
_INDENT: Final = "  "
_MIN_WIDTH: Final = 60
_MAX_WIDTH: Final = 120


class Explained(msgspec.Struct, frozen=True):
    """The decision about one Pod template, with its rules; `line` counts from 1."""

    source: str
    document: int
    line: int
    object: str
    namespace: str
    path: str
    decision: str
    reason: str
    rules: tuple[AppliedRule, ...]
    warnings: tuple[str, ...]


@click.command(short_help="Explain why a Pod would or would not be patched, rule by rule.")
@options.filenames
@output_option("table", "json", note="; json: one Pod template per line")
@options.policy_options
def command(*, filenames: Sequence[str], output: str, policy_file: Path | None, use_default_secret: bool) -> int:
    """Explain why a Pod would or would not be patched, rule by rule.

    Reads files, folders (every .yaml, .yml and .json file in them) and standard
    input. For each Pod template it shows every rule with its input and outcome,
    and the decision of the webhook with its reason. It needs no cluster, and
    shows no value that may be a token.

    Exit codes: 0 fine, 2 usage error or bad input, 3 internal error.
    """
    question = options.question(policy_file, use_default_secret=use_default_secret)
    run = options.Run(filenames)
    explainer = _Explainer(question, run, as_json=output == "json")
    run.each(explainer.file)
    if not explainer.found and not run.failed:
        run.reporter.note("no Pod template found")
    return Exit.USAGE if run.failed else Exit.FINE


class _Explainer:
    """Explains file after file."""

    def __init__(self, question: injecting.InjectOptions, run: options.Run, *, as_json: bool) -> None:
        self.found = 0
        self._question = question
        self._run = run
        self._as_json = as_json
        self._colour = wants_colour(sys.stdout)
        self._width = max(_MIN_WIDTH, min(shutil.get_terminal_size((80, 24)).columns, _MAX_WIDTH))

    def file(self, source: files.InputSource) -> None:
        """Explain every template of a file; a document with an error is reported and skipped."""
        try:
            for document in read(files.blocks(source), source.name, on_error=self._fail):
                self._document(document)
        except files.UnreadableError as error:
            self._fail(f"{source.name}: {error}")

    def _fail(self, error: ManifestError | str) -> None:
        self._run.failed = True
        self._run.reporter.error(str(error))

    def _document(self, document: Document) -> None:
        for each in document.objects():
            advice = injecting.ObjectWarnings(each, self._question)
            for template in each.templates():
                try:
                    self._print_result(self._explained(document, each, template, advice))
                except ManifestError as error:
                    self._fail(error)

    def _explained(
        self, document: Document, each: Object, template: Template, advice: injecting.ObjectWarnings
    ) -> Explained:
        pod, decided, read_spec = injecting.decide(document, each, template, self._question)
        found = injecting.found(document, each, template, decided, advice)
        return Explained(
            source=document.source,
            document=document.index,
            line=found.line,
            object=found.object,
            namespace=each.namespace,
            path=".".join(map(str, template.path)),
            decision=found.verdict.value,
            reason=found.reason.value,
            rules=explain(pod, decided, self._question.policy, self._question.endpoint, read_spec),
            warnings=found.warnings,
        )

    def _print_result(self, one: Explained) -> None:
        self.found += 1
        if self._as_json:
            click.echo(msgspec.json.encode(one).decode())
            return
        if self.found > 1:
            click.echo()
        namespace = f"namespace {one.namespace}" if one.namespace else ""
        place = ", ".join(filter(None, (one.object, namespace, one.path)))
        self._print(f"{one.source}:{one.line}: {place}", bold=True)
        for line in self._cells("RULE", "LOOKED AT", "OUTCOME"):
            click.echo(line)
        for row in one.rules:
            settles = row.reason is not None or row.rule is RuleName.DECISION
            for line in self._row(row):
                self._print(line, bold=row.rule is RuleName.DECISION, fg="cyan" if settles else None)
        for warning in one.warnings:
            click.echo(f"{_INDENT}warning: {warning}")

    def _row(self, row: AppliedRule) -> Iterator[str]:
        reason = f" ({row.reason.value})" if row.reason is not None else ""
        looked = f"{row.subject} = {row.value}" if row.value else row.subject
        return self._cells(row.rule.value, looked, row.outcome + reason)

    def _cells(self, rule: str, looked: str, outcome: str) -> Iterator[str]:
        """Yield the lines of one row, with wrapped cells."""
        rest = self._width - len(_INDENT) - _RULE_WIDTH - 2
        left = rest // 2
        cells = ([rule], textwrap.wrap(looked, left), textwrap.wrap(outcome, rest - left - 1, break_on_hyphens=False))
        for one, two, three in zip_longest(*cells, fillvalue=""):
            yield f"{_INDENT}{one:<{_RULE_WIDTH}} {two:<{left}} {three}".rstrip()

    def _print(self, line: str, **style: Any) -> None:  # noqa: ANN401 - click's own typing
        echo_styled(click.style(escaped(line), **style) if self._colour else escaped(line))
