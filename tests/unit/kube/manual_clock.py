"""An event loop in which waiting takes no time: its clock jumps to the next deadline."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Never waits; adds up the time that it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is not None:
            self.seconds += max(0.0, timeout)
        return found


class ManualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time starts at 0 and advances without waiting."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds that would have passed."""
        return self._jumping.seconds


def run_with_manual_clock(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop with a manual clock."""
    with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
        return runner.run(work)
