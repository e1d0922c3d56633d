"""`secret list`: list token Secrets, their age, and the Pods that use them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.namespace_option import namespace_option, reject_with_all_namespaces
from injector.cli.output import output_option
from injector.cli.param_types import States, duration_option
from injector.cli.secret import usage_table
from injector.core import names
from injector.core.durations import DAY
from injector.rotation.usage import EXPIRING_WITHIN, list_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.rotation.usage import SecretUsage

_FAIL_ON: Final = ("outdated", "open", "expiring")


@click.command(name="list", short_help="List token Secrets and the Pods that use them.")
@namespace_option("List one namespace. [default: all]")
@click.option("-A", "--all-namespaces", is_flag=True, help="List all namespaces, as without -n.")
@click.option(
    "--fail-on",
    type=States(*_FAIL_ON),
    metavar="WORDS",
    default="",
    help=f"Exit with 1 on these states, comma-separated: {', '.join(_FAIL_ON)}.",
)
@duration_option(
    "--expiring-within", f"{EXPIRING_WITHIN // DAY}d", "Count tokens as expiring that expire within this time."
)
@output_option("table", "json")
@connection.options
def command(
    *,
    namespace: str | None,
    all_namespaces: bool,
    fail_on: frozenset[str],
    expiring_within: int,
    output: str,
    **options: Any,  # noqa: ANN401 - those of `connection.options`
) -> int:
    """List token Secrets and the Pods that use them.

    Every Secret with the label dapr-token-injector/token is listed, and every
    one that a Pod reads or requests as its token. OUTDATED: Pods whose
    containers started before the Secret's data last changed. UNCERTAIN: Pods
    whose containers started so close to it that they may run either value.
    OPEN: Pods that request the token and have none, or reference it as
    optional. No value is shown.

    \b
    Examples:
      dapr-token-injector secret list -n shop
      dapr-token-injector secret list --fail-on outdated,open,expiring

    Exit codes: 0 no state that --fail-on names, 1 such a state, 2 usage error,
    request rejected, or a state could not be determined, 3 internal error.
    """  # noqa: D301 - click does not wrap a paragraph after \b
    reject_with_all_namespaces(namespace, all_namespaces=all_namespaces)
    everywhere = "list" if namespace is None else None
    rows = connection.run(Connect.of(options), lambda api: list_usage(api, namespace), everywhere=everywhere)
    now = int(time.time())
    if output == "json":
        immutable = [{} if row.secret is None else {"immutable": row.secret.immutable} for row in rows]
        secrets = [{**usage_table.as_json(row), **more} for row, more in zip(rows, immutable, strict=True)]
        click.echo(json.dumps({"secrets": secrets}))
    elif rows:
        for line in usage_table.lines(rows, now):
            click.echo(line)
    else:
        label = f"no Secret has the label {names.TOKEN_LABEL} and no Pod reads or requests one"
        click.echo(f"No token Secrets found: {label}.", err=True)
    return _exit(rows, fail_on, now + expiring_within)


def _exit(rows: Sequence[SecretUsage], wanted: frozenset[str], expiring_at: int) -> Exit:
    found = {
        "outdated": any(row.outdated for row in rows),
        "open": any(row.open for row in rows),
        "expiring": any(row.expires is not None and row.expires <= expiring_at for row in rows),
    }
    if any(found[word] for word in wanted):
        return Exit.FINDINGS
    undated = [str(row.key.secret) for row in rows if row.pods and not row.is_dated]
    if "outdated" in wanted and undated:
        click.echo(
            f"unknown: {', '.join(undated)}: no managed fields, so nothing shows when the data changed", err=True
        )
        return Exit.USAGE
    return Exit.FINE
