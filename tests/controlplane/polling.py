"""Waiting for a condition: the only module of the harness that sleeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tests.controlplane.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    *,
    timeout_seconds: float = 90.0,
    interval_seconds: float = 0.05,
    describe: Callable[[], str] = lambda: "",
) -> T:
    """Return the first answer of `probe` that is true, as Python has it.

    `describe` is asked once, at the deadline, for the state to put into the message.

    Raises:
        DeadlineError: there was none within `timeout_seconds`. What `probe` raises passes through.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise DeadlineError(f"not within {timeout_seconds:g} s: {what}. {describe()}".rstrip(". "))
        time.sleep(interval_seconds)
