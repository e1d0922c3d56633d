"""`token jwks`: print the public half of a signing key."""

from __future__ import annotations

import json

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.token.options import read_keys
from injector.tokens.signing_keys import BadKeyError


@click.command(short_help="Print the public half of a signing key.")
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
    """  # noqa: D301 - click does not wrap a paragraph after \b
    keys = read_keys(signing_key, None, Connect(kubeconfig, context))
    try:
        click.echo(json.dumps(keys.public(), indent=2))
    except BadKeyError as error:
        raise click.UsageError(f"--signing-key {signing_key}: {error}") from None
    return Exit.FINE
