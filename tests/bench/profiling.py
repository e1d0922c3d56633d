"""Where our time goes, function by function; shown when a goal is missed.

The server runs under cProfile, which makes every Python call dearer than it is: shares are to be compared, not added up
to the CPU per request that the tables show. What a C library does is booked on the function that called it.
"""

from __future__ import annotations

import pstats
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from rich.table import Table

from tests.bench import peers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.peers import Peer

_ROWS: Final = 25
# Calls per request under which a function belongs to the start-up, which the profile holds as well.
_PER_REQUEST: Final = 0.5
# The interpreter's own module that runs a program under cProfile, in front of `-m injector`.
_PROFILER: Final = ("-m", "cProfile", "-o")


@dataclass(frozen=True, slots=True)
class Line:
    """One function. Calls and microseconds are per request."""

    function: str
    calls: float
    own_us: float
    total_us: float


def profiled(target: Path) -> Peer:
    """Our server, writing a profile to `target` when it ends."""
    ours = peers.us()
    program, *arguments = ours.argv
    return replace(ours, name="us, profiled", argv=(program, *_PROFILER, str(target), *arguments))


def lines(source: Path, requests: int) -> list[Line]:
    """The functions with the most time of their own, from a profile that saw so many requests."""
    # typeshed does not know the one attribute that holds everything.
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = vars(pstats.Stats(str(source)))["stats"]
    found = [
        Line(_name(where), count / requests, own * 1e6 / requests, total * 1e6 / requests)
        for where, (_, count, own, total, _) in stats.items()
        if count >= _PER_REQUEST * requests
    ]
    return sorted(found, key=lambda line: line.own_us, reverse=True)[:_ROWS]


def table(found: Sequence[Line]) -> Table:
    """For people."""
    made = Table(title="profile of our server (cProfile: compare shares, do not add them up)")
    made.add_column("function")
    for heading in ("calls/request", "own us/request", "with callees us/request"):
        made.add_column(heading, justify="right")
    for line in found:
        made.add_row(line.function, f"{line.calls:.2f}", f"{line.own_us:.2f}", f"{line.total_us:.2f}")
    return made


def _name(where: tuple[str, int, str]) -> str:
    """`webhook/protocol.py:123 data_received`: no folder of the machine."""
    file, number, function = where
    if not number:
        return function
    return f"{'/'.join(PurePath(file).parts[-2:])}:{number} {function}"
