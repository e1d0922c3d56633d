"""Waiting for a condition: the only module of the harness that sleeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tests.controlplane.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_REST = 2.0  # times the duration of the probe
_LONGEST_REST = 1.0  # seconds


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    *,
    timeout_seconds: float = 90.0,
    interval_seconds: float = 0.05,
    describe: Callable[[], str] = lambda: "",
) -> T:
    """Return the first answer of `probe` that is true, as Python has it.

    `describe` is asked once, at the deadline, for the state to put into the message. A probe that takes long, as one
    that starts a process, is repeated less often: several tests that wait must not take all of the machine.

    Raises:
        DeadlineError: there was none within `timeout_seconds`. What `probe` raises passes through.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        began = time.monotonic()
        answer = probe()
        if answer:
            return answer
        now = time.monotonic()
        if now >= deadline:
            raise DeadlineError(f"not within {timeout_seconds:g} s: {what}. {describe()}".rstrip(". "))
        time.sleep(max(interval_seconds, min(_REST * (now - began), _LONGEST_REST)))
