"""`version`: print the installed version."""

from __future__ import annotations

import json
import platform

import click

from injector import __version__
from injector.cli.output import output_option


@click.command(short_help="Print the version.")
@output_option("text", "json")
def command(output: str) -> None:
    """Print the version of the injector and of Python.

    Exit codes: 0 fine, 2 usage error, 3 internal error.
    """
    if output == "json":
        document = {"version": __version__, "python": platform.python_version()}
        click.echo(json.dumps(document, separators=(",", ":")))
    else:
        click.echo(f"dapr-token-injector {__version__} (Python {platform.python_version()})")
