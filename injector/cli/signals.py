"""Handles termination signals like Ctrl-C, for commands that clean up or report before they end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Sent by job runners, shells and terminals. Without a handler the process would end at once, with the cursor hidden and
# without a message on how to continue.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat signals that end a process as Ctrl-C; ignored ones, as under nohup, stay ignored."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextlib.contextmanager
def repeat_lost_interrupts() -> Iterator[None]:
    """Repeat Ctrl-C where Python cannot raise it, and would print a traceback and continue instead.

    Such places are callbacks of weak references, and each import has some:
    https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """
    before = sys.unraisablehook

    def repeat(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # In a moment, because a signal that arrives here would be lost again.
            again = threading.Timer(_MOMENT_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = before


_MOMENT_SECONDS: Final = 0.01


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Call the handler of Ctrl-C: an event loop has its own, which cancels its tasks."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(number, frame)
    else:  # ignored, as in background jobs of a shell script
        raise KeyboardInterrupt
