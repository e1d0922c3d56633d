"""`check`: whether the installation is sound."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.check.catalogue import BY_WORD, CHECKS
from injector.check.model import Result
from injector.check.pages import page
from injector.check.reader import ClusterReader
from injector.check.runner import run_until_sound
from injector.cli import connection
from injector.cli.check import canary
from injector.cli.check.report import counts, show
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.namespace_option import namespace_option
from injector.cli.output import output_option, show_progress
from injector.cli.param_types import CatalogueEntry, Duration
from injector.core.durations import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.check.model import Check
    from injector.check.runner import CheckResult
    from injector.kube.client import Api


_CHECK: Final = CatalogueEntry("check", BY_WORD, f"use {', '.join(f'{one.id} ({one.name})' for one in CHECKS)}")


@click.command(short_help="Check that the installation works.")
@namespace_option("Set the namespace of the installation. [default: that of the registered Service]")
@click.option("--pre", is_flag=True, help="Check the cluster before the installation.")
@click.option("--only", type=_CHECK, multiple=True, metavar="CHECK", help="Run this check only. Repeatable.")
@click.option("--skip", type=_CHECK, multiple=True, metavar="CHECK", help="Leave out this check. Repeatable.")
@click.option("--show-check", type=_CHECK, metavar="CHECK", help="Print the page of a check and exit.")
@click.option(
    "--wait",
    type=Duration(),
    metavar="DURATION",
    default="0s",
    help="Repeat for at most this long, until no check is failed or unknown.",
)
@canary.options
@output_option("table", "wide", "json")
@connection.options
def command(  # noqa: PLR0913 - its options
    *,
    namespace: str | None,
    pre: bool,
    only: tuple[Check, ...],
    skip: tuple[Check, ...],
    show_check: Check | None,
    wait: int,
    output: str,
    **options: Any,  # noqa: ANN401 - those of `canary.options` and `connection.options`
) -> int:
    """Check that the installation works.

    It only reads, except that it sends Pods as server-side dry runs, which are
    never stored. It reads no value of a Secret. A check that lacks a permission
    or an answer is unknown. With --wait, failed and unknown checks run again
    every 5 seconds, and all checks at the end.

    \b
    Examples:
      dapr-token-injector check --pre
      dapr-token-injector check --wait 2m
      dapr-token-injector check --skip DTC010 -o json
      dapr-token-injector check --canary --canary-namespace shop

    Exit codes: 0 no check failed, 1 a check failed, 2 usage error, or a result
    is unknown and none failed, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    if show_check is not None:
        click.echo(page(show_check), nl=False)
        return Exit.FINE
    expected = canary.expectations_of(options)
    if options["canary"]:
        return canary.run_canary(Connect.of(options), expected)
    chosen = [one for one in only or CHECKS if one not in skip and (one.is_pre or not pre)]
    if not chosen:
        raise click.UsageError("no check is left to run")

    async def work(api: Api) -> Sequence[CheckResult]:
        return await run_until_sound(
            chosen,
            lambda: ClusterReader(api, namespace, int(time.time()), expected),
            wait_seconds=wait,
            waiting=lambda found, left: show_progress(f"{counts(found)}; {span(left)} left"),
        )

    try:
        found = connection.run(Connect.of(options), work)
    finally:
        show_progress("")
    show(found, output)
    return _exit(found)


def _exit(found: Sequence[CheckResult]) -> Exit:
    results = {one.result for one in found}
    if Result.FAILED in results:
        return Exit.FINDINGS
    return Exit.USAGE if Result.UNKNOWN in results else Exit.FINE
