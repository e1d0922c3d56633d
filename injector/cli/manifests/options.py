"""Options and file handling shared by the commands on manifests."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli.common_options import together
from injector.cli.manifests import files
from injector.cli.manifests.rewrite import Format, Rewriter
from injector.cli.output import Reporter
from injector.config.policy import load_policy
from injector.core.model import Endpoint, Policy
from injector.manifests.injecting import InjectOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from injector.cli.manifests.rewrite import ChunkChange
    from injector.cli.output import Tally


def filenames(command: Callable[..., int]) -> Callable[..., int]:
    """Add arguments and an option for input files; the command gets both, in this order, as `filenames`."""

    @functools.wraps(command)
    def with_all(*, paths: Sequence[str], more: Sequence[str], **options: Any) -> int:  # noqa: ANN401 - those of the command
        return command(filenames=(*paths, *more), **options)

    with_option = click.option(
        "-f",
        "--filename",
        "more",
        multiple=True,
        type=click.Path(),  # shells complete paths
        metavar="FILE|DIR|-",
        help="Read this file or folder, like an argument; - is standard input. Repeatable.",
    )(with_all)
    return click.argument("paths", nargs=-1, type=click.Path(), metavar="[FILE|DIR|-]...")(with_option)


output_options: Final = together(
    click.option(
        "-o",
        "--output",
        type=click.Choice([Format.YAML.value, Format.JSON.value, Format.DIFF.value]),
        help="Set the output format; json: one document per line. [default: yaml]",
    ),
    click.option("--in-place", is_flag=True, help="Change the files, each in one step; mode and owner are kept."),
    click.option("-q", "--quiet", is_flag=True, help="Report errors only."),
)
policy_options: Final = together(
    click.option(
        "--policy-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Use this policy of the webhook: allowed Secrets, defaults, conflicts.",
    ),
    click.option(
        "--use-default-secret",
        is_flag=True,
        help="Decide as in a namespace to which the policy's defaultSecret applies.",
    ),
)


def question(policy_file: Path | None, *, use_default_secret: bool) -> InjectOptions:
    """Return the policy and endpoint by which templates are evaluated.

    Raises:
        ConfigError: The policy file is not valid.
        click.UsageError: The policy has no default Secret, and one is needed.
    """
    policy = load_policy(policy_file) if policy_file is not None else Policy()
    if use_default_secret and policy.default_secret is None:
        raise click.UsageError("--use-default-secret needs a --policy-file with defaultSecret")
    return InjectOptions(policy, Endpoint.MUTATE_DEFAULT if use_default_secret else Endpoint.MUTATE)


class Run:
    """One run over the files of the command line. `failed`: one of them was not read, or not changed.

    Raises:
        click.UsageError: There is nothing to read.
    """

    def __init__(self, arguments: Sequence[str], *, quiet: bool = False) -> None:
        if not arguments and sys.stdin.isatty():
            raise click.UsageError("nothing to read: name files with -f, or pipe manifests to standard input")
        self.failed = False
        early: list[str] = []
        named = arguments or (files.STDIN,)
        self._sources = list(files.find(named, (), lambda name, why: early.append(f"{name}: {why}")))
        self.reporter = Reporter(len(self._sources), quiet=quiet)
        for line in early:
            self.failed = True
            self.reporter.error(line)

    def each(self, work: Callable[[files.InputSource], None]) -> None:
        """Call `work` with each file."""
        for source in self._sources:
            work(source)


class RewritingRun(Run):
    """A run of a command that changes files.

    Raises:
        click.UsageError: The options cannot be combined, or there is nothing to read.
    """

    def __init__(self, arguments: Sequence[str], output: str | None, *, in_place: bool, quiet: bool) -> None:
        if in_place and (not arguments or files.STDIN in arguments):
            raise click.UsageError("--in-place needs files; standard input cannot be changed in place")
        if in_place and output not in {None, Format.DIFF}:
            raise click.UsageError(f"--in-place cannot be combined with -o {output}; use -o diff")
        super().__init__(arguments, quiet=quiet)
        default = Format.NOTHING if in_place else Format.YAML
        self._output = Format(output) if output else default
        self._in_place = in_place

    def rewrite(self, change: ChunkChange) -> Tally:
        """Change the files, and write the summary."""
        rewriter = Rewriter(change, self._output, in_place=self._in_place, reporter=self.reporter)
        self.each(rewriter.file)
        self.reporter.clear()
        for line in rewriter.tally.lines("changed" if self._in_place else "to change"):
            self.reporter.note(line)
        self.failed = self.failed or rewriter.tally.failed > 0
        return rewriter.tally
