"""`make bench BENCH=--status`: `status` and `secret list` on a large cluster, and kubectl, which reads the same Pods.

A real API server, objects and no kubelet. Every command is a process of its own. What it took is measured twice: with a
tenth of the objects, and with all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from tests.bench.errors import BenchError
from tests.bench.large_cluster import Size, create_namespaces, create_workloads, namespace
from tests.bench.peers import ROOT
from tests.controlplane.cluster import Programs, control_plane, wait_for_service_account
from tests.controlplane.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from tests.controlplane.kubectl import Kubectl

ALL: Final = Size(pods=10_000)
TENTH: Final = ALL.pods // 10
STATUS: Final = "status -A"
KUBECTL: Final = "kubectl get pods -A -o json"
MOST_SECONDS: Final = 15.0
MOST_MIB: Final = 200.0
# A process of its own, which is small: `wait4` counts the memory that a process had before it became another program.
_MEASURED: Final = """
import json, os, sys, time
begun = time.perf_counter()
_, status, used = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0)
seconds = time.perf_counter() - begun
found = [os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took: seconds by the clock and of the processor, and its largest memory."""

    code: int
    wall_seconds: float
    cpu_seconds: float
    rss_mib: float
    output_mib: float


@dataclass(frozen=True, slots=True)
class Found:
    """The costs of a command with a tenth of the objects and with all of them."""

    small: Cost
    large: Cost

    @property
    def seconds_per_thousand(self) -> float:
        """Seconds of the processor for each further 1,000 Pods."""
        return (self.large.cpu_seconds - self.small.cpu_seconds) * 1000 / (ALL.pods - TENTH)


def measure(report: Callable[[str], None]) -> dict[str, Found]:
    """Create the cluster and run all commands; by command.

    Raises:
        BenchError: The cluster could not be had, or a command failed.
    """
    try:
        # No audit log: it would be the most of what the API server does.
        with control_plane(Programs.resolve(report), apiserver_flags=("--audit-log-path=",)) as plane:
            asyncio.run(create_namespaces(plane.kubeconfig, ALL))
            for number in range(ALL.namespaces):
                wait_for_service_account(plane.kubectl.within(namespace(number)))
            plane.controller_manager.kill()  # it would make Pods of its own
            small = _run_all(plane.kubectl, plane.kubeconfig, 0, ALL.workloads // 10, report)
            large = _run_all(plane.kubectl, plane.kubeconfig, ALL.workloads // 10, ALL.workloads, report)
    except HarnessError as error:
        raise BenchError(f"no large cluster: {error}") from error
    return {name: Found(small[name], large[name]) for name in small}


def _run_all(
    kubectl: Kubectl, kubeconfig: Path, begin: int, end: int, report: Callable[[str], None]
) -> dict[str, Cost]:
    report(f"creating workloads {begin:,} to {end:,} with their Pods")
    asyncio.run(create_workloads(kubeconfig, ALL, begin, end))
    kubectl.run("version")  # fills its cache
    return {name: _cost(name, command, kubeconfig, report) for name, command in _commands(kubectl)}


def _commands(kubectl: Kubectl) -> Iterator[tuple[str, Sequence[str]]]:
    for name in (STATUS, "status -A -o json", "secret list -A"):
        yield name, (sys.executable, "-m", "injector", *name.split())
    yield KUBECTL, (*kubectl.command(), *KUBECTL.split()[1:])


def _cost(name: str, command: Sequence[str], kubeconfig: Path, report: Callable[[str], None]) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        result, output = Path(folder) / "result", Path(folder) / "output"
        with output.open("wb") as file:
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", _MEASURED, str(result), *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                check=True,
                cwd=ROOT,
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            )
        code, wall_seconds, cpu_seconds, rss_mib = json.loads(result.read_text())
        size = output.stat().st_size / (1 << 20)
    if code not in {0, 1}:
        raise BenchError(f"{name} ended with {code}")
    report(f"{name}: {wall_seconds:.1f} s, {cpu_seconds:.1f} s of CPU, {rss_mib:.0f} MiB")
    return Cost(code, wall_seconds, cpu_seconds, rss_mib, size)


def show(console: Console, found: dict[str, Found]) -> bool:
    """Print the costs and the goals; return whether they are met."""
    console.print(_table(found))
    cost = found[STATUS].large
    theirs = found[KUBECTL].large
    console.print(
        f"{STATUS} / {KUBECTL}: seconds {cost.wall_seconds / theirs.wall_seconds:.2f}, "
        f"CPU {cost.cpu_seconds / theirs.cpu_seconds:.2f}, memory {cost.rss_mib / theirs.rss_mib:.2f}",
        highlight=False,
    )
    goals = (("seconds", cost.wall_seconds, MOST_SECONDS), ("MiB", cost.rss_mib, MOST_MIB))
    for unit, got, limit in goals:
        verdict = "met" if got < limit else "MISSED"
        console.print(f"goal: {STATUS} < {limit:g} {unit}: {got:.1f}: {verdict}", highlight=False)
    return all(got < limit for _, got, limit in goals)


def _table(found: dict[str, Found]) -> Table:
    table = Table(
        title=f"{ALL.pods:,} Pods, {ALL.workloads:,} workloads, {ALL.namespaces * ALL.secrets_each} Secrets "
        f"(in brackets: {TENTH:,} Pods)"
    )
    for heading in ("command", "seconds", "CPU s", "CPU s per 1,000 Pods", "MiB", "MiB of output"):
        table.add_column(heading, justify="left" if heading == "command" else "right")
    for name, one in found.items():
        table.add_row(
            name,
            f"{one.large.wall_seconds:.1f} ({one.small.wall_seconds:.1f})",
            f"{one.large.cpu_seconds:.1f} ({one.small.cpu_seconds:.1f})",
            f"{one.seconds_per_thousand:.2f}",
            f"{one.large.rss_mib:.0f} ({one.small.rss_mib:.0f})",
            f"{one.large.output_mib:.1f}",
        )
    return table
