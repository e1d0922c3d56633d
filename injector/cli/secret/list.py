"""`secret list`: list token Secrets, their age, and the Pods that use them."""

from __future__ import annotations

import json
import textwrap
import time
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import connection
from injector.cli.connection import Connect
from injector.cli.main import Exit
from injector.cli.namespace_option import namespace_option, reject_with_all_namespaces
from injector.cli.output import output_option, table
from injector.cli.param_types import States, duration_option
from injector.core import names
from injector.core.durations import DAY, span
from injector.core.ownership import managed_by
from injector.core.token_id import is_id
from injector.rotation.usage import EXPIRING_WITHIN, list_usage
from injector.times import rfc3339, unix_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    whose containers started so close to it that they may run either value. OPEN: Pods that request
    the token and have none, so their Dapr API is open. No value is shown.

    \b
    Examples:
      dapr-token-injector secret list -n shop
      dapr-token-injector secret list --fail-on outdated,open,expiring

    Exit codes: 0 no state that --fail-on names, 1 such a state, 2 usage error,
    request rejected, or a state could not be determined, 3 internal error.
    """  # noqa: D301 - \b tells click not to wrap a paragraph
    reject_with_all_namespaces(namespace, all_namespaces=all_namespaces)
    everywhere = "list" if namespace is None else None
    rows = connection.run(Connect.of(options), lambda api: list_usage(api, namespace), everywhere=everywhere)
    now = int(time.time())
    if output == "json":
        immutable = [{} if row.secret is None else {"immutable": row.secret.immutable} for row in rows]
        secrets = [{**as_json(row), **more} for row, more in zip(rows, immutable, strict=True)]
        click.echo(json.dumps({"secrets": secrets}))
    elif rows:
        for line in lines(rows, now):
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


_HEADINGS: Final = ("SECRET", "AGE", "EXPIRES", "PODS", "OUTDATED", "UNCERTAIN", "OPEN")
_WIDTH: Final = 80


def lines(rows: Sequence[SecretUsage], now: int) -> Iterator[str]:
    """Yield a table of 80 columns; a name that does not fit, and what has no column, have lines of their own."""
    secrets = [_HEADINGS[0], *(str(row.key.secret) for row in rows)]
    others = list(table([_HEADINGS[1:], *(_cells(row, now) for row in rows)]))
    room = _WIDTH - max(map(len, others)) - 2
    width = max(len(name) for name in secrets if len(name) <= room)
    details = ["", *map(_details, rows)]
    for name, other, detail in zip(secrets, others, details, strict=True):
        if len(name) > width:
            yield name
        yield f"{name if len(name) <= width else '':<{width}}  {other}"
        yield from textwrap.wrap(
            detail, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )


def _cells(row: SecretUsage, now: int) -> tuple[str, ...]:
    secret = row.secret
    issued = None
    if secret is not None:
        issued = unix_time(secret.annotations.get(names.TOKEN_ISSUED)) or secret.changed(row.key.key)
    expires = row.expires
    until = "-" if expires is None else f"in {span(expires - now)}" if expires > now else "EXPIRED"
    numbers = (row.pods, len(row.outdated), len(row.uncertain), len(row.open))
    return (span(now - issued) if issued is not None else "-", until, *map(str, numbers))


def _details(row: SecretUsage) -> str:
    """Return key, direction, id, owner and workloads."""
    secret = row.secret
    if secret is None:
        owner = "MISSING" if row.is_readable else "its metadata cannot be read"
    elif not row.has_key:
        owner = "NO SUCH KEY"
    else:
        tool = managed_by(secret, row.key.key)
        owner = f"managed by {tool.name}" if tool is not None else "ours"
    token_id = secret.token_id if secret is not None else None  # users can write any annotation
    parts = (
        f"{row.key.key} ({row.direction})",
        f"id {token_id if is_id(token_id) else '(not shown)'}" if token_id else "",
        owner,
    )
    used = f"used by {', '.join(row.workloads)}" if row.workloads else "not used"
    return f"{', '.join(part for part in parts if part)}; {used}"


def as_json(row: SecretUsage) -> dict[str, object]:
    """Return a key of a Secret as JSON, with what the metadata shows."""
    fields: dict[str, object] = {
        "namespace": row.key.namespace,
        "name": row.key.name,
        "key": row.key.key,
        "for": row.direction,
        "exists": row.secret is not None if row.is_readable else None,
        "workloads": list(row.workloads),
        "pods": row.pods,
        "outdated": list(row.outdated),
        "uncertain": list(row.uncertain),
        "open": list(row.open),
    }
    if row.secret is None:
        return fields
    owner = managed_by(row.secret, row.key.key)
    changed = row.secret.changed(row.key.key)
    annotations = row.secret.annotations
    return {
        **fields,
        "hasKey": row.has_key,
        "id": row.secret.token_id,
        "issued": annotations.get(names.TOKEN_ISSUED),
        "expires": annotations.get(names.TOKEN_EXPIRES),
        "changed": None if changed is None else rfc3339(changed),
        "owner": None if owner is None else owner.name,
    }
