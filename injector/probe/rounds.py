"""Probes the Pods of workloads or of a selection, including those that are created while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.core.exposure import ProbeReport
from injector.kube.errors import ForbiddenError, NotFoundError
from injector.probe.pods import pods_of, pods_with_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from injector.kube.client import Api
    from injector.kube.resources import Object
    from injector.kube.workload_target import WorkloadTarget
    from injector.probe.pods import Prober

# Pods probed at the same time; each needs a few connections to the API server.
_MAX_CONCURRENT: Final = 8
# How often to list the Pods again, to find Pods created in the meantime.
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class FoundPods:
    """Pods by uid, a report for each target without Pods, and the number of Pods left out as they have no sidecar."""

    pods: dict[str, Object]
    failures: list[ProbeReport]
    without_sidecar: int = 0


@dataclass(frozen=True, slots=True)
class Workloads:
    """The Pods of workloads in one namespace."""

    namespace: str
    targets: Sequence[WorkloadTarget]

    @property
    def label(self) -> str:
        """The namespace."""
        return f"namespace {self.namespace}"

    async def find(self, api: Api) -> FoundPods:
        """Return the Pods, in the order of the workloads."""
        found: dict[str, Object] = {}
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
        return FoundPods(found, failures)


@dataclass(frozen=True, slots=True)
class Selection:
    """The Pods of a namespace, or of all, that have these labels and a sidecar."""

    namespace: str | None
    selector: str

    @property
    def label(self) -> str:
        """The namespace and the labels."""
        where = "all namespaces" if self.namespace is None else f"namespace {self.namespace}"
        return f"{where} with {self.selector}" if self.selector else where

    async def find(self, api: Api) -> FoundPods:
        """Return the Pods, ordered by namespace and name.

        Raises:
            ForbiddenError: The user cannot list Pods.
        """
        pods, without_sidecar = await pods_with_sidecar(api, self.namespace, self.selector)
        failures = [] if pods else [ProbeReport(self.label, failure="no running Pods with a sidecar")]
        return FoundPods({str(pod["metadata"]["uid"]): pod for pod in pods}, failures, without_sidecar)


@dataclass(frozen=True, slots=True)
class ProbedPods:
    """The reports, the names of Pods that ended during the probe, and the number of Pods without a sidecar."""

    reports: list[ProbeReport]
    ended: list[str]
    without_sidecar: int


async def probe_pods(
    api: Api,
    source: Workloads | Selection,
    prober: Prober,
    *,
    expect: Callable[[int], None],
    passed: Callable[[], None],
) -> ProbedPods:
    """Probe Pods until all that exist were probed: some end in the meantime and others replace them.

    `expect` is called with the number of Pods before each round, `passed` after each Pod.
    """
    asked: dict[str, ProbeReport] = {}
    found = await source.find(api)
    for _ in range(_ROUNDS):
        new = [pod for uid, pod in found.pods.items() if uid not in asked]
        if not new:
            break
        expect(len(new))
        await _probe_each(new, prober, asked, passed)
        found = await source.find(api)
    else:
        message = "Pods are replaced faster than they can be probed; run it again"
        found.failures.append(ProbeReport(source.label, failure=message))
    reported = {failure.name for failure in found.failures}
    return ProbedPods(
        [*found.failures, *(asked[uid] for uid in found.pods if uid in asked)],
        sorted({asked[uid].name for uid in asked.keys() - found.pods.keys()} - reported),
        found.without_sidecar,
    )


async def _probe_each(
    pods: Sequence[Object], prober: Prober, asked: dict[str, ProbeReport], passed: Callable[[], None]
) -> None:
    """Probe Pods, a few at a time."""
    waiting = iter(pods)

    async def work() -> None:
        for pod in waiting:
            asked[str(pod["metadata"]["uid"])] = await prober.probe(pod)
            passed()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_MAX_CONCURRENT, len(pods))):
            group.create_task(work())
