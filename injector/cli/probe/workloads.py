"""Probes the Pods of workloads, including those that are created while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from injector.core.exposure import ProbeReport
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.probe.pods import KINDS, Prober, pods_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.kube.client import Api
    from injector.probe.prober import ExpectedToken

# Pods probed at the same time; each needs a few connections to the API server.
_MAX_CONCURRENT: Final = 8
# How often to list the Pods of a workload again, to find Pods created in the meantime.
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class WorkloadTarget:
    """A workload, or a Pod, as given on the command line."""

    label: str
    kind: str
    name: str


async def probe_workloads(
    api: Api, namespace: str, workloads: Sequence[WorkloadTarget], expected: ExpectedToken, timeout_seconds: float
) -> list[ProbeReport]:
    """Probe Pods until all that exist were probed: some end in the meantime and others replace them."""
    prober = Prober(api, namespace, expected, timeout_seconds)
    turns = asyncio.Semaphore(_MAX_CONCURRENT)
    asked: dict[str, ProbeReport] = {}

    async def ask(uid: str, pod: dict[str, object]) -> None:
        async with turns:
            asked[uid] = await prober.probe(pod)

    pods, failures = await _pods(api, namespace, workloads)
    for _ in range(_ROUNDS):
        new = {uid: pod for uid, pod in pods.items() if uid not in asked}
        if not new:
            break
        await asyncio.gather(*(ask(uid, pod) for uid, pod in new.items()))
        pods, failures = await _pods(api, namespace, workloads)
    else:
        failures.append(
            ProbeReport(
                f"namespace {namespace}", failure="Pods are replaced faster than they can be probed; run it again"
            )
        )
    reported = {failure.target for failure in failures}
    for gone in sorted(asked[uid].target for uid in asked.keys() - pods.keys()):
        if gone not in reported:
            click.echo(f"note: {gone} ended during the probe and is not reported", err=True)
    return [*failures, *(asked[uid] for uid in pods if uid in asked)]


async def _pods(
    api: Api, namespace: str, workloads: Sequence[WorkloadTarget]
) -> tuple[dict[str, dict[str, Any]], list[ProbeReport]]:
    """Return the Pods of all workloads by uid, and a report for each workload without Pods."""
    found: dict[str, dict[str, Any]] = {}
    failures: list[ProbeReport] = []
    for workload in workloads:
        try:
            mine = await pods_of(api, KINDS[workload.kind], workload.name, namespace)
        except (ForbiddenError, NotFoundError) as error:
            failures.append(ProbeReport(workload.label, failure=str(error)))
            continue
        if not mine:
            failures.append(ProbeReport(workload.label, failure="no running Pods"))
        found.update({str(pod["metadata"]["uid"]): pod for pod in mine})
    return found, failures
