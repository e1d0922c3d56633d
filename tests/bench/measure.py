"""Times servers in turn: us, a peer, us, the next peer. Machines drift, so only neighbours in time are compared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.bench import process
from tests.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.bench.process import Server
    from tests.bench.wrk import Wrk


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination that is timed."""

    connections: int
    size: str  # a key of bodies.SIZES


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one server in one cell."""

    requests: int  # served; all figures below count these only
    refused: float  # share of all requests: shed with 503 to stay in time
    requests_per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float  # of the server, per request
    faults: float  # minor page faults per request
    rss_bytes: int  # after the run
    # Share of the server's core that others used during the run; a quiet machine stays under 0.05.
    foreign_share: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Our run and the peer's run that followed it."""

    us: Sample
    peer: Sample


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and how far the values lie apart."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Median, smallest and largest of at least one value."""
    ordered = sorted(values)
    return Spread(median(ordered), ordered[0], ordered[-1])


def ratios(pairs: Sequence[Pair], metric: Callable[[Sample], float]) -> Spread:
    """Ours divided by the peer's, round by round."""
    return spread(_divide(metric(pair.us), metric(pair.peer)) for pair in pairs)


def _divide(ours: float, theirs: float) -> float:
    if theirs:
        return ours / theirs
    return 1.0 if not ours else float("inf")


# Lines of log that come later than this after the last answer are missing.
_LOG_SECONDS: Final = 2.0


class Meter:
    """Runs the load against a server and reads what it cost."""

    def __init__(self, wrk: Wrk, bodies: dict[str, Path], core: int) -> None:
        self._wrk = wrk
        self._bodies = bodies
        self._core = core

    def sample(self, server: Server, cell: Cell, *, seconds: int, logs: bool = False) -> Sample:
        """One run of `seconds`.

        Raises:
            BenchError: A request failed, or a server that should log each mutation did not.
        """
        before, busy, lines = server.usage(), process.core_busy_seconds(self._core), server.output.lines
        begun = time.perf_counter()
        body = self._bodies[cell.size]
        run = self._wrk.run(server.url, body, connections=cell.connections, seconds=seconds)
        elapsed = time.perf_counter() - begun
        after, busy = server.usage(), process.core_busy_seconds(self._core) - busy
        if logs and not server.output.reached(lines + run.served, seconds=_LOG_SECONDS):
            raise BenchError(f"{run.served} mutations, but {server.output.lines - lines} lines of log")
        cpu = after.cpu_seconds - before.cpu_seconds
        return Sample(
            requests=run.served,
            refused=run.status / run.requests,
            requests_per_second=run.requests_per_second,
            p50_us=run.p50_us,
            p99_us=run.p99_us,
            cpu_us=cpu / run.served * 1e6,
            faults=(after.minor_faults - before.minor_faults) / run.served,
            rss_bytes=after.rss_bytes,
            foreign_share=max(0.0, busy - cpu) / elapsed,
        )

    def flat(self, server: Server, cell: Cell, *, requests: int, seconds: int) -> list[tuple[int, int]]:
        """Requests so far and resident bytes, run by run, until `requests` are done."""
        done, curve = 0, [(0, server.usage().rss_bytes)]
        while done < requests and len(curve) < _MAX_RUNS:
            one = self.sample(server, cell, seconds=seconds)
            done += one.requests
            curve.append((done, one.rss_bytes))
        return curve


# A million requests at the slowest rate that would still be of interest.
_MAX_RUNS: Final = 200


def cpu_per_byte(small: float, large: float, sizes: tuple[int, int]) -> float:
    """CPU nanoseconds per body byte: the slope between two sizes, from CPU microseconds per request at each."""
    return (large - small) * 1e3 / (sizes[1] - sizes[0])
