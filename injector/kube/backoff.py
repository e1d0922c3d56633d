"""Delays between retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.kube.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    import random

    from injector.kube.errors import KubeError, UnavailableError

# Seconds. The first retries come soon, for short outages; the delay grows with each failure.
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 30.0
# A missing permission comes back when a person grants it: two or three requests a minute are enough.
_FORBIDDEN_DELAYS: Final = (20.0, 30.0)


class Backoff:
    """Computes the delay before the next retry, at random, so that replicas do not retry at the same time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    @property
    def failures(self) -> int:
        """The number of failures since the last success, without missing permissions."""
        return self._failures

    def succeeded(self) -> None:
        """Reset the delay."""
        self._failures = 0

    def delay_seconds(self, error: KubeError | None = None) -> float:
        """Return the delay after another failure."""
        if isinstance(error, (ForbiddenError, UnauthorizedError)):
            return self._rng.uniform(*_FORBIDDEN_DELAYS)
        span = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return self._rng.uniform(_FIRST_DELAY / 2, span)


# Seconds. An API server that requests a longer delay is reported as unavailable.
_LONGEST_REQUESTED_DELAY: Final = 30.0
_TOO_MANY_REQUESTS: Final = 429


def retry_seconds(error: UnavailableError, backoff: Backoff) -> float | None:
    """Return the delay before a read is sent again; None: the API server does not request that, or too late.

    As in client-go, it is requested by status 429, and by any other with `Retry-After`.
    """
    refusal = error.refusal
    if refusal is None or (refusal.status != _TOO_MANY_REQUESTS and refusal.retry_after_seconds is None):
        return None
    delay = max(refusal.retry_after_seconds or 0.0, backoff.delay_seconds())
    return delay if delay <= _LONGEST_REQUESTED_DELAY else None
