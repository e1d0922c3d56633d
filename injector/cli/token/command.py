"""`token`: tokens made and looked at, without a cluster."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import kubeconfig
from injector.cli.kubeconfig import Connect
from injector.cli.main import Exit
from injector.cli.output import wants_colour
from injector.cli.param_types import Duration
from injector.cli.token import source as token_source
from injector.cli.token.options import Minter, minting_options, read_keys, run_with_key
from injector.core import claims
from injector.core.claims import ExpectedClaims
from injector.core.token import parse_token
from injector.tokens import minting, private_files
from injector.tokens.signing_keys import Algorithm, BadKeyError

if TYPE_CHECKING:
    from injector.core.claims import TokenCheck


@click.group(short_help="Make a token, or look at one.")
def command() -> None:
    """Make a token, or look at one."""


@command.command(short_help="Make a token.")
@minting_options
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write to FILE, mode 0600."
)
@click.option("--force", is_flag=True, help="With --out: replace FILE if it is there.")
@kubeconfig.options
def generate(out: Path | None, *, force: bool, **options: Any) -> int:  # noqa: ANN401 - those of the two `options`
    """Make a token and write it to standard output.

    Through a pipe or to a file it has no newline at its end: a newline is no
    part of a token, and one in a Secret refuses every call.

    \b
      token generate | secret create shop/dapr-api-token --token-stdin
      token generate --signing-key key.json --create-key --out token

    Exit codes: 0 fine, 2 wrong use or bad input, 3 our own fault.
    """  # noqa: D301 - click's mark for lines that stay as they are is a real backspace
    if force and out is None:
        raise click.UsageError("--force goes with --out")
    if out is not None and not force and private_files.exists(out):
        raise click.UsageError(_EXISTS.format(out))
    draft = Minter.of(options)
    minter = run_with_key(options["signing_key"], Connect.of(options), lambda api: draft.with_keys(options, api))
    value = minter().value.reveal()
    if minter.note is not None:
        click.echo(f"note: {minter.note}", err=True)
    if out is None:
        if sys.stdout.isatty():
            click.echo("note: this is a secret, and terminals remember; --out FILE keeps it off the screen", err=True)
        click.echo(value, nl=sys.stdout.isatty())
    elif force:
        private_files.replace(out, value.encode())
    elif not private_files.create(out, value.encode()):
        raise click.UsageError(_EXISTS.format(out))
    return Exit.FINE


_EXISTS: Final = "--out {}: it is there already and was left as it is; --force replaces it"


@command.command(short_help="Say what a token claims, and whether it is true.")
@click.argument("file", default="-", type=click.Path(), metavar="[FILE|-]")  # shells complete paths
@click.option(
    "--signing-key", type=click.Path(), metavar="FILE|secret:NS/NAME", help="The key, or a JWK Set of public halves."
)
@click.option("--alg", type=click.Choice([Algorithm.HS256.value]), help="HS256: the key file is a plain secret.")
@click.option(
    "--aud", "audience", default=claims.AUDIENCE, show_default=True, metavar="TEXT", help="The audience wanted."
)
@click.option("--iss", "issuer", metavar="TEXT", help="The issuer wanted; default: any.")
@click.option(
    "--leeway", type=Duration(), default="60s", show_default=True, metavar="TIME", help="By how much clocks may differ."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format.")
@kubeconfig.options
def verify(  # noqa: PLR0913 - one parameter per option
    *,
    file: str,
    signing_key: str | None,
    alg: str | None,
    audience: str,
    issuer: str | None,
    leeway: int,
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> int:
    """Say what a token claims, and whether it is true.

    Reads a file or standard input, and never a token on the command line,
    where every process could see it. Nothing of the token is printed but its
    id, times and length.

    Exit codes: 0 fine, 1 something is not as it should be, 2 wrong use or bad
    input, 3 our own fault.
    """
    value = parse_token(token_source.read_input(file, "a token" if file == token_source.STDIN else "token file"))
    keys = read_keys(signing_key, alg, Connect(kubeconfig, context)) if signing_key is not None else None
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


_DAPR_CHECKS: Final = "that the string sent is, byte by byte, its own DAPR_API_TOKEN"
_DAPR_CHECKS_NOT: Final = ("signature", "exp and nbf: an expired token opens until daprd restarts", "aud", "iss")
_WORDS: Final = {True: "fine", False: "WRONG", None: "-"}
_COLOURS: Final = {True: "green", False: "red", None: None}


def _print_check(check: TokenCheck) -> None:
    word = f"{_WORDS[check.fine]:<6}"
    styled = click.style(word, fg=_COLOURS[check.fine]) if wants_colour(sys.stdout, os.environ) else word
    click.echo(f"{check.what:<10} {styled} {check.message}", color=True)


@command.command(short_help="Print the public half of a signing key.")
@click.option("--signing-key", required=True, type=click.Path(), metavar="FILE|secret:NS/NAME", help="The key.")
@kubeconfig.options
def jwks(*, signing_key: str, kubeconfig: str | None, context: str | None) -> int:
    """Print the public halves of a signing key's file as a JWK Set.

    For whoever verifies tokens. The first key signs; the others signed before.

    Exit codes: 0 fine, 2 wrong use or bad input, 3 our own fault.
    """
    keys = read_keys(signing_key, None, Connect(kubeconfig, context))
    try:
        click.echo(json.dumps(keys.public(), indent=2))
    except BadKeyError as error:
        raise click.UsageError(f"--signing-key {signing_key}: {error}") from None
    return Exit.FINE
