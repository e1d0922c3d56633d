"""`secret list`: which token Secrets there are, how old, who uses them, and who still runs an older value."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli import kubeconfig
from injector.cli.kubeconfig import Connect
from injector.cli.main import Exit
from injector.core import names
from injector.core.claims import span
from injector.core.ownership import SecretRef, owner_of
from injector.core.rollout import holding, version_of
from injector.kube.errors import ForbiddenError
from injector.kube.resources import PODS, SECRETS
from injector.tokens import observing, reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from injector.core.ownership import TokenSecret
    from injector.core.rollout import Holder
    from injector.kube.client import Api

_DIRECTIONS: Final = {names.API_TOKEN_ENV: "api", names.APP_TOKEN_ENV: "app"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One key of one Secret; `secret` None: it is used and not there."""

    ref: SecretRef
    key: str
    direction: str
    secret: TokenSecret | None
    workloads: tuple[str, ...]
    pods: int
    stale: tuple[str, ...]


@click.command(name="list", short_help="List token Secrets, who uses them, and who runs an older value.")
@click.option("-n", "--namespace", metavar="NAME", help="Default: all namespaces.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Format."
)
@kubeconfig.options
def command(*, namespace: str | None, output: str, **options: Any) -> int:  # noqa: ANN401 - those of `kubeconfig.options`
    """List token Secrets, who uses them, and who runs an older value.

    Listed is every Secret with our label, and every one that a running
    container reads DAPR_API_TOKEN or APP_API_TOKEN from. A Pod counts as old
    when its containers started before the Secret's data last changed. No value
    is shown.

    Exit codes: 0 fine, 2 wrong use or refused, 3 our own fault.
    """
    rows = kubeconfig.run(Connect.of(options), lambda api: _rows_of(api, namespace))
    now = int(time.time())
    if output == "json":
        click.echo(json.dumps({"secrets": [_as_json(row) for row in rows]}))
        return Exit.FINE
    if not rows:
        click.echo("no token Secret: none has our label, and no running container reads one", err=True)
        return Exit.FINE
    cells = [_HEADINGS, *(_cells(row, now) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    for line in cells:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    return Exit.FINE


_HEADINGS: Final = ("SECRET", "KEY", "FOR", "ID", "AGE", "EXPIRES", "OWNER", "PODS", "OLD", "USED BY")


async def _rows_of(api: Api, namespace: str | None) -> list[_Row]:
    """All rows.

    Raises:
        click.ClickException: All namespaces may not be listed; one may.
    """
    try:
        return await _rows(api, namespace)
    except ForbiddenError as error:
        if namespace is not None:
            raise
        raise click.ClickException(f"{error}; name one namespace with -n NAMESPACE, or ask for that right") from None


async def _rows(api: Api, namespace: str | None) -> list[_Row]:
    pods = await api.list(PODS, namespace)
    labelled = await api.list(SECRETS, namespace, label_selector=names.TOKEN_LABEL)
    secrets = {secret.ref: secret for secret in map(reading.token_secret, labelled)}
    used = _used(pods)
    for ref, secret in secrets.items():
        for key in secret.keys:
            used.setdefault((ref, key), secret.labels[names.TOKEN_LABEL])
    owners = observing.Owners(api)
    await owners.read_all(namespace)
    holders: dict[tuple[SecretRef, str], list[Holder]] = {}
    for keys in _rounds(used):
        for holder in (await observing.among(pods, keys, owners)).holders:
            for use in holder.uses:
                holders.setdefault((use.secret, keys[use.secret]), []).append(holder)
    return [
        _row(ref, key, direction, secrets.get(ref) or await _read(api, ref), holders.get((ref, key), []))
        for (ref, key), direction in sorted(used.items())
    ]


def _rounds(used: Iterable[tuple[SecretRef, str]]) -> Iterator[dict[SecretRef, str]]:
    """The keys, so parted that no Secret is twice in one part."""
    left = sorted(used)
    while left:
        taken = dict(reversed(left))
        yield taken
        left = [(ref, key) for ref, key in left if taken[ref] != key]


def _row(ref: SecretRef, key: str, direction: str, secret: TokenSecret | None, holders: Sequence[Holder]) -> _Row:
    old = holding({ref: version_of(secret, key)}, holders) if secret is not None else ()
    return _Row(
        ref=ref,
        key=key,
        direction=direction,
        secret=secret,
        workloads=tuple(f"{known.kind}/{known.name}" for known in sorted({holder.workload for holder in holders})),
        pods=len(holders),
        stale=tuple(sorted(holder.name for holder in old)),
    )


def _used(pods: Sequence[dict[str, Any]]) -> dict[tuple[SecretRef, str], str]:
    """Keys that containers read as one of the two tokens, and as which."""
    found: dict[tuple[SecretRef, str], str] = {}
    for pod in pods:
        for _, variable, name, key in reading.references(pod):
            if variable in _DIRECTIONS:
                found.setdefault((SecretRef(pod["metadata"]["namespace"], name), key), _DIRECTIONS[variable])
    return found


async def _read(api: Api, ref: SecretRef) -> TokenSecret | None:
    """One Secret without our label; by a list of one, for the right to list is what is there already."""
    found = await api.list(SECRETS, ref.namespace, field_selector=f"metadata.name={ref.name}")
    return reading.token_secret(found[0]) if found else None


def _cells(row: _Row, now: int) -> tuple[str, ...]:
    secret = row.secret
    issued = expires = None
    owner = "MISSING"
    if secret is not None:
        issued = reading.seconds(secret.annotations.get(names.TOKEN_ISSUED)) or secret.changed(row.key)
        expires = reading.seconds(secret.annotations.get(names.TOKEN_EXPIRES))
        foreign = owner_of(secret, row.key)
        owner = foreign.name if foreign is not None else "ours"
        if row.key not in secret.keys:
            owner = "NO SUCH KEY"
    until = "-" if expires is None else f"in {span(expires - now)}" if expires > now else "EXPIRED"
    return (
        str(row.ref),
        row.key,
        row.direction,
        (secret.token_id if secret is not None else None) or "-",
        span(now - issued) if issued is not None else "-",
        until,
        owner,
        str(row.pods),
        str(len(row.stale)),
        ", ".join(row.workloads) or "-",
    )


def _as_json(row: _Row) -> dict[str, object]:
    told: dict[str, object] = {
        "namespace": row.ref.namespace,
        "name": row.ref.name,
        "key": row.key,
        "for": row.direction,
        "exists": row.secret is not None,
        "workloads": list(row.workloads),
        "pods": row.pods,
        "stale": list(row.stale),
    }
    if row.secret is None:
        return told
    owner = owner_of(row.secret, row.key)
    changed = row.secret.changed(row.key)
    annotations: Mapping[str, str] = row.secret.annotations
    return {
        **told,
        "hasKey": row.key in row.secret.keys,
        "id": row.secret.token_id,
        "issued": annotations.get(names.TOKEN_ISSUED),
        "expires": annotations.get(names.TOKEN_EXPIRES),
        "changed": None if changed is None else reading.written(changed),
        "owner": None if owner is None else owner.name,
        "immutable": row.secret.immutable,
    }
