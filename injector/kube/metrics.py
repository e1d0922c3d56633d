"""Metrics of calls to the API server, and of the objects that are watched."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client.registry import Collector

from injector.kube import errors
from injector.telemetry.metrics import counter, gauge, keyed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from injector.kube.watch import ObjectWatch
    from injector.telemetry.metrics import Family

KUBE_ERRORS: Final[Mapping[str, str]] = {
    errors.KubeconfigError.reason: "no usable kubeconfig or ServiceAccount",
    errors.UnauthorizedError.reason: "the API server does not accept the credentials",
    errors.ForbiddenError.reason: "a permission is missing",
    errors.DeniedError.reason: "a quota, a policy, a webhook or another admission rule denied the request",
    errors.NotFoundError.reason: "the object does not exist",
    errors.AlreadyExistsError.reason: "an object with that name exists",
    errors.ConflictError.reason: "another replica or client changed the object",
    errors.GoneError.reason: "the resource version is too old for a watch",
    errors.InvalidError.reason: "the API server rejects the object",
    errors.RedirectedError.reason: "the answer was a redirect, which is not followed",
    errors.UnconfirmedWriteError.reason: "the answer to a write was not the object that was written",
    errors.UnavailableError.reason: "no answer in time, or a connection broke",
    errors.KubeError.reason: "anything else",
}


class KubeMetrics(Collector):
    """Counters of calls; all zero while no API server is called."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.errors: dict[str, int] = dict.fromkeys(KUBE_ERRORS, 0)
        self.clock_skew = 0.0  # seconds
        self._clock = clock
        self._watched: Sequence[ObjectWatch] = ()

    def failed(self, reason: str) -> None:
        """Count one call that failed."""
        self.errors[reason if reason in self.errors else errors.KubeError.reason] += 1

    def watch(self, watched: Sequence[ObjectWatch]) -> None:
        """Start to report the time since the last event for these objects."""
        self._watched = watched

    def collect(self) -> Iterator[Family]:
        """All samples."""
        yield counter("kube_errors", "Calls to the API server that failed.", ("reason",), keyed(self.errors))
        now = self._clock()
        yield gauge(
            "kube_silence_seconds",
            "Time since the API server last sent an answer or event about a watched object; the longest of all.",
            max((now - each.heard for each in self._watched), default=0.0),
        )
        yield gauge(
            "kube_clock_skew_seconds",
            "Offset of the API server's clock; positive if it is ahead. Offsets below 2 s are reported as 0.",
            self.clock_skew,
        )
