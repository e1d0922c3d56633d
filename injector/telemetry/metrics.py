"""The registry of metrics, and helpers for collectors.

Each package has its own collector. It turns plain integers into samples at each scrape; the values of a label are a
fixed set of the package.
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
    """Collects the metrics of the process."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    def collect(self) -> Iterator[Family]:
        """Yield all samples."""
        yield counter(
            "logs_dropped", "Log lines dropped because the log was not read in time.", (), {(): self._sink.dropped}
        )
        build = GaugeMetricFamily(
            f"{PREFIX}_build_info", "Version of the injector and of Python.", labels=("version", "python")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


def new_registry(*collectors: Collector) -> CollectorRegistry:
    """Return a registry with these collectors, and with CPU, memory and descriptors of the process."""
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    ProcessCollector(namespace=PREFIX, registry=registry)
    return registry


def keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    """Return counts by a tuple of label values, for a metric with one label."""
    return {(key,): count for key, count in counts.items()}


def counter(name: str, help_: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    """Return a counter with a sample for each combination of label values."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", help_, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    return GaugeMetricFamily(f"{PREFIX}_{name}", help_, value=value)
