"""Probes the Pods of workloads or of a selection, including those that are created while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from injector.cli.connection import ONE_NAMESPACE
from injector.cli.output import Reporter
from injector.core.exposure import ProbeReport
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.probe.pods import Selection, pods_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from injector.cli.workload_target import WorkloadTarget
    from injector.kube.client import Api
    from injector.probe.pods import Prober

    # Pods by uid, and a report for each target without Pods.
    Found: TypeAlias = tuple[dict[str, dict[str, Any]], list[ProbeReport]]

# Pods probed at the same time; each needs a few connections to the API server.
_MAX_CONCURRENT: Final = 8
# How often to list the Pods again, to find Pods created in the meantime.
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Workloads:
    """The Pods of workloads in one namespace."""

    namespace: str
    targets: Sequence[WorkloadTarget]

    @property
    def label(self) -> str:
        """The namespace."""
        return f"namespace {self.namespace}"

    async def find(self, api: Api) -> Found:
        """Return the Pods, in the order of the workloads."""
        found: dict[str, dict[str, Any]] = {}
        failures: list[ProbeReport] = []
        for target in self.targets:
            try:
                mine = await pods_of(api, target.resource, target.name, self.namespace)
            except (ForbiddenError, NotFoundError) as error:
                failures.append(ProbeReport(target.label, failure=str(error), namespace=self.namespace))
                continue
            if not mine:
                failures.append(ProbeReport(target.label, failure="no running Pods", namespace=self.namespace))
            found.update({str(pod["metadata"]["uid"]): pod for pod in mine})
        return found, failures


@dataclass(frozen=True, slots=True)
class Selected:
    """The Pods of a selection."""

    selection: Selection

    @property
    def label(self) -> str:
        """The namespace and the labels."""
        namespace, selector = self.selection.namespace, self.selection.selector
        where = "all namespaces" if namespace is None else f"namespace {namespace}"
        return f"{where} with {selector}" if selector else where

    async def find(self, api: Api) -> Found:
        """Return the Pods, ordered by namespace and name.

        Raises:
            click.ClickException: The user cannot list Pods.
        """
        try:
            pods = await self.selection.pods(api)
        except ForbiddenError as error:
            is_everywhere = self.selection.namespace is None
            advice = ONE_NAMESPACE.format("probe") if is_everywhere else "request that permission"
            raise click.ClickException(f"{error}; {advice}") from None
        failures = [] if pods else [ProbeReport(self.label, failure="no running Pods with a sidecar")]
        return {str(pod["metadata"]["uid"]): pod for pod in pods}, failures


async def probe_pods(api: Api, source: Workloads | Selected, prober: Prober) -> list[ProbeReport]:
    """Probe Pods until all that exist were probed: some end in the meantime and others replace them."""
    asked: dict[str, ProbeReport] = {}
    reporter = Reporter(0, quiet=False, noun="Pods", every=1)
    try:
        pods, failures = await source.find(api)
        for _ in range(_ROUNDS):
            new = {uid: pod for uid, pod in pods.items() if uid not in asked}
            if not new:
                break
            reporter.expect(len(new))
            await _probe_each(new, prober, asked, reporter)
            pods, failures = await source.find(api)
        else:
            message = "Pods are replaced faster than they can be probed; run it again"
            failures.append(ProbeReport(source.label, failure=message))
    finally:
        reporter.clear()
    reported = {failure.name for failure in failures}
    for gone in sorted({asked[uid].name for uid in asked.keys() - pods.keys()} - reported):
        click.echo(f"note: {gone} ended during the probe and is not reported", err=True)
    return [*failures, *(asked[uid] for uid in pods if uid in asked)]


async def _probe_each(
    pods: dict[str, dict[str, Any]], prober: Prober, asked: dict[str, ProbeReport], reporter: Reporter
) -> None:
    """Probe Pods, a few at a time."""
    waiting = iter(pods.items())

    async def work() -> None:
        for uid, pod in waiting:
            asked[uid] = await prober.probe(pod)
            reporter.passed()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_MAX_CONCURRENT, len(pods))):
            group.create_task(work())
