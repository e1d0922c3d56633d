"""`version`: what is installed."""

from __future__ import annotations

import platform

import click
import msgspec

from injector import __version__


@click.command(short_help="Print the version.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format.")
def command(output: str) -> None:
    """Print the version of the injector and of its Python."""
    if output == "json":
        document = {"version": __version__, "python": platform.python_version()}
        click.echo(msgspec.json.encode(document))
    else:
        click.echo(f"dapr-token-injector {__version__} (Python {platform.python_version()})")
