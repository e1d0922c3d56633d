"""`token`: generate and verify tokens."""

from __future__ import annotations

import click

from injector.cli.token.generate import generate
from injector.cli.token.jwks import jwks
from injector.cli.token.verify import verify


@click.group(short_help="Generate and verify tokens.")
def command() -> None:
    """Generate and verify tokens."""


for subcommand in (generate, verify, jwks):
    command.add_command(subcommand)
