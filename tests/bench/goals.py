"""The goals, as numbers, and whether a run met them. All are ratios within one run, ours to the peer's."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.bench import bodies, peers, worst
from tests.bench.measure import Cell, Pair, Spread, cpu_per_byte, ratios, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Pairs = dict[str, dict[Cell, list[Pair]]]

# Where throughput, tail and faults are judged: the size of a Pod as a cluster with Dapr sends it, under heads that
# never repeat (`post.lua`).
JUDGED: Final = Cell(connections=32, size="12 KB")
SLOPE: Final = ("62 KB", "1 MB")
THROUGHPUT: Final[Mapping[str, float]] = {peers.GO: 1.6, peers.CONTROLLER_RUNTIME: 12.0, peers.FASTAPI: 5.0}
P99: Final = 0.9
CPU_PER_BYTE: Final = 0.40
FAULTS: Final = 0.1
# CPU seconds for a MB of the most expensive review that we know.
WORST_PER_MB: Final = 0.2
# CPU of the answer about a Pod that is sealed, to that about the same Pod with ordinary references.
SEALED: Final = 1.3
STARTUP_SECONDS: Final = 1.0
# Growth of resident memory over the last nine tenths of a million requests that still counts as flat: noise of the
# allocator, far below one byte per request.
FLAT_GROWTH: Final = 0.02
ENOUGH_REQUESTS: Final = 1_000_000
# Throughput and tails are not judged when others had more than this share of the servers' core.
MOST_FOREIGN: Final = 0.2


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the goals table. `got` is None where this run did not measure it."""

    name: str
    limit: float
    at_least: bool
    got: Spread | None
    note: str = ""
    # Share of the core that others used during the runs behind `got`; times mean little where it is large.
    foreign: float = 0.0

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the limit; None when it was not measured, or on a core that was not ours."""
        if self.got is None or self.foreign > MOST_FOREIGN:
            return None
        return self.got.median >= self.limit if self.at_least else self.got.median <= self.limit


def judge(
    pairs: Pairs,
    startup: Sequence[float],
    curve: Sequence[tuple[int, int]],
    costs: Sequence[worst.Cost] = (),
    sealed: Sequence[Pair] = (),
) -> list[Goal]:
    """Every goal of the bench itself."""
    return [
        *(_throughput(pairs, peer, limit) for peer, limit in THROUGHPUT.items()),
        _p99(pairs),
        Goal(
            f"CPU per body byte / {peers.GO}", CPU_PER_BYTE, at_least=False, got=_slope(pairs), note=" to ".join(SLOPE)
        ),
        Goal("minor page faults per request", FAULTS, at_least=False, got=_faults(pairs), note="all sizes"),
        Goal("start-up, seconds", STARTUP_SECONDS, at_least=False, got=spread(startup) if startup else None),
        Goal("memory growth over a million requests", FLAT_GROWTH, at_least=False, got=growth(curve), note="--long"),
        _worst(costs),
        _sealed(sealed),
    ]


def _sealed(pairs: Sequence[Pair]) -> Goal:
    got = ratios(pairs, lambda s: s.cpu_us) if pairs else None
    return Goal("CPU of a sealed answer / an ordinary one", SEALED, at_least=False, got=got)


def _worst(costs: Sequence[worst.Cost]) -> Goal:
    most = worst.worst(list(costs), "review")
    got, note = (None, "") if most is None else (most.per_mb, most.shape)
    return Goal("CPU seconds per MB, worst review", WORST_PER_MB, at_least=False, got=got, note=note)


def growth(curve: Sequence[tuple[int, int]]) -> Spread | None:
    """Relative growth of memory after the first tenth of the requests, which warms caches and the allocator.

    None when there were not enough requests to judge by.
    """
    if not curve or curve[-1][0] < ENOUGH_REQUESTS:
        return None
    settled = [rss for done, rss in curve if done >= curve[-1][0] / 10]
    if len(settled) < 2:
        return None
    value = settled[-1] / settled[0] - 1
    return Spread(value, value, value)


def _throughput(pairs: Pairs, peer: str, limit: float) -> Goal:
    measured = pairs.get(peer, {}).get(JUDGED, [])
    got = ratios(measured, lambda s: s.requests_per_second) if measured else None
    note = _sizes(pairs, peer, p99=False)
    return Goal(f"requests/s / {peer}", limit, at_least=True, got=got, note=note, foreign=_foreign(measured))


def _foreign(measured: Sequence[Pair]) -> float:
    return median(s.foreign_share for pair in measured for s in (pair.us, pair.peer)) if measured else 0.0


def _sizes(pairs: Pairs, peer: str, *, p99: bool) -> str:
    """The same ratio at the other sizes, for the reader: goals are judged at one."""
    words = []
    for size in bodies.SIZES:
        measured = pairs.get(peer, {}).get(Cell(JUDGED.connections, size))
        if measured and size != JUDGED.size:
            got = ratios(measured, lambda s: s.p99_us if p99 else s.requests_per_second)
            words.append(f"{size} {got.median:.2f}")
    return ", ".join(words)


def _p99(pairs: Pairs) -> Goal:
    measured = pairs.get(peers.GO, {}).get(JUDGED, [])
    got = ratios(measured, lambda s: s.p99_us) if measured else None
    note = _sizes(pairs, peers.GO, p99=True)
    return Goal(f"p99 / {peers.GO}", P99, at_least=False, got=got, note=note, foreign=_foreign(measured))


def _slope(pairs: Pairs) -> Spread | None:
    """Ratio of the two slopes, round by round; a slow machine measures a large body in fewer rounds."""
    cells = pairs.get(peers.GO, {})
    small, large = (cells.get(Cell(JUDGED.connections, size)) for size in SLOPE)
    if not small or not large:
        return None
    sizes = (bodies.SIZES[SLOPE[0]], bodies.SIZES[SLOPE[1]])
    return spread(
        cpu_per_byte(low.us.cpu_us, high.us.cpu_us, sizes) / cpu_per_byte(low.peer.cpu_us, high.peer.cpu_us, sizes)
        for low, high in zip(small, large, strict=False)
    )


def _faults(pairs: Pairs) -> Spread | None:
    """The worst cell decides, by the median of all our runs in it."""
    cells = {cell for measured in pairs.values() for cell in measured}
    medians = [median(pair.us.faults for m in pairs.values() for pair in m.get(cell, ())) for cell in cells]
    return Spread(max(medians), min(medians), max(medians)) if medians else None
