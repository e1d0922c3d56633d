"""`run`: run a command with tokens in its environment.

Without `--restart-on-change` the command replaces this process: signals, terminal, standard input and exit code are its
own, and no other process holds the token.
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
    help="Read the token for calls from daprd to the app from FILE.",
)
@click.option("--restart-on-change", is_flag=True, help="Restart the command when a file holds a new token.")
@click.option(
    "--check-every",
    type=click.FloatRange(min=0.05, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Check the files this often, with --restart-on-change.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0, max=3600),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait this long before SIGKILL, with --restart-on-change.",
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

    daprd requires the token from its callers; an app sends it to daprd. With
    --app-token-file, APP_API_TOKEN is set as well: daprd sends it to the app,
    and the app requires it.

    \b
    Examples:
      dapr-token-injector run --token-file token -- daprd --app-id shop
      dapr-token-injector run --token-stdin -- python app.py < token

    Exit codes: that of the command, or 128 and the number of the signal that
    ended it; 2 usage error, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    if (token_file is None) == (not token_stdin):
        raise click.UsageError("use either --token-file or --token-stdin")
    if not arguments[0]:
        raise click.UsageError("COMMAND: empty; give the command to run")
    files = {names.API_TOKEN_ENV: token_file, names.APP_TOKEN_ENV: app_token_file}
    watched = {variable: path for variable, path in files.items() if path is not None}
    if restart_on_change:
        from injector.cli.run import supervise  # noqa: PLC0415 - not needed in the common case

        if token_stdin:
            raise click.UsageError("--restart-on-change requires --token-file: standard input does not change")
        return supervise.run(supervise.Job(arguments, watched, grace_seconds=grace, poll_seconds=check_every))
    tokens = {variable: read_token_file(path) for variable, path in watched.items()}
    if token_stdin:
        tokens[names.API_TOKEN_ENV] = read_token_stdin()
    return replace_process(arguments, env_with_tokens(tokens))
