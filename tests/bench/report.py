"""What was measured, as tables for people and as JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.table import Table

from tests.bench import bodies, peers, profiling, worst
from tests.bench.goals import JUDGED
from tests.bench.measure import Cell, Pair, Sample, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from tests.bench.goals import Goal, Pairs

_MIB: Final = 1 << 20
# Above this share of the server's core used by others, a run says more about the others.
_NOISY: Final = 0.05


@dataclass(slots=True)
class Results:
    """Everything that a run of the bench found out; grows while it runs."""

    environment: dict[str, str]
    startup: dict[str, list[float]] = field(default_factory=dict)  # seconds, by server
    memory: dict[str, tuple[int, int]] = field(default_factory=dict)  # bytes: after start, after all runs
    pairs: Pairs = field(default_factory=dict)
    untuned: list[Pair] = field(default_factory=list)  # ours, and ours without the allocator's settings
    sealed: list[Pair] = field(default_factory=list)  # ours that seals every Pod, and ours that seals none
    curve: list[tuple[int, int]] = field(default_factory=list)  # requests, bytes
    outside: dict[str, dict[str, float]] = field(default_factory=dict)  # by webhook
    costs: list[worst.Cost] = field(default_factory=list)  # of the worst shapes
    profile: list[profiling.Line] = field(default_factory=list)  # when a goal was missed

    def cells(self) -> list[Cell]:
        """Every cell that was timed, once, in order of time."""
        return list(dict.fromkeys(cell for cells in self.pairs.values() for cell in cells))

    def ours(self, cell: Cell) -> list[Sample]:
        """All our runs in `cell`, whichever peer came next."""
        return [pair.us for cells in self.pairs.values() for pair in cells.get(cell, ())]


def samples_table(results: Results, cell: Cell) -> Table:
    """One cell: our own figures, and each peer's as multiples of ours."""
    table = Table(title=f"{cell.size} bodies, {cell.connections} connections (x: the peer's figure / ours)")
    table.add_column("server")
    for heading in ("requests/s", "p50 ms", "p99 ms", "CPU us/request", "faults/request", "shed"):
        table.add_column(heading, justify="right")
    table.add_row(peers.US, *_figures(results.ours(cell)), style="bold")
    for peer, cells in results.pairs.items():
        if pairs := cells.get(cell):
            table.add_row(peer, *_relative(pairs))
    return table


def _figures(samples: Sequence[Sample]) -> list[str]:
    return [
        f"{median(s.requests_per_second for s in samples):,.0f}",
        f"{median(s.p50_us for s in samples) / 1e3:.2f}",
        f"{median(s.p99_us for s in samples) / 1e3:.2f}",
        f"{median(s.cpu_us for s in samples):.1f}",
        f"{median(s.faults for s in samples):.3f}",
        f"{median(s.refused for s in samples):.1%}",
    ]


def _relative(pairs: Sequence[Pair]) -> list[str]:
    figures = _figures([pair.peer for pair in pairs])
    multiples = (
        spread(p.peer.requests_per_second / p.us.requests_per_second for p in pairs),
        spread(p.peer.p50_us / p.us.p50_us for p in pairs),
        spread(p.peer.p99_us / p.us.p99_us for p in pairs),
        spread(p.peer.cpu_us / p.us.cpu_us for p in pairs if p.us.cpu_us),
    )
    shown = [f"{f} (x{m.median:.2f}, {m.low:.2f}-{m.high:.2f})" for f, m in zip(figures, multiples, strict=False)]
    return [*shown, *figures[len(shown) :]]


def servers_table(results: Results) -> Table:
    """Start-up and memory."""
    table = Table(title="start-up and memory")
    for heading in ("server", "start-up ms", "range", "x ours", "MiB after start", "MiB after all runs", "x ours"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    ours_start = median(results.startup[peers.US])
    ours_memory = results.memory[peers.US][1]
    for name, seconds in results.startup.items():
        start, end = results.memory[name]
        took = spread(seconds)
        table.add_row(
            name,
            f"{took.median * 1e3:.0f}",
            f"{took.low * 1e3:.0f}-{took.high * 1e3:.0f}",
            f"{took.median / ours_start:.2f}",
            f"{start / _MIB:.0f}",
            f"{end / _MIB:.0f}",
            f"{end / ours_memory:.2f}",
        )
    return table


def goals_table(goals: Iterable[Goal]) -> Table:
    """Goal, what was measured, met or missed."""
    table = Table(title="goals (ours / the peer's; median and range of rounds; 12 KB, 32 connections unless stated)")
    for heading in ("goal", "limit", "measured", "range", "", "elsewhere"):
        table.add_column(heading, justify="right" if heading in ("limit", "measured", "range") else "left")
    for goal in goals:
        limit = f"{'>=' if goal.at_least else '<='} {goal.limit:g}"
        if goal.got is None:
            table.add_row(goal.name, limit, "-", "-", "not measured", goal.note)
            continue
        got, verdict = (
            goal.got,
            {True: "met", False: "MISSED", None: f"unsure: others had {goal.foreign:.0%}"}[goal.met],
        )
        table.add_row(goal.name, limit, f"{got.median:.3f}", f"{got.low:.3f}-{got.high:.3f}", verdict, goal.note)
    return table


def takes(goal: Goal, ours: Sequence[Sample]) -> str:
    """What a missed goal would take, from the figures alone."""
    if goal.got is None or goal.met is not False:
        return ""
    factor = goal.got.median / goal.limit
    if goal.at_least and ours:
        cpu = median(sample.cpu_us for sample in ours)
        return f"{goal.name}: would take {cpu * factor:.0f} us of CPU per request instead of {cpu:.0f} (x{factor:.2f})."
    return f"{goal.name}: would take x{1 / factor:.2f} of what it is."


def peers_table(servers: Iterable[peers.Peer]) -> Table:
    """Who they are, and how they were compiled and set up."""
    table = Table(title="servers")
    for heading in ("server", "what", "flags and settings", "source"):
        table.add_column(heading, overflow="fold")
    for peer in servers:
        lines = sum(len(source.read_text().splitlines()) for source in peer.sources)
        folder = peer.sources[0].relative_to(peers.ROOT) if len(peer.sources) <= 2 else "injector/"
        table.add_row(peer.name, peer.what, peer.flags, f"{folder} ({lines} lines)")
    return table


def outside_table(outside: dict[str, dict[str, float]]) -> Table:
    """Creates through a real API server."""
    table = Table(title="Pod creates seen from a real kube-apiserver that shares the machine")
    for heading in ("load", "webhook"):
        table.add_column(heading)
    for heading in ("creates/s", "x none", "p50 ms", "p99 ms", "webhook mean ms", "webhook p99 <= ms"):
        table.add_column(heading, justify="right")
    for label, load in (("alone", "one at a time"), ("busy", "16 at once")):
        for name, row in outside.items():
            table.add_row(load, name, *_outside(row, outside["none"], label))
    return table


def _outside(row: dict[str, float], bare: dict[str, float], label: str) -> list[str]:
    rate = row[f"{label}_creates_per_second"]
    called = f"{label}_webhook_mean_ms" in row
    return [
        f"{rate:.0f}",
        f"{rate / bare[f'{label}_creates_per_second']:.2f}",
        f"{row[f'{label}_p50_ms']:.1f}",
        f"{row[f'{label}_p99_ms']:.1f}",
        f"{row[f'{label}_webhook_mean_ms']:.2f}" if called else "-",
        f"{row[f'{label}_webhook_p99_ms']:g}" if called else "-",
    ]


# Rows of the table of worst shapes, for each kind.
_MOST_COSTS: Final = 8


def costs_table(costs: Sequence[worst.Cost]) -> Table:
    """The most expensive shapes of each kind."""
    table = Table(title="CPU seconds per MB, worst shapes (median and range of rounds; the most expensive ones)")
    for heading in ("what", "shape", "bytes", "bytes produced", "CPU s", "CPU s per MB", "range"):
        table.add_column(heading, justify="left" if heading in ("what", "shape") else "right")
    for kind in dict.fromkeys(cost.kind for cost in costs):
        of_kind = sorted((c for c in costs if c.kind == kind), key=lambda c: c.per_mb.median, reverse=True)
        for cost in of_kind[:_MOST_COSTS]:
            got = cost.per_mb
            table.add_row(
                cost.kind,
                cost.shape,
                f"{cost.size:,}",
                f"{cost.produced:,}",
                f"{got.median * cost.size / 1e6:.3f}",
                f"{got.median:.3f}",
                f"{got.low:.3f}-{got.high:.3f}",
            )
    return table


def noise(results: Results) -> str:
    """One sentence about the machine's other tenants."""
    shares = [
        sample.foreign_share
        for cells in results.pairs.values()
        for pairs in cells.values()
        for pair in pairs
        for sample in (pair.us, pair.peer)
    ]
    got = spread(shares)
    noisy = sum(share > _NOISY for share in shares)
    return (
        f"Others used {got.median:.1%} of the servers' core (median; at most {got.high:.1%}); "
        f"in {noisy} of {len(shares)} runs more than {_NOISY:.0%}."
    )


def write_json(results: Results, goals: Sequence[Goal], servers: Iterable[peers.Peer], target: Path) -> None:
    """Write everything to `target`, at once or not at all."""
    document = {
        "environment": results.environment,
        "bodies": {name: len(bodies.body(size)) for name, size in bodies.SIZES.items()},
        "servers": {
            peer.name: {
                "what": peer.what,
                "flags": peer.flags,
                "source": [str(source.relative_to(peers.ROOT)) for source in peer.sources],
                "startup_seconds": results.startup.get(peer.name, []),
                "rss_bytes": results.memory.get(peer.name, ()),
                "exempt": peer.exempt,
            }
            for peer in servers
        },
        "cells": [
            {"peer": peer, **asdict(cell), "rounds": [asdict(pair) for pair in pairs]}
            for peer, cells in results.pairs.items()
            for cell, pairs in cells.items()
        ],
        "untuned": [asdict(pair) for pair in results.untuned],
        "sealed": [asdict(pair) for pair in results.sealed],
        "memory_curve": results.curve,
        "outside": results.outside,
        "worst_shapes": [asdict(cost) for cost in results.costs],
        "profile": [asdict(line) for line in results.profile],
        "goals": [{**asdict(goal), "met": goal.met} for goal in goals],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".tmp")
    unfinished.write_text(json.dumps(document, indent=2) + "\n")
    unfinished.replace(target)


def show(console: Console, results: Results, goals: Sequence[Goal]) -> None:
    """Print every table but the one of the servers, which comes first of all."""
    for cell in results.cells():
        console.print(samples_table(results, cell))
    console.print(servers_table(results))
    if results.untuned:
        ratio = spread(pair.peer.requests_per_second / pair.us.requests_per_second for pair in results.untuned)
        console.print(
            f"Without {' and '.join(peers.MALLOC)} our throughput is "
            f"x{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})."
        )
    if results.outside:
        console.print(outside_table(results.outside))
    if results.costs:
        console.print(costs_table(results.costs))
    console.print(noise(results))
    console.print(goals_table(goals))
    for goal in goals:
        if sentence := takes(goal, results.ours(JUDGED)):
            console.print(sentence)
    if results.profile:
        console.print(profiling.table(results.profile))
