"""Statuses of clusters that do not exist, for reports."""

from __future__ import annotations

from typing import Final

from injector.cli.status.html import Scope
from injector.core.advisories import _AFFECTED
from injector.core.assessment import (
    PROTECTIONS,
    SEVERITIES,
    Assessment,
    ContainerFinding,
    Currency,
    KeyCurrency,
    PodFinding,
    ProtectionReason,
)
from injector.core.ownership import SecretKey
from injector.core.token_state import Ref
from injector.rotation.status import AssessedPod, StatusReport

SCOPE: Final = Scope(context="production-eu-central-1", namespace=None, at=1_800_000_000)
LIMIT: Final = (
    "whether Pods run the current token is unknown: cannot list secrets in all namespaces: not allowed: secrets is "
    'forbidden: User "auditor" cannot list resource "secrets" in API group "" at the cluster scope'
)
_REASONS: Final = tuple(reason for reason in ProtectionReason if reason is not ProtectionReason.NO_DAPR)


def pod(
    namespace: str,
    workload: str,
    number: int = 1,
    *,
    reason: ProtectionReason = ProtectionReason.REFERENCE,
    currency: Currency | None = None,
    findings: tuple[ContainerFinding, ...] = (),
) -> AssessedPod:
    """A Pod of a Deployment."""
    key = SecretKey(namespace, "dapr-api-token", "token")
    containers = ("daprd",) if currency not in {None, Currency.CURRENT} else ()
    protection = PROTECTIONS[reason]
    return AssessedPod(
        Ref("Deployment", namespace, workload),
        Assessment(
            namespace=namespace,
            name=f"{workload}-5d9c7b6f4-{number:05}",
            protection=protection,
            reason=reason,
            severity=SEVERITIES[protection],
            container="daprd",
            currencies=(KeyCurrency(key=key, currency=currency, containers=containers),) if currency else (),
            findings=findings,
        ),
    )


def cluster(workloads: int = 300, namespaces: int = 40, replicas: int = 3, *, sound: bool = False) -> StatusReport:
    """A cluster in which most Pods are sound, and every reason, currency and finding occurs."""
    pods = []
    for number in range(workloads):
        name = f"orders-{number}" if number % 17 else f"{'a-service-with-a-very-long-name-' * 2}{number}"[:63]
        for replica in range(replicas):
            kind = 0 if sound else number % 10
            reason = _REASONS[number // 10 % len(_REASONS)] if kind == 1 and replica else ProtectionReason.REFERENCE
            currency = tuple(Currency)[number // 10 % len(Currency)] if kind == 2 else Currency.CURRENT
            finding = tuple(PodFinding)[number // 10 % len(PodFinding)]
            detail = next(iter(_AFFECTED)) if finding is PodFinding.DAPRD_ADVISORY else ""
            findings = (ContainerFinding(finding=finding, container="daprd", detail=detail),) if kind == 3 else ()
            pods.append(
                pod(f"team-{number % namespaces}", name, replica, reason=reason, currency=currency, findings=findings)
            )
    return StatusReport(tuple(pods), ())
