"""Prints a status: a line for each workload, or JSON with every Pod."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from injector.cli.output import table
from injector.cli.status.advice import advice
from injector.core.assessment import CURRENCY_SEVERITIES, Currency, Protection, Severity
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from injector.cli.status.documents import FindingDocument, PodDocument, StatusDocument, SummaryDocument
    from injector.core.assessment import Assessment, ContainerFinding
    from injector.core.token_state import Ref
    from injector.rotation.status import AssessedPod, StatusReport

# The most urgent first.
URGENCY: Final = tuple(Severity)


def show(status: StatusReport, output: str, *, with_namespace: bool) -> None:
    """Write the status to stdout, and what limits it to stderr."""
    if output == "json":
        click.echo(json.dumps(document(status)))
        return
    show_table(status, columns(with_namespace=with_namespace, is_wide=output == "wide"))


def columns(*, with_namespace: bool, is_wide: bool) -> slice:
    """Return the columns of `HEAD` that a table has."""
    return slice(0 if with_namespace else 1, len(HEAD) if is_wide else 6)


def show_table(status: StatusReport, shown: slice, *, of: str = "") -> None:
    """Write a row for each workload, with the columns `shown`, and what is below the table; see `show_rest`."""
    rows = rows_of(status)
    if rows:
        for line in table([cells[shown] for cells in (HEAD, *(row.cells for row in rows))]):
            click.echo(line)
    show_rest(status, rows, of=of)


def show_rest(status: StatusReport, rows: Iterable[WorkloadRow], *, of: str = "") -> None:
    """Write what is below a table: what to do, the summary (`of` an object), and to stderr what limits it."""
    for line in advice(one for row in rows for one in row.pods):
        click.echo(line)
    click.echo(summary(status.pods, of))
    for limit in status.limits:
        click.echo(f"note: {limit}", err=True)


HEAD: Final = ("NAMESPACE", "WORKLOAD", "PROTECTION", "REASON", "PODS", "CURRENCY", "CONTAINER", "FINDINGS")


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """A workload and its Pods, the worst first."""

    ref: Ref
    pods: Sequence[AssessedPod]

    @property
    def worst(self) -> Assessment:
        """The assessment of the worst Pod."""
        return self.pods[0].assessment

    @property
    def urgency(self) -> int:
        """The place of its severity: 0 is the most urgent."""
        return _urgency(self.worst)[0]

    @property
    def cells(self) -> tuple[str, ...]:
        """What is shown below `HEAD`."""
        worst, found = self.worst, [one.assessment for one in self.pods]
        alike = sum((one.protection, one.reason) == (worst.protection, worst.reason) for one in found)
        currencies = [worst_currency(one) for one in found if one.currencies]
        findings = dict.fromkeys(one.finding.value for each in found for one in each.findings)
        return (
            escaped(self.ref.namespace),
            escaped(f"{self.ref.kind.lower()}/{self.ref.name}"),
            worst.protection.value,
            worst.reason.value,
            f"{alike}/{len(found)}",
            min(currencies, key=WORST_FIRST.index).value if currencies else "-",
            escaped(worst.container) or "-",
            ", ".join(findings) or "-",
        )


def rows_of(status: StatusReport) -> list[WorkloadRow]:
    """Return a row for each workload, the worst first."""
    workloads: dict[Ref, list[AssessedPod]] = defaultdict(list)
    for one in status.pods:
        workloads[one.workload].append(one)
    rows = [WorkloadRow(ref, sorted(pods, key=lambda one: _urgency(one.assessment))) for ref, pods in workloads.items()]
    return sorted(rows, key=lambda row: (row.urgency, row.ref.namespace, row.ref.kind, row.ref.name))


def _urgency(found: Assessment) -> tuple[int, str, str]:
    severities = (found.severity, CURRENCY_SEVERITIES[worst_currency(found)])
    return min(map(URGENCY.index, severities)), found.protection, found.name


def worst_currency(found: Assessment) -> Currency:
    """Return the worst currency of a Pod's keys."""
    currencies = [one.currency for one in found.currencies]
    return min(currencies, key=WORST_FIRST.index, default=Currency.CURRENT)


WORST_FIRST: Final = (
    Currency.SKEWED,
    Currency.OUTDATED,
    Currency.UNKNOWN,
    Currency.UNCERTAIN,
    Currency.CURRENT,
)


def document(status: StatusReport) -> StatusDocument:
    """Return the status as JSON; docs/reference/status-output.md explains the fields."""
    pods = [pod_document(one) for one in status.pods]
    return {"summary": _counts(status.pods), "limits": list(status.limits), "pods": pods}


def _counts(pods: Sequence[AssessedPod]) -> SummaryDocument:
    found = [one.assessment for one in pods]
    protections = Counter(one.protection for one in found)
    currencies = Counter(worst_currency(one) for one in found if one.currencies)
    return {
        "pods": len(found),
        "namespaces": len({one.namespace for one in found}),
        "protection": dict(sorted(protections.items())),
        "currency": dict(sorted(currencies.items())),
    }


def summary(pods: Sequence[AssessedPod], of: str = "") -> str:
    """Return the whole in one line; `of`: the workload or Secret, if it is not all."""
    found = [one.assessment for one in pods]
    if not found:
        return f"No Pod of {escaped(of)} uses Dapr." if of else "No Pod uses Dapr."
    head = f"{counted(len(found), 'Dapr Pod')} in {counted(len({one.namespace for one in found}), 'namespace')}"
    protections = Counter(one.protection for one in found)
    others = Counter(
        worst
        for one in found
        if one.protection is Protection.PROTECTED and (worst := worst_currency(one)) in _NOT_CURRENT
    )
    parts = []
    for word, number in sorted(protections.items(), key=lambda item: (item[0] is not Protection.PROTECTED, -item[1])):
        rest = ", ".join(f"{others[one]:,} {one}" for one in _NOT_CURRENT if others[one])
        is_all = word is Protection.PROTECTED and rest
        parts.append(f"{number:,} {word}" + (f" ({rest})" if is_all else ""))
    return f"{head}: {', '.join(parts)}"


_NOT_CURRENT: Final = (Currency.SKEWED, Currency.OUTDATED, Currency.UNCERTAIN)


def pod_document(one: AssessedPod) -> PodDocument:
    """Return a Pod as JSON."""
    found = one.assessment
    return {
        "namespace": found.namespace,
        "name": found.name,
        "workload": f"{one.workload.kind}/{one.workload.name}",
        "protection": found.protection,
        "reason": found.reason,
        "severity": found.severity,
        "container": found.container or None,
        "currencies": [
            {
                "secret": key.key.name,
                "key": key.key.key,
                "currency": key.currency,
                "severity": CURRENCY_SEVERITIES[key.currency],
                "containers": list(key.containers),
            }
            for key in found.currencies
        ],
        "findings": [_finding_document(one) for one in found.findings],
    }


def _finding_document(one: ContainerFinding) -> FindingDocument:
    found: FindingDocument = {"finding": one.finding, "container": one.container}
    return {**found, "detail": one.detail} if one.detail else found
