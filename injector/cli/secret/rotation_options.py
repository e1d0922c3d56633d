"""The options that `secret rotate` and `secret revoke` share."""

from __future__ import annotations

from typing import Final

import click

from injector.cli import cluster_completion, connection
from injector.cli.common_options import together
from injector.cli.output import output_option
from injector.cli.param_types import duration_option
from injector.cli.secret import secret_refs
from injector.cli.token.options import minting_options
from injector.cli.token.source import TokenOption, given_token_options


class RestartOption(click.Option):
    """Describes a restart, so it has no effect without one."""


class PaceOption(RestartOption):
    """Describes how restarts follow each other, so it has no effect if none is waited for."""


class ForceOption(click.Option):
    """Allows a write, so it has no effect without one."""


rotation_options: Final = together(
    click.argument("secrets", nargs=-1, metavar="[NAMESPACE/]NAME...", shell_complete=cluster_completion.secrets),
    secret_refs.namespace_options,
    secret_refs.KEY,
    given_token_options,
    click.option(
        "--same", cls=TokenOption, is_flag=True, help="Use one token for all Secrets. [default: one for each]"
    ),
    minting_options,
    click.option(
        "--resume", is_flag=True, help="Write no new token; restart workloads with an outdated token or none."
    ),
    click.option(
        "--force",
        cls=ForceOption,
        is_flag=True,
        help="Also write a Secret that another tool manages; show the changes.",
    ),
    click.option("--skip-foreign", is_flag=True, help="Leave out Secrets that another tool manages."),
    click.option(
        "--include-uncertain",
        cls=RestartOption,
        is_flag=True,
        help="Also restart Pods that may run an outdated token. revoke always does.",
    ),
    click.option(
        "--skip-admission-check",
        cls=RestartOption,
        is_flag=True,
        help="Skip the dry run that checks that new Pods get the token.",
    ),
    click.option("--dry-run", is_flag=True, help="Change nothing; show what would happen to each workload."),
    click.option(
        "--max-concurrent",
        cls=PaceOption,
        type=click.IntRange(1, 1000),
        default=5,
        show_default=True,
        metavar="N",
        help="Restart at most N workloads at a time in all namespaces.",
    ),
    click.option(
        "--max-concurrent-per-namespace",
        cls=PaceOption,
        type=click.IntRange(1, 100),
        default=2,
        show_default=True,
        metavar="N",
        help="Restart at most N workloads of a namespace at a time.",
    ),
    click.option(
        "--keep-going",
        cls=PaceOption,
        is_flag=True,
        help="After a failed workload, stop only the restarts of its namespace.",
    ),
    duration_option(
        "--timeout", "10m", "Wait this long for each workload to become ready.", shortest=1, cls=PaceOption
    ),
    duration_option(
        "--propagation-delay",
        "2s",
        "Wait this long between the Secret's change and the first restart.",
        cls=RestartOption,
    ),
    output_option("table", "json"),
    connection.options,
)
