"""The text of /metrics, rendered at most once a second for each format.

Rendering takes about 2.8 ms of CPU. Anyone who can reach the ops port can request it, and reviews need the same CPU.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

# Seconds for which a rendered text is reused. Scrape intervals are 5 s and longer.
MAX_AGE: Final = 1.0
_OPENMETRICS: Final = "application/openmetrics-text"


class Rendered(NamedTuple):
    """A text, its media type, and the time at which it becomes outdated."""

    text: bytes
    media_type: str
    outdated: float


class Exposition:
    """Renders the samples of a registry in Prometheus' text format or in OpenMetrics."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._rendered: dict[str, Rendered] = {}

    def render(self, accept: str) -> Rendered:
        """Return the samples in the format that an `Accept` header requests.

        Versions and escaping schemes in the header are ignored: they do not change the text of our metrics. So there
        are two texts, and a client cannot cause another rendering by changing the header.
        """
        is_openmetrics = _OPENMETRICS in accept
        media_type = openmetrics.CONTENT_TYPE_LATEST if is_openmetrics else CONTENT_TYPE_PLAIN_0_0_4
        now, found = self._clock(), self._rendered.get(media_type)
        if found is None or found.outdated <= now:
            encode = openmetrics.generate_latest if is_openmetrics else generate_latest
            found = self._rendered[media_type] = Rendered(encode(self._registry), media_type, now + MAX_AGE)
        return found
