"""`seal`: write or check the token file of a sealed Pod.

Only help and usage errors come here in a container: `injector.__main__` runs every other call without the command line.
"""

from __future__ import annotations

import click

from injector import seal
from injector.core import names


@click.command(short_help="Write or check the token file of a sealed Pod (run by its init containers).")
@click.option("--check", "is_check", is_flag=True, help="Check that the kubelet has read the variables from the file.")
@click.argument("variables", nargs=-1, required=True, type=click.Choice(names.TOKEN_VARIABLES), metavar="VARIABLE...")
def command(*, variables: tuple[str, ...], is_check: bool) -> int:
    """Write the tokens in VARIABLE... to /dapr-token-injector/seal/tokens.env.

    The two init containers of a sealed Pod run this command. Without --check it
    checks the tokens and writes the file from which the kubelet sets the
    variables of the other containers. With --check it fails if the kubelet has
    not set them. VARIABLE is DAPR_API_TOKEN or APP_API_TOKEN.

    An error is one sentence without any part of a value, on stderr and in the
    termination message of the container, which kubectl describe shows. If a
    token is a JWT that this program created, the message has its public id.

    \b
    Examples:
      dapr-token-injector seal DAPR_API_TOKEN APP_API_TOKEN
      dapr-token-injector seal --check DAPR_API_TOKEN APP_API_TOKEN

    Exit codes: 0 fine, 1 a variable is empty or not a valid token, or the file
    cannot be written, 2 usage error, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    return seal.run(variables, is_check=is_check)
