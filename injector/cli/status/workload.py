"""`status KIND/NAME`: one workload, with a line for each container of its Pods that a token matters to."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from injector.cli.output import table
from injector.cli.status.report import WORST_FIRST, document, pod_document, rows_of, show_rest
from injector.core.assessment import PROTECTIONS
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.assessment import Assessment, ContainerFinding, Currency, ProtectionReason
    from injector.rotation.status import StatusReport

_HEAD: Final = ("POD", "CONTAINER", "PROTECTION", "REASON", "CURRENCY", "FINDINGS")


@dataclass(slots=True)
class _Container:
    """What is known of a container; `name` is empty for the Pod as a whole."""

    name: str
    reason: ProtectionReason | None = None
    currency: Currency | None = None
    findings: tuple[ContainerFinding, ...] = ()


def show(label: str, status: StatusReport, output: str) -> None:
    """Write the containers of a workload to stdout; `label`: the workload as the user named it."""
    if output == "json":
        pods = [
            {**pod_document(one), "containers": [_as_json(each) for each in _containers(one.assessment)]}
            for one in status.pods
        ]
        click.echo(json.dumps({**document(status), "pods": pods}))
        return
    rows = rows_of(status)
    if rows:
        lines = [line for row in rows for one in row.pods for line in _lines(one.assessment)]
        for line in table([_HEAD, *lines]):
            click.echo(line)
    show_rest(status, rows, of=label)


def _lines(found: Assessment) -> Iterator[tuple[str, ...]]:
    name = found.name
    for one in _containers(found):
        findings = (" ".join(part for part in (each.finding, each.detail) if part) for each in one.findings)
        yield (
            escaped(name),
            escaped(one.name) or "-",
            PROTECTIONS[one.reason].value if one.reason is not None else "-",
            one.reason.value if one.reason is not None else "-",
            one.currency.value if one.currency is not None else "-",
            ", ".join(findings) or "-",
        )
        name = ""


def _containers(found: Assessment) -> list[_Container]:
    """Return the containers: first what decides the protection, then those that only read a token."""
    reasons = {one.container: one.reason for one in found.containers}
    currencies: dict[str, list[Currency]] = defaultdict(list)
    for key in found.currencies:
        for container, currency in key.by_container:
            currencies[container].append(currency)
    findings: dict[str, list[ContainerFinding]] = defaultdict(list)
    for one in found.findings:
        findings[one.container].append(one)
    order = dict.fromkeys(
        (found.container, *(one.container for one in found.containers), *sorted(currencies), *findings)
    )
    return [
        _Container(
            name=name,
            reason=reasons.get(name) if name else found.reason,
            currency=min(currencies[name], key=WORST_FIRST.index) if name in currencies else None,
            findings=tuple(findings.get(name, ())),
        )
        for name in order
    ]


def _as_json(one: _Container) -> dict[str, object]:
    return {
        "name": one.name or None,
        "protection": PROTECTIONS[one.reason] if one.reason is not None else None,
        "reason": one.reason,
        "currency": one.currency,
        "findings": [each.finding for each in one.findings],
    }
