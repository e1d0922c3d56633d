"""`token generate`: generate a token without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.token.options import Minter, minting_options, run_with_key
from injector.tokens import private_files


@click.command(short_help="Generate a token.")
@minting_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to FILE with mode 0600. [default: stdout]",
)
@click.option("--force", is_flag=True, help="Replace the FILE of --out if it exists.")
@connection.options
def generate(out: Path | None, *, force: bool, **options: Any) -> int:  # noqa: ANN401 - those of `minting_options` and `connection.options`
    """Generate a token.

    In a pipe or a file it has no trailing newline: with a newline in the
    Secret, daprd would refuse every call.

    \b
    Examples:
      dapr-token-injector token generate --out token
      dapr-token-injector token generate --signing-key key.json --create-key

    Exit codes: 0 fine, 2 usage error or request rejected, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    if force and out is None:
        raise click.UsageError("--force requires --out")
    if out is not None and not force and private_files.exists(out):
        raise click.UsageError(_EXISTS.format(out))
    draft = Minter.of(options)
    minter = run_with_key(draft.signing_key, Connect.of(options), draft.with_keys)
    value = minter().value.reveal()
    if minter.note is not None:
        click.echo(f"note: {minter.note}", err=True)
    if out is None:
        if sys.stdout.isatty():
            click.echo("note: the token is a secret and stays in the terminal's history; use --out FILE", err=True)
        click.echo(value, nl=sys.stdout.isatty())
    else:
        _write(out, value.encode(), force=force)
    return Exit.FINE


def _write(out: Path, value: bytes, *, force: bool) -> None:
    try:
        if force:
            private_files.replace(out, value)
        elif not private_files.create(out, value):
            raise click.UsageError(_EXISTS.format(out))
    except private_files.PrivateFileError as error:
        raise click.ClickException(f"--out {error}") from None


_EXISTS: Final = "--out {}: file exists and was not modified; use --force to replace it"
