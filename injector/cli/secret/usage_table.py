"""The keys of token Secrets and the Pods that use them, as a table and as JSON."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from injector.cli.output import table
from injector.core import names
from injector.core.durations import span
from injector.core.ownership import managed_by
from injector.core.token_id import is_id
from injector.times import rfc3339, unix_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from injector.rotation.usage import SecretUsage

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
