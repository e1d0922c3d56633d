"""`make bench BENCH=--documents`: a file of many documents through `inject`, in turn with ruamel.yaml's round trip.

Both read the same text, add the variable to each Deployment, and write the text with everything else as it was.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Final

from ruamel.yaml import YAML

from injector.core import names
from tests.bench.errors import BenchError
from tests.bench.measure import Spread, spread
from tests.offline.test_commands import DEPLOYMENT
from tests.unit.manifests.working import inject

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

# Ours has more to read, because it is faster: a round of each takes seconds.
_OURS: Final = 10_000
_THEIRS: Final = 1_000
_SECRET_KEY_REF: Final = "secretKeyRef"


def measure(rounds: int) -> list[tuple[float, float]]:
    """Documents per second of CPU, ours and theirs, of each round.

    Raises:
        BenchError: One of them did not change every document.
    """
    return [(_per_second(inject, _OURS), _per_second(_round_trip, _THEIRS)) for _ in range(rounds)]


def _per_second(change: Callable[[str], str], count: int) -> float:
    text = f"{DEPLOYMENT}---\n" * count
    begun = time.process_time()
    changed = change(text)
    seconds = time.process_time() - begun
    if changed.count(_SECRET_KEY_REF) != count:
        raise BenchError(f"{change.__name__} changed {changed.count(_SECRET_KEY_REF)} of {count} documents")
    return count / seconds


def _round_trip(text: str) -> str:
    yaml = YAML()
    yaml.preserve_quotes = True
    documents = [document for document in yaml.load_all(text) if document]
    for document in documents:
        container = document["spec"]["template"]["spec"]["containers"][0]
        source = {_SECRET_KEY_REF: {"name": "dapr-api-token", "key": "token"}}
        container["env"] = [{"name": names.API_TOKEN_ENV, "valueFrom": source}]
    out = io.StringIO()
    yaml.dump_all(documents, out)
    return out.getvalue()


def show(console: Console, rounds: list[tuple[float, float]]) -> bool:
    """Print both speeds and their ratio; return whether ours is the faster in each round."""
    for name, speed in (("inject", _speed(rounds, 0)), ("ruamel.yaml, round trip", _speed(rounds, 1))):
        console.print(f"{name}: {speed.median:,.0f} documents/s ({speed.low:,.0f}-{speed.high:,.0f})", highlight=False)
    ratio = spread(ours / theirs for ours, theirs in rounds)
    console.print(f"inject / round trip: {ratio.median:.1f} ({ratio.low:.1f}-{ratio.high:.1f})", highlight=False)
    return ratio.low > 1


def _speed(rounds: list[tuple[float, float]], which: int) -> Spread:
    return spread(one[which] for one in rounds)
