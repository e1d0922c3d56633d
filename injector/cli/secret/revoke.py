"""`secret revoke`: rotate, and wait until no Pod holds the previous token."""

from __future__ import annotations

from typing import Any

import click

from injector.cli import explicit_options
from injector.cli.secret.rotate import RotationRun
from injector.cli.secret.rotation_options import rotation_options


@click.command(
    cls=explicit_options.RepeatableCommand, short_help="Rotate, and wait until no Pod holds the previous token."
)
@rotation_options
def revoke(**options: Any) -> int:  # noqa: ANN401 - the options above
    """Rotate, and wait until no Pod holds the previous token.

    A token is revoked only when the last process that read it has ended: a
    deleted or changed Secret takes nothing from a running process. Restarts
    like rotate --restart, uncertain Pods included, then waits for Pods that
    still hold the previous token. A Pod whose sidecar has no token is open and
    is reported.

    \b
    Examples:
      dapr-token-injector secret revoke shop/dapr-api-token --dry-run
      dapr-token-injector secret revoke shop/dapr-api-token

    Exit codes: 0 revoked, 1 not yet (the Pods are named) or a check failed,
    2 usage error or request rejected, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    return RotationRun.of(options, restart=True, wait=True, revoke=True).run()
