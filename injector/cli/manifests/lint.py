"""`lint`: find problems in manifests, and report them for people, tools or GitHub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from injector.cli.main import Exit
from injector.cli.manifests import files, options
from injector.cli.output import Reporter, echo_styled, output_option, wants_colour
from injector.cli.param_types import CatalogueEntry
from injector.config.policy import load_policy
from injector.core.model import Policy
from injector.files import error_text, replacement
from injector.lint import baseline, catalogue, pages, report
from injector.lint.linter import Linter
from injector.lint.model import Level, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from injector.lint.linter import Report


_RULE: Final = CatalogueEntry("rule", catalogue.BY_WORD, "--list-rules lists all rules")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Find problems in manifests before they reach a cluster.")
@options.filenames
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Skip matching files and folders in folders. Repeatable."
)
@output_option(*report.FORMATS)
@click.option(
    "--fail-on",
    type=click.Choice([level.value for level in Level]),
    default=Level.WARNING.value,
    show_default=True,
    help="Exit with 1 for findings of this level or worse.",
)
@click.option("--disable", multiple=True, type=_RULE, metavar="RULE", help="Disable a rule. Repeatable.")
@click.option(
    "--policy-file", type=_FILE, metavar="FILE", help="Use this policy of the webhook: allowed Secrets, defaults."
)
@click.option("--baseline", "known_in", type=_FILE, metavar="FILE", help="Do not report the findings in FILE.")
@click.option("--write-baseline", "write_to", type=_FILE, metavar="FILE", help="Write the current findings to FILE.")
@click.option("--list-rules", is_flag=True, help="List the rules and exit.")
@click.option("--show-rule", type=_RULE, metavar="RULE", help="Print the page of a rule and exit.")
def command(  # noqa: PLR0913 - one parameter per option
    *,
    filenames: Sequence[str],
    exclude: Sequence[str],
    output: str,
    fail_on: str,
    disable: Sequence[Rule],
    policy_file: Path | None,
    known_in: Path | None,
    write_to: Path | None,
    list_rules: bool,
    show_rule: Rule | None,
) -> int:
    """Find problems in manifests before they reach a cluster.

    Reads files, folders (every .yaml, .yml and .json file in them) and standard
    input ("-"). Secrets are looked up in these files; it needs no cluster.

    To ignore a rule in one line, add a comment with a reason:

    \b
      # dapr-token-injector: ignore RULE -- REASON

    Exit codes: 0 no finding of the level --fail-on or worse, 1 such a finding,
    2 usage error or bad input, 3 internal error.
    """  # noqa: D301 - click wants the backspace character itself before a paragraph to keep
    if list_rules or show_rule is not None:
        return _print_rules(show_rule)
    if known_in is not None and write_to is not None:
        raise click.UsageError("--baseline and --write-baseline cannot be combined")
    if not filenames:
        # There is no default: reading the wrong folder or an empty input would look like success.
        raise click.UsageError("nothing to read: name files or folders, or - for standard input")
    known = _known(known_in) if known_in is not None else {}
    policy = load_policy(policy_file) if policy_file is not None else Policy()
    linter = Linter(policy, frozenset(rule.id for rule in disable))
    _read(linter, filenames, exclude)
    found = linter.report()
    if write_to is not None:
        return _write_baseline(write_to, found)
    found = found.compared_with(known)
    _print_report(found, output)
    return _exit(found, Level(fail_on))


def _print_rules(rule: Rule | None) -> int:
    lines = report.rules_table() if rule is None else pages.page(rule).splitlines()
    for line in lines:
        click.echo(line)
    return Exit.FINE


def _known(path: Path) -> Mapping[baseline.Key, int]:
    try:
        return baseline.read(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"--baseline {path}: {error_text(error)}") from None
    except baseline.BaselineError as error:
        raise click.UsageError(f"--baseline {path}: {error}") from None


def _read(linter: Linter, arguments: Sequence[str], exclude: Sequence[str]) -> None:
    """Read every file, and report those that cannot be read at once."""
    sources = list(files.find(arguments, exclude, linter.cannot_read))
    reporter = Reporter(len(sources), quiet=False)
    reported = _report_unreadable(linter, reporter, 0)
    for source in sources:
        try:
            linter.read(source.name, files.blocks(source), in_file=source.path is not None)
        except files.UnreadableError as error:
            linter.cannot_read(source.name, str(error))
        reported = _report_unreadable(linter, reporter, reported)
        reporter.passed()
    reporter.clear()


def _report_unreadable(linter: Linter, reporter: Reporter, reported: int) -> int:
    """Report what could not be read, except the first `reported`; return the new number."""
    for each in linter.unreadable[reported:]:
        reporter.error(str(each))
    return len(linter.unreadable)


def _print_report(found: Report, output: str) -> None:
    colour = output == "text" and wants_colour(sys.stdout)
    lines = report.text(found, colour=True) if colour else report.FORMATS[output](found)
    echo = echo_styled if colour else click.echo
    for line in lines:
        echo(line)
    click.echo(report.summary(found), err=True)


def _exit(found: Report, fail_on: Level) -> int:
    if found.unreadable:
        return Exit.USAGE
    return Exit.FINDINGS if any(each.rule.level.at_least(fail_on) for each in found.findings) else Exit.FINE


def _write_baseline(path: Path, found: Report) -> int:
    """Write the baseline in one step, unless a file could not be read."""
    if found.unreadable:
        click.echo(f"Error: {path} was not written", err=True)
        return Exit.USAGE
    try:
        with replacement(path) as file:
            file.write(baseline.write(found.findings))
    except OSError as error:
        raise click.UsageError(f"--write-baseline {path}: {error_text(error)}") from None
    click.echo(f"{path}: {len(found.findings)} known findings", err=True)
    return Exit.FINE
