"""One picture for the docs: throughput and tail latency at 32 connections, by body size, log scales."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from tests.bench import bodies, peers
from tests.bench.measure import Cell, Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from tests.bench.report import Results

_CONNECTIONS: Final = 32
# Distinct for people who see few colours, and in grey: Okabe and Ito's palette.
_COLOURS: Final = ("#0072B2", "#56B4E9", "#E69F00", "#CC79A7", "#BBBBBB")
_GROUP_WIDTH: Final = 0.84


def draw(results: Results, target: Path) -> None:
    """Write the picture to `target`; its suffix chooses the format."""
    import matplotlib as mpl  # noqa: PLC0415 - tests of the bench draw nothing

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - needs the backend that was just chosen

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _bars(left, results, lambda s: s.requests_per_second, "requests per second (higher is better)")
    _bars(right, results, lambda s: s.p99_us / 1e3, "p99 in ms (lower is better)")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"One core, TLS keep-alive, {_CONNECTIONS} connections ({results.environment['cpu']})")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=144)
    plt.close(figure)


def _bars(axes: Axes, results: Results, metric: Callable[[Sample], float], title: str) -> None:
    names = [peers.US, *results.pairs]
    width = _GROUP_WIDTH / len(names)
    for place, name in enumerate(names):
        heights = [median(map(metric, _samples(results, name, size))) for size in bodies.SIZES]
        left = [group + (place - (len(names) - 1) / 2) * width for group in range(len(heights))]
        bars = axes.bar(left, heights, width, label=name, color=_COLOURS[place % len(_COLOURS)])
        axes.bar_label(bars, [_short(height) for height in heights], fontsize=6, padding=1)
    axes.set_yscale("log")
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(bodies.SIZES)), list(bodies.SIZES))
    axes.spines[["top", "right"]].set_visible(False)


def _samples(results: Results, name: str, size: str) -> list[Sample]:
    cell = Cell(_CONNECTIONS, size)
    if name == peers.US:
        return results.ours(cell)
    return [pair.peer for pair in results.pairs[name].get(cell, ())]


def _short(value: float) -> str:
    """Three significant digits at most, thousands as k."""
    if value >= 1000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
