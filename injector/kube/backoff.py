"""Delays between tries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.kube.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    import random

    from injector.kube.errors import KubeError

# Seconds. A server that is away for a moment is asked soon, one that is away for long is left alone.
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 30.0
# A right that is missing comes back when a person gives it: two or three requests a minute are enough.
_FORBIDDEN_DELAYS: Final = (20.0, 30.0)


class Backoff:
    """How long to wait before the next try; random over the whole span, so that replicas do not move as one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many there were since the last success; rights that are missing do not count."""
        return self._failures

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures = 0

    def delay_seconds(self, error: KubeError | None = None) -> float:
        """The wait after another failure."""
        if isinstance(error, (ForbiddenError, UnauthorizedError)):
            return self._rng.uniform(*_FORBIDDEN_DELAYS)
        span = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return self._rng.uniform(_FIRST_DELAY / 2, span)
