"""`secret`: token Secrets in the cluster, with the caller's own rights; nothing in the cluster gets a new one."""

from __future__ import annotations

import click

from injector.cli.secret.create import create
from injector.cli.secret.list import command as listing
from injector.cli.secret.rotate import revoke, rotate


@click.group(short_help="Create, rotate, revoke and list token Secrets.")
def command() -> None:
    """Create, rotate, revoke and list token Secrets, by your own kubeconfig."""


for each in (create, rotate, revoke, listing):
    command.add_command(each)
