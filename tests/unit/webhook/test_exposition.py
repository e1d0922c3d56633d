"""Rendered metrics are reused for a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from injector.webhook.exposition import MAX_AGE, Exposition

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENMETRICS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3"


class Counting(Collector):
    """Counts how often it is collected."""

    def __init__(self) -> None:
        self.collected = 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.collected += 1
        yield GaugeMetricFamily("collected", "How often.", value=self.collected)


class Scraped:
    """An exposition with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counting = Counting()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self.counting)
        self.counting.collected = 0  # registering collects once
        self.exposition = Exposition(registry, lambda: self.now)

    def text(self, accept: str = "") -> str:
        return self.exposition.render(accept).text.decode()


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def test_text_is_reused_for_a_second(scraped: Scraped) -> None:
    first = scraped.text()
    scraped.now = MAX_AGE - 0.001
    assert scraped.text() == first
    assert scraped.counting.collected == 1
    scraped.now = MAX_AGE
    assert scraped.text() != first
    assert scraped.counting.collected == 2


def test_each_format_has_its_own_text(scraped: Scraped) -> None:
    assert "# EOF" in scraped.text(OPENMETRICS)
    assert "# EOF" not in scraped.text()
    assert scraped.counting.collected == 2


@pytest.mark.parametrize("version", ["1.0.0", "1.7.3", "x", ""])
def test_versions_in_the_header_do_not_cause_a_rendering(scraped: Scraped, version: str) -> None:
    scraped.text(OPENMETRICS)
    assert scraped.text(f"application/openmetrics-text;version={version}") == scraped.text(OPENMETRICS)
    assert scraped.counting.collected == 1
