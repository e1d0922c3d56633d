"""`token verify`: check the signature and claims of a token without a cluster."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.input import STDIN, read_input
from injector.cli.main import Exit
from injector.cli.output import echo_styled, output_option, wants_colour
from injector.cli.param_types import duration_option
from injector.cli.token.options import read_keys
from injector.core import claims
from injector.core.claims import ExpectedClaims
from injector.core.token import parse_token
from injector.tokens import minting
from injector.tokens.signing_keys import Algorithm
from injector.words import escaped

if TYPE_CHECKING:
    from injector.core.claims import TokenCheck


@click.command(short_help="Check the signature and claims of a token.")
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
    """  # noqa: D301 - click does not wrap a paragraph after \b
    value = parse_token(read_input(file, "a token" if file == STDIN else "token file"))
    algorithm = Algorithm(alg) if alg else None
    keys = read_keys(signing_key, algorithm, Connect.of(options)) if signing_key is not None else None
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
