"""Prints a status: a line for each workload, or JSON with every Pod."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import click

from injector.cli.output import table
from injector.core.assessment import CURRENCY_SEVERITIES, Currency, Protection, ProtectionReason, Severity
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from injector.core.assessment import Assessment
    from injector.core.rollout import Ref
    from injector.rotation.status import PodStatus, Status

_URGENCY: Final = tuple(Severity)
# Pods that a line names.
_MOST_PODS: Final = 5


def show(status: Status, output: str, *, with_namespace: bool) -> None:
    """Write the status to stdout, and what limits it to stderr."""
    if output == "json":
        documents = [_as_json(one) for one in status.pods]
        click.echo(json.dumps({"summary": _counts(status.pods), "limits": status.limits, "pods": documents}))
        return
    workloads: dict[Ref, list[Assessment]] = defaultdict(list)
    for one in status.pods:
        workloads[one.workload].append(one.assessment)
    rows = [(ref, sorted(pods, key=_urgency)) for ref, pods in workloads.items()]
    rows.sort(key=lambda row: (_urgency(row[1][0])[0], row[0].namespace, row[0].kind, row[0].name))
    is_wide = output == "wide"
    head = ("NAMESPACE", "WORKLOAD", "PROTECTION", "REASON", "PODS", "CURRENCY", "CONTAINER", "FINDINGS")
    cells = [_cells(ref, pods) for ref, pods in rows]
    if rows:
        first, last = 0 if with_namespace else 1, len(head) if is_wide else 6
        for line in table([row[first:last] for row in (head, *cells)]):
            click.echo(line)
        for _, pods in rows:
            for line in _advice(pods):
                click.echo(line)
    click.echo(_summary(status.pods))
    for limit in status.limits:
        click.echo(f"note: {limit}", err=True)


def _urgency(found: Assessment) -> tuple[int, str, str]:
    return min(map(_URGENCY.index, (found.severity, CURRENCY_SEVERITIES[_worst(found)]))), found.protection, found.name


def _worst(found: Assessment) -> Currency:
    currencies = [one.currency for one in found.currencies]
    return min(currencies, key=_WORST_FIRST.index, default=Currency.CURRENT)


_WORST_FIRST: Final = (
    Currency.SKEWED,
    Currency.OUTDATED,
    Currency.UNKNOWN,
    Currency.UNCERTAIN,
    Currency.CURRENT,
)


def _cells(ref: Ref, pods: Sequence[Assessment]) -> tuple[str, ...]:
    worst = pods[0]
    alike = sum((one.protection, one.reason) == (worst.protection, worst.reason) for one in pods)
    currencies = [_worst(one) for one in pods if one.currencies]
    findings = dict.fromkeys(found.finding.value for one in pods for found in one.findings)
    return (
        ref.namespace,
        f"{ref.kind.lower()}/{ref.name}",
        worst.protection.value,
        worst.reason.value,
        f"{alike}/{len(pods)}",
        min(currencies, key=_WORST_FIRST.index).value if currencies else "-",
        worst.container or "-",
        ", ".join(findings) or "-",
    )


def _advice(pods: Iterable[Assessment]) -> Iterator[str]:
    """Yield what to do about the Pods of a workload that need it."""
    groups: dict[tuple[ProtectionReason, str], list[Assessment]] = defaultdict(list)
    for one in pods:
        if one.reason in REMEDIES:
            groups[one.reason, one.container].append(one)
    for (reason, container), found in groups.items():
        names = ", ".join(one.name for one in found[:_MOST_PODS])
        more = f" and {len(found) - _MOST_PODS} more" if len(found) > _MOST_PODS else ""
        where = f", container {container}" if container else ""
        yield f"  {found[0].namespace}/{names}{more}{where}: {reason}: {REMEDIES[reason]}"


# What to do, for the reasons that need it.
REMEDIES: Final = {
    ProtectionReason.NOT_INJECTED: "check that the webhook answers, then restart the workload",
    ProtectionReason.NO_VARIABLE: "set dapr.io/api-token-secret on the Pod template",
    ProtectionReason.EMPTY_VALUE: "remove the empty DAPR_API_TOKEN from the Pod template",
    ProtectionReason.OPTIONAL_REFERENCE: "remove optional: true from DAPR_API_TOKEN in the Pod template",
    ProtectionReason.MAY_EXPAND_TO_EMPTY: "reference a Secret in DAPR_API_TOKEN",
    ProtectionReason.NO_SECRET: "create the Secret with: dapr-token-injector secret create NAMESPACE/NAME",
    ProtectionReason.NO_KEY: "add the key to the Secret, or correct the annotation",
    ProtectionReason.MALFORMED: "read the Pod with kubectl get pod -o yaml",
    ProtectionReason.ENV_FROM: "write DAPR_API_TOKEN as an entry of env",
    ProtectionReason.DAPR_SHARED: "set shared.daprd.token of the chart dapr-shared, then use probe",
    ProtectionReason.NOT_ADDED: "check Dapr's injector, then restart the workload",
}


def _counts(pods: Sequence[PodStatus]) -> dict[str, object]:
    found = [one.assessment for one in pods]
    protections = Counter(one.protection.value for one in found)
    currencies = Counter(_worst(one).value for one in found if one.currencies)
    return {
        "pods": len(found),
        "namespaces": len({one.namespace for one in found}),
        "protection": dict(sorted(protections.items())),
        "currency": dict(sorted(currencies.items())),
    }


def _summary(pods: Sequence[PodStatus]) -> str:
    """Return the whole in one line."""
    found = [one.assessment for one in pods]
    if not found:
        return "No Pod uses Dapr."
    head = f"{counted(len(found), 'Dapr Pod')} in {counted(len({one.namespace for one in found}), 'namespace')}"
    protections = Counter(one.protection for one in found)
    others = Counter(
        worst for one in found if one.protection is Protection.PROTECTED and (worst := _worst(one)) in _NOT_CURRENT
    )
    parts = []
    for word, number in sorted(protections.items(), key=lambda item: (item[0] is not Protection.PROTECTED, -item[1])):
        rest = ", ".join(f"{others[one]:,} {one}" for one in _NOT_CURRENT if others[one])
        is_all = word is Protection.PROTECTED and rest
        parts.append(f"{number:,} {word}" + (f" ({rest})" if is_all else ""))
    return f"{head}: {', '.join(parts)}"


_NOT_CURRENT: Final = (Currency.SKEWED, Currency.OUTDATED, Currency.UNCERTAIN)


def _as_json(one: PodStatus) -> dict[str, object]:
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
        "findings": [
            {"finding": one.finding, "container": one.container, **({"detail": one.detail} if one.detail else {})}
            for one in found.findings
        ],
    }
