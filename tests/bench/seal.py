"""`make bench BENCH=--seal`: what `seal` and `seal --check` cost, which run at each start of a sealed Pod.

Every call is a process of its own, in turn with a Python that does nothing: what the interpreter costs is not a part of
ours, but of the Pod's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from injector.core import names
from injector.core.claims import TokenSpec
from injector.tokens.minting import mint_jwt
from tests.bench.errors import BenchError
from tests.bench.peers import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

MOST_SECONDS: Final = 0.060
MOST_MIB: Final = 16.0
_RUNS: Final = 40
_BARE: Final = "python -c pass"
# The program's entry, as an installed script calls it, with another folder.
_CALL: Final = """
import sys
from injector.core import names
names.SEAL_DIRECTORY = sys.argv.pop(1)
from injector.__main__ import main
sys.exit(main())
"""
# A process of its own, which is small: `wait4` counts the memory that a process had before it became another program.
_MEASURED: Final = """
import json, os, sys
runs, *command = sys.argv[1:]
found = []
for _ in range(int(runs)):
    _, status, used = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
    if status:
        sys.exit(1)
    found.append((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call took: seconds of the processor, median and least, and its largest memory."""

    median_seconds: float
    least_seconds: float
    rss_mib: float


def measure() -> dict[str, Cost]:
    """Run all calls in turn; by call.

    Raises:
        BenchError: A call failed.
    """
    jwt = mint_jwt(TokenSpec(), None, now=0).value.reveal()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    environment |= {names.API_TOKEN_ENV: "an-opaque-token-0123456789", names.APP_TOKEN_ENV: jwt}
    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Sequence[str]] = {
            _BARE: ("-c", "pass"),
            "seal": ("-c", _CALL, folder, "seal", names.API_TOKEN_ENV),
            "seal, with a JWT": ("-c", _CALL, folder, "seal", *names.TOKEN_VARIABLES),
            "seal --check": ("-c", _CALL, folder, "seal", "--check", *names.TOKEN_VARIABLES),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
        for _ in range(_RUNS // 10):
            for name, words in calls.items():
                found[name] += _run(words, environment, Path(folder))
    return {name: _cost(runs) for name, runs in found.items()}


def _run(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> list[tuple[float, float]]:
    command = [sys.executable, "-c", _MEASURED, "10", sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{words[-2:]} failed: {done.stderr}")
    read: list[tuple[float, float]] = json.loads(done.stdout)
    return read


def _cost(runs: Sequence[tuple[float, float]]) -> Cost:
    seconds = [one for one, _ in runs]
    return Cost(statistics.median(seconds), min(seconds), max(size for _, size in runs))


def show(console: Console, found: Mapping[str, Cost]) -> bool:
    """Print the costs and the goals; return whether they are met."""
    table = Table(title=f"{_RUNS} calls of each")
    for heading in ("call", "CPU ms, median", "least", "MiB"):
        table.add_column(heading, justify="left" if heading == "call" else "right")
    for name, one in found.items():
        table.add_row(name, f"{one.median_seconds * 1000:.0f}", f"{one.least_seconds * 1000:.0f}", f"{one.rss_mib:.1f}")
    console.print(table)
    ours = [one for name, one in found.items() if name != _BARE]
    goals = (
        ("ms of CPU, least of its runs", max(one.least_seconds for one in ours) * 1000, MOST_SECONDS * 1000),
        ("MiB", max(one.rss_mib for one in ours), MOST_MIB),
    )
    for unit, got, limit in goals:
        console.print(
            f"goal: seal < {limit:g} {unit}: {got:.1f}: {'met' if got < limit else 'MISSED'}", highlight=False
        )
    return all(got < limit for _, got, limit in goals)
