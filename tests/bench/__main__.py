"""`python -m tests.bench`: build, check, time and show our server and its peers, in one go.

Standard output holds the tables, standard error the progress. Ends with 0 when every goal that was measured is met, 1
when one is missed, 3 when the bench itself could not run.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console

from injector.core.names import SEAL_CONTAINER
from tests.bench import (
    admission,
    bodies,
    documents,
    environment,
    golden,
    outside,
    peers,
    picture,
    profiling,
    report,
    seal,
    status,
    worst,
)
from tests.bench.certs import Pair, make_pair
from tests.bench.errors import BenchError
from tests.bench.goals import ENOUGH_REQUESTS, JUDGED, judge
from tests.bench.measure import Cell, Meter
from tests.bench.measure import Pair as RunPair
from tests.bench.process import Server, free_port, running
from tests.bench.wrk import Wrk

if TYPE_CHECKING:
    from tests.bench.goals import Goal
    from tests.bench.peers import Peer

_TARGET: Final = peers.ROOT / "bench-results" / "bench.json"
_PICTURE: Final = peers.ROOT / "docs" / "images" / "bench.png"
_CONNECTIONS: Final = (1, 8, 32)
_LONG_SECONDS: Final = 5
# A run is long enough for this many answers on each connection, but never longer than that many seconds.
_ANSWERS_EACH: Final = 3
_MOST_SECONDS: Final = 15
_UNTUNED: Final = "us, allocator untuned"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Rounds are (at `JUDGED.connections`, at fewer); seconds likewise."""

    rounds: tuple[int, int] = (5, 3)
    seconds: tuple[int, int] = (2, 1)
    starts: int = 5
    connections: tuple[int, ...] = _CONNECTIONS
    sizes: tuple[str, ...] = tuple(bodies.SIZES)

    def of(self, cell: Cell, service_seconds: float = 0.0) -> tuple[int, int]:
        """Rounds and seconds of a run in `cell`: fewer but longer where one request takes `service_seconds`.

        Go serves all connections side by side, so that the first answers come when nearly all of them are ready.
        """
        which = 0 if cell.connections == JUDGED.connections else 1
        rounds, seconds = self.rounds[which], self.seconds[which]
        needed = min(_MOST_SECONDS, math.ceil(_ANSWERS_EACH * cell.connections * service_seconds))
        return (rounds, seconds) if needed <= 2 * seconds else (min(rounds, 2), needed)


_QUICK: Final = Plan(rounds=(3, 1), seconds=(1, 1), starts=1, connections=(JUDGED.connections,))


@dataclass(frozen=True, slots=True)
class Place:
    """What all runs share: two cores, the serving pair, a folder, and where to report progress."""

    server_core: int
    pair: Pair
    folder: Path
    progress: Console

    def report(self, text: str) -> None:
        """One line of progress."""
        self.progress.print(f"[{time.strftime('%H:%M:%S')}] {text}", markup=False, highlight=False)


class Bench:
    """One run over all servers: `results` fills up step by step."""

    def __init__(self, place: Place, servers: tuple[Peer, ...], plan: Plan, wrk: Wrk) -> None:
        self._place = place
        self._servers = servers
        self._plan = plan
        self._meter = Meter(wrk, _write_bodies(place.folder), place.server_core)
        self._service: dict[tuple[str, str], float] = {}  # seconds per request on one connection, by server and size
        self.results = report.Results(environment.describe(wrk.version))

    def run(self, *, long: bool) -> None:
        """Start-ups, golden cases, all cells, memory."""
        for _ in range(self._plan.starts - 1):
            for peer in self._servers:
                with ExitStack() as stack:
                    self._start(peer, stack)
        with ExitStack() as stack:
            live = {peer.name: self._start(peer, stack) for peer in self._servers}
            started = {name: server.usage().rss_bytes for name, server in live.items()}
            for peer in self._servers:
                self._check(peer, live[peer.name])
            self._warm(live)
            for connections in self._plan.connections:
                for size in self._plan.sizes:
                    self._cell(live, Cell(connections, size))
            self.results.memory = {name: (started[name], server.usage().rss_bytes) for name, server in live.items()}
        self._untuned()
        self._sealed()
        self._place.report("the worst shapes of reviews and files that we know")
        self.results.costs = [*worst.reviews(), *worst.files()]
        if long:
            self._long()
        if any(goal.met is False for goal in self.goals()):
            self._profile()

    def _start(self, peer: Peer, stack: ExitStack, *, note: bool = True) -> Server:
        port = free_port()
        folder = self._place.folder / peer.name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        server = stack.enter_context(
            running(
                peers.command(peer, port=port, pair=self._place.pair, folder=folder),
                env=peer.env,
                cores=str(self._place.server_core),
                port=port,
                certificate=self._place.pair.certificate,
                first=bodies.body(bodies.SIZES[JUDGED.size]),
            )
        )
        if note:
            self.results.startup.setdefault(peer.name, []).append(server.startup_seconds)
        return server

    def _check(self, peer: Peer, server: Server) -> None:
        if peer.exempt:
            self._place.report(f"{peer.name}: golden cases not asked, because {peer.exempt}")
            return
        cases = golden.cases()
        wrong = [
            f"{peer.name}, {case.name}: {problem}"
            for case in cases
            for problem in golden.problems(case, *server.post(case.body))
        ]
        if wrong:
            raise BenchError("golden cases failed, so nothing is timed:\n" + "\n".join(wrong))
        self._place.report(f"{peer.name}: {len(cases)} golden cases passed")

    def _warm(self, live: dict[str, Server]) -> None:
        """Every body on one connection, which shows how long a request takes, and on the most connections."""
        for name, server in live.items():
            self._place.report(f"warming {name}")
            for size in self._plan.sizes:
                alone = self._meter.sample(server, Cell(1, size), seconds=1)
                self._service[name, size] = 1 / alone.requests_per_second
                cell = Cell(JUDGED.connections, size)
                _, seconds = self._plan.of(cell, self._service[name, size])
                self._meter.sample(server, cell, seconds=max(1, seconds // 2))

    def _cell(self, live: dict[str, Server], cell: Cell) -> None:
        self._place.report(f"{cell.size}, {cell.connections} connections")
        most, _ = self._plan.of(cell)
        for turn in range(most):
            for peer in self._servers[1:]:
                rounds, seconds = self._plan.of(cell, self._service[peer.name, cell.size])
                if turn < rounds:
                    pair = self._pair(live[peers.US], live[peer.name], cell, seconds)
                    self.results.pairs.setdefault(peer.name, {}).setdefault(cell, []).append(pair)

    def _pair(self, ours: Server, theirs: Server, cell: Cell, seconds: int, *, logs: bool = False) -> RunPair:
        _, our_seconds = self._plan.of(cell)
        us = self._meter.sample(ours, cell, seconds=our_seconds, logs=True)
        return RunPair(us, self._meter.sample(theirs, cell, seconds=seconds, logs=logs))

    def _untuned(self) -> None:
        """Both fresh: the age of a heap shows in its speed, too."""
        self._place.report("our server once more, with and without the allocator's settings")
        with ExitStack() as stack:
            tuned, plain = (
                self._start(peer, stack, note=False) for peer in (peers.us(), peers.us(name=_UNTUNED, env={}))
            )
            self.results.untuned = self._in_turn(tuned, plain)

    def _sealed(self) -> None:
        """The same Pods, sealed and with ordinary references."""
        self._place.report("our server once more, sealing every Pod and none")
        with ExitStack() as stack:
            sealing, plain = (self._start(peer, stack, note=False) for peer in (peers.sealing(), peers.us()))
            _, answer = sealing.post(bodies.body(bodies.SIZES[JUDGED.size]))
            if SEAL_CONTAINER.encode() not in base64.b64decode(json.loads(answer)["response"]["patch"]):
                raise BenchError("the Pod of the bench is not sealed")
            self.results.sealed = self._in_turn(sealing, plain)

    def _in_turn(self, one: Server, other: Server) -> list[RunPair]:
        """Two fresh servers of ours."""
        rounds, seconds = self._plan.of(JUDGED)
        for server in (one, other):
            self._meter.sample(server, JUDGED, seconds=1)
        return [self._pair(one, other, JUDGED, seconds, logs=True) for _ in range(rounds)]

    def goals(self) -> list[Goal]:
        """How the goals stand."""
        found = self.results
        return judge(found.pairs, found.startup[peers.US], found.curve, found.costs, found.sealed)

    def _profile(self) -> None:
        self._place.report("a goal is missed: profiling our server")
        target = self._place.folder / "profile"
        with ExitStack() as stack:
            server = self._start(profiling.profiled(target), stack, note=False)
            _, seconds = self._plan.of(JUDGED)
            served = self._meter.sample(server, JUDGED, seconds=seconds).requests
        self.results.profile = profiling.lines(target, served)

    def _long(self) -> None:
        self._place.report(f"{ENOUGH_REQUESTS:,} requests to a fresh server of ours, for its memory")
        with ExitStack() as stack:
            server = self._start(self._servers[0], stack, note=False)
            self.results.curve = self._meter.flat(server, JUDGED, requests=ENOUGH_REQUESTS, seconds=_LONG_SECONDS)


def _write_bodies(folder: Path) -> dict[str, Path]:
    written = {}
    for name, size in bodies.SIZES.items():
        written[name] = folder / f"{size}.json"
        written[name].write_bytes(bodies.body(size))
    return written


def _cores() -> tuple[int, int]:
    """One core for the server under test, another for the load and for ourselves."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("one core is not enough: the load generator would take the server's time")
    return allowed[0], allowed[1]


def _run(
    progress: Console, plan: Plan, *, long: bool, cluster: bool, outside_rounds: int
) -> tuple[Bench, tuple[Peer, ...]]:
    server_core, load_core = _cores()
    # Built before we pin ourselves to one core: compilers like all of them.
    servers = (peers.us(), *peers.others(lambda text: progress.print(text, markup=False, highlight=False)))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        place = Place(server_core, make_pair(folder, now=dt.datetime.now(dt.UTC)), folder, progress)
        wrk = Wrk(load_core, folder)
        site = outside.Site(place.pair, folder, wrk, f"{server_core},{load_core}", place.report)
        seen = outside.look(servers, site, rounds=outside_rounds) if cluster else {}
        os.sched_setaffinity(0, {load_core})
        bench = Bench(place, servers, plan, wrk)
        bench.results.outside = seen
        bench.run(long=long)
    return bench, servers


@click.command(help="Time our webhook next to its peers, on one core, through TLS.")
@click.option("--quick", is_flag=True, help="32 connections only, short runs: about two minutes, for a first look.")
@click.option("--long", is_flag=True, help="Also a million requests to our server, to see that its memory stays flat.")
@click.option(
    "--cluster", is_flag=True, help="Also Pod creates through a real kube-apiserver, with and without webhooks."
)
@click.option("--worst", "part", flag_value="worst", help="Only the CPU time of the worst shapes; needs no peer.")
@click.option("--status", "part", flag_value="status", help="Only status and secret list on 10,000 Pods.")
@click.option("--seal", "part", flag_value="seal", help="Only what a call of seal costs, which sealed Pods start with.")
@click.option("--admission", "part", flag_value="admission", help="Only Pod creates with one webhook entry, two, none.")
@click.option("--documents", "part", flag_value="documents", help="Only inject on a file of 10,000 documents.")
@click.option("--sources", is_flag=True, help="Also print every peer's source, not only where it lies.")
@click.option("--picture", "want_picture", is_flag=True, help="Draw docs/images/bench.png.")
def main(
    *,
    quick: bool,
    long: bool,
    cluster: bool,
    part: str | None,
    sources: bool,
    want_picture: bool,
) -> None:
    """Run the bench and print what it found."""
    progress, out = Console(stderr=True), Console(width=None if sys.stdout.isatty() else 200)
    plan = _QUICK if quick else Plan()
    try:
        if part is not None:
            sys.exit(0 if _part(part, out, progress, quick=quick) else 1)
        bench, servers = _run(progress, plan, long=long, cluster=cluster, outside_rounds=1 if quick else 3)
    except BenchError as error:
        progress.print(f"bench: {error}", markup=False, highlight=False, style="red")
        sys.exit(3)
    results, judged = bench.results, bench.goals()
    for name, value in results.environment.items():
        out.print(f"{name}: {value}", markup=False, highlight=False)
    out.print(report.peers_table(servers))
    if sources:
        for source in (source for peer in servers[1:] for source in peer.sources):
            out.print(f"--- {source.relative_to(peers.ROOT)}\n{source.read_text()}", markup=False, highlight=False)
    report.show(out, results, judged)
    report.write_json(results, judged, servers, _TARGET)
    if want_picture:
        picture.draw(results, _PICTURE)
    sys.exit(1 if any(goal.met is False for goal in judged) else 0)


def _part(part: str, out: Console, progress: Console, *, quick: bool) -> bool:
    """Measure and show one part alone; whether its goals are met."""
    rounds = 1 if quick else 5
    match part:
        case "worst":
            return _worst(out)
        case "status":
            return status.show(out, status.measure(progress.print))
        case "seal":
            return seal.show(out, seal.measure())
        case "admission":
            return admission.show(out, admission.measure(rounds, progress.print))
        case _:
            return documents.show(out, documents.measure(rounds))


def _worst(out: Console) -> bool:
    costs = [*worst.reviews(), *worst.files()]
    goal = next(goal for goal in judge({}, [], [], costs) if goal.got is not None)
    out.print(report.costs_table(costs))
    out.print(report.goals_table([goal]))
    return goal.met is not False


if __name__ == "__main__":
    main()
