"""`token`: generate and verify tokens without a cluster."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.output import echo_styled, output_option, wants_colour
from injector.cli.param_types import duration_option
from injector.cli.token import source as token_source
from injector.cli.token.options import Minter, minting_options, read_keys, run_with_key
from injector.core import claims
from injector.core.claims import ExpectedClaims
from injector.core.token import parse_token
from injector.tokens import minting, private_files
from injector.tokens.signing_keys import Algorithm, BadKeyError
from injector.words import escaped

if TYPE_CHECKING:
    from injector.core.claims import TokenCheck


@click.group(short_help="Generate and verify tokens.")
def command() -> None:
    """Generate and verify tokens."""


@command.command(short_help="Generate a token.")
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
    """  # noqa: D301 - \b tells click not to wrap a paragraph
    if force and out is None:
        raise click.UsageError("--force requires --out")
    if out is not None and not force and private_files.exists(out):
        raise click.UsageError(_EXISTS.format(out))
    draft = Minter.of(options)
    minter = run_with_key(options["signing_key"], Connect.of(options), lambda api: draft.with_keys(options, api))
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


@command.command(short_help="Check the signature and claims of a token.")
@click.argument("file", default="-", type=click.Path(), metavar="[FILE|-]")  # shells complete paths
@click.option(
    "--signing-key",
    type=click.Path(),
    metavar="FILE|secret:NS/NAME",
    help="Check the signature with this key or JWK Set.",
)
@click.option("--alg", type=click.Choice([Algorithm.HS256.value]), help="HS256: read the key file as a plain secret.")
@click.option(
    "--aud", "audience", default=claims.AUDIENCE, show_default=True, metavar="TEXT", help="Require this audience."
)
@click.option("--iss", "issuer", metavar="TEXT", help="Require this issuer. [default: any]")
@duration_option("--leeway", "60s", "Allow for this much clock skew.")
@output_option("text", "json")
@connection.options
def verify(  # noqa: PLR0913 - one parameter per option
    *,
    file: str,
    signing_key: str | None,
    alg: str | None,
    audience: str,
    issuer: str | None,
    leeway: int,
    output: str,
    **options: Any,  # noqa: ANN401 - those of `connection.options`
) -> int:
    """Check the signature and claims of a token.

    The token is read from a file or standard input, not from an argument,
    which other processes can see. Only its id, times and length are printed.

    \b
    Examples:
      dapr-token-injector token verify token --signing-key key.json
      dapr-token-injector token verify - < token

    Exit codes: 0 fine, 1 a check failed, 2 usage error or request rejected, 3
    internal error.
    """  # noqa: D301 - \b tells click not to wrap a paragraph
    value = parse_token(token_source.read_input(file, "a token" if file == token_source.STDIN else "token file"))
    keys = read_keys(signing_key, alg, Connect.of(options)) if signing_key is not None else None
    expected = ExpectedClaims(audience=audience, issuer=issuer, leeway=leeway)
    checks = minting.verify(value, keys, expected, now=int(time.time()))
    if output == "json":
        document = {
            "findings": [{"what": check.what, "fine": check.fine, "message": check.message} for check in checks]
        }
        click.echo(json.dumps({**document, "dapr": {"checks": _DAPR_CHECKS, "checksNot": _DAPR_CHECKS_NOT}}))
    else:
        for check in checks:
            _print_check(check)
        click.echo(f"daprd      checks: {_DAPR_CHECKS}")
        click.echo(f"           does not check: {', '.join(_DAPR_CHECKS_NOT)}")
    return Exit.FINDINGS if any(check.fine is False for check in checks) else Exit.FINE


_DAPR_CHECKS: Final = "that the token sent equals its own DAPR_API_TOKEN byte by byte"
_DAPR_CHECKS_NOT: Final = ("signature", "exp and nbf: an expired token works until daprd restarts", "aud", "iss")
_WORDS: Final = {True: "fine", False: "WRONG", None: "-"}
_COLOURS: Final = {True: "green", False: "red", None: None}


def _print_check(check: TokenCheck) -> None:
    word = f"{_WORDS[check.fine]:<6}"
    styled = click.style(word, fg=_COLOURS[check.fine]) if wants_colour(sys.stdout) else word
    echo_styled(f"{check.what:<10} {styled} {escaped(check.message)}")


@command.command(short_help="Print the public half of a signing key.")
@click.option("--signing-key", required=True, type=click.Path(), metavar="FILE|secret:NS/NAME", help="Read this key.")
@connection.options
def jwks(*, signing_key: str, kubeconfig: str | None, context: str | None) -> int:
    """Print the public half of a signing key as a JWK Set, for verifiers.

    The first key signs; the others are keys before a rotation.

    \b
    Examples:
      dapr-token-injector token jwks --signing-key key.json
      dapr-token-injector token jwks --signing-key secret:shop/signing

    Exit codes: 0 fine, 2 usage error or request rejected, 3 internal error.
    """  # noqa: D301 - \b tells click not to wrap a paragraph
    keys = read_keys(signing_key, None, Connect(kubeconfig, context))
    try:
        click.echo(json.dumps(keys.public(), indent=2))
    except BadKeyError as error:
        raise click.UsageError(f"--signing-key {signing_key}: {error}") from None
    return Exit.FINE
