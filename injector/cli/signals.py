"""Ended by others than the keyboard: a command that has something to put right, or to say, ends as after Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# What job runners, shells and terminals send to whom they end. Without a handler it would end us at once: the cursor
# hidden, and nothing said of how to go on.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Take the signals that end a process for Ctrl-C; those that are ignored, as under nohup, stay ignored."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What Ctrl-C would do now: an event loop has a handler of its own for it, and cancels its work in order."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(number, frame)
    else:  # ignored, as in the background of a shell's script
        raise KeyboardInterrupt
