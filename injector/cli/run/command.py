"""`run`: a command that gets its tokens in its environment, and from nowhere else.

Without `--restart-on-change` we become the command: signals, terminal, standard input and exit code are its own, and no
process of ours is left that knows the token.
"""

from __future__ import annotations

from pathlib import Path

import click

from injector.cli.run.launch import env_with_tokens, replace_process
from injector.cli.token.source import given_token_options, read_token_file, read_token_stdin
from injector.core import names


@click.command(
    short_help="Run a command with the token in its environment.",
    context_settings={"allow_interspersed_args": False},
)
@given_token_options
@click.option(
    "--app-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File that holds the token for calls from Dapr to the app.",
)
@click.option("--restart-on-change", is_flag=True, help="Restart the command when a file holds another token.")
@click.option(
    "--check-every",
    type=click.FloatRange(min=0.05, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="With --restart-on-change: how often files are looked at.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0, max=3600),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="With --restart-on-change: from SIGTERM to SIGKILL.",
)
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def command(  # noqa: PLR0913 - one parameter per option, all by name
    *,
    token_file: Path | None,
    token_stdin: bool,
    app_token_file: Path | None,
    restart_on_change: bool,
    check_every: float,
    grace: float,
    arguments: tuple[str, ...],
) -> int:
    """Run a command with DAPR_API_TOKEN in its environment.

    daprd demands the token of its callers; an app calls daprd with it.
    With --app-token-file, APP_API_TOKEN is set as well: daprd presents
    it to the app, and the app demands it.

    The exit code is the command's; shells show 128 and the number of the
    signal that ended it.
    """
    if (token_file is None) == (not token_stdin):
        raise click.UsageError("one of --token-file and --token-stdin is needed, and not both")
    if not arguments[0]:
        raise click.UsageError("the name of the command is empty")
    files = {names.API_TOKEN_ENV: token_file, names.APP_TOKEN_ENV: app_token_file}
    watched = {variable: path for variable, path in files.items() if path is not None}
    if restart_on_change:
        from injector.cli.run import supervise  # noqa: PLC0415 - the common case does without

        if token_stdin:
            raise click.UsageError("--restart-on-change needs --token-file: standard input does not change")
        return supervise.run(supervise.Job(arguments, watched, grace_seconds=grace, poll_seconds=check_every))
    tokens = {variable: read_token_file(path) for variable, path in watched.items()}
    if token_stdin:
        tokens[names.API_TOKEN_ENV] = read_token_stdin()
    return replace_process(arguments, env_with_tokens(tokens))
