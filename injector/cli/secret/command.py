"""`secret`: manage token Secrets in the cluster with the permissions of the user's kubeconfig."""

from __future__ import annotations

import click

from injector.cli.secret.create import create
from injector.cli.secret.list import command as listing
from injector.cli.secret.revoke import revoke
from injector.cli.secret.rotate import rotate


@click.group(short_help="Create, rotate, revoke and list token Secrets.")
def command() -> None:
    """Create, rotate, revoke and list token Secrets, with your own kubeconfig."""


for subcommand in (create, rotate, revoke, listing):
    command.add_command(subcommand)
