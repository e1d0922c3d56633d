"""CPU seconds per MB of the most expensive reviews and files that we know, in this process.

Reviews are decided as the endpoint does it, without TLS and HTTP, which no shape of a body makes more expensive.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from injector.cli.main import Exit, main
from injector.core.admit import admit
from injector.core.model import Endpoint, Policy, SealMode
from tests import shapes
from tests.bench.errors import BenchError
from tests.bench.measure import Spread, spread
from tests.builders import forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MB: Final = 1_000_000
# Bytes. Commands read files of megabytes with the same cost per byte; less keeps the bench short.
_FILE: Final = 50_000
_ROUNDS: Final = 3
_POLICIES: Final = {
    "": Policy(),
    "long allowedSecrets": Policy(allowed_secrets=("s", "t", *(f"q{i}*" for i in range(200)), "[m-n]*")),
    "seal": Policy(seal=SealMode.ALWAYS, seal_image="registry.example/dapr-token-injector:1.0.0"),
}
_COMMANDS: Final = {
    "lint": ("lint",),
    "explain": ("explain", "-f"),
    "inject": ("inject", "-q", "-f"),
    "uninject": ("uninject", "-q", "-f"),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one shape costs."""

    kind: str  # "review", or the command
    shape: str
    size: int  # bytes
    produced: int  # bytes of the answer, or of the command's output
    per_mb: Spread  # CPU seconds per MB of input


def reviews() -> Iterator[Cost]:
    """Every shape of a review of 1 MB, at `/mutate` and `/warn`, under each policy."""
    for name, makers in shapes.BODIES.items():
        for warn, make in makers.items():
            body = shapes.grown(make, _MB)
            endpoint = Endpoint.WARN if warn else Endpoint.MUTATE
            for words, policy in _POLICIES.items():
                what = " ".join(filter(None, (name.replace("_", " "), endpoint.value, words)))
                yield _timed("review", what, body, partial(_admitted, body, endpoint, policy))


def files() -> Iterator[Cost]:
    """Every shape of a file, read by each command that reads files."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, make in shapes.FILES.items():
            text = shapes.grown(make, _FILE).encode()
            manifest = Path(folder) / f"{name}.yaml"
            manifest.write_bytes(text)
            for command, words in _COMMANDS.items():
                arguments = [*words, str(manifest)]
                shape = name.replace("_", " ")
                yield _timed(command, shape, text, partial(_run, arguments, Path(folder)), rounds=1)


def worst(costs: list[Cost], kind: str) -> Cost | None:
    """The most expensive shape of a kind."""
    return max((cost for cost in costs if cost.kind == kind), key=lambda cost: cost.per_mb.median, default=None)


def _timed(kind: str, shape: str, content: bytes, work: Callable[[], int], rounds: int = _ROUNDS) -> Cost:
    seconds = []
    produced = 0
    for _ in range(rounds):
        forget()
        before = time.process_time()
        produced = work()
        seconds.append(time.process_time() - before)
    return Cost(kind, shape, len(content), produced, spread(each / len(content) * _MB for each in seconds))


def _admitted(body: bytes, endpoint: Endpoint, policy: Policy) -> int:
    return len(admit(body, endpoint=endpoint, policy=policy).body)


def _run(arguments: list[str], folder: Path) -> int:
    out, err = folder / "out", folder / "err"
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code = main(arguments)
    if code == Exit.FAULT:
        raise BenchError(f"{' '.join(arguments)}: {err.read_text()}")
    return out.stat().st_size
