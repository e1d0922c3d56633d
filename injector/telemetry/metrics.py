"""The registry of metrics, and what is needed to write a collector.

Each package has a collector of its own. Counters are plain integers that it turns into samples at each scrape,
and every label is one of a set fixed in that package.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from injector import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from injector.telemetry.logs import LogSink

    Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

PREFIX: Final = "dapr_token_injector"


class ProcessMetrics(Collector):
    """What there is to know of the process itself."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    def collect(self) -> Iterator[Family]:
        """All samples."""
        yield counter(
            "logs_dropped", "Log lines dropped because the log was not read in time.", (), {(): self._sink.dropped}
        )
        yield info(
            "build_info",
            "Version of the injector and of Python.",
            {"version": __version__, "python": platform.python_version()},
        )


def new_registry(*collectors: Collector) -> CollectorRegistry:
    """A registry with these collectors, and with CPU, memory and descriptors of the process."""
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    ProcessCollector(namespace=PREFIX, registry=registry)
    return registry


def keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    """Counts by the values of their labels, from counts by the value of the only one."""
    return {(key,): count for key, count in counts.items()}


def counter(name: str, help_: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    """A counter with a sample for each combination of values of its labels."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", help_, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(f"{PREFIX}_{name}", help_, value=value)


def info(name: str, help_: str, labels: Mapping[str, str]) -> GaugeMetricFamily:
    """A gauge that is always 1, for what its labels say."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", help_, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family
