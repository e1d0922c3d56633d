"""Handles termination signals like Ctrl-C, for commands that clean up or report before they end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

_T = TypeVar("_T")

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


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine as `asyncio.run`; inside `terminate_as_interrupt`, a signal cancels it between two of its steps.

    Event loops treat only Ctrl-C in this way, and not even that in a background job of a shell script, where it is
    ignored.

    Raises:
        KeyboardInterrupt: A signal has ended the work.
    """
    import asyncio  # noqa: PLC0415 - only commands that wait pay for it

    has_ended = False

    async def within() -> _T:
        task = asyncio.current_task()

        def end() -> None:
            nonlocal has_ended
            if has_ended:  # as Ctrl-C: the second one does not wait
                raise KeyboardInterrupt
            has_ended = True
            if task is not None:
                task.cancel()

        with _received(asyncio.get_running_loop(), end):
            return await work

    try:
        return asyncio.run(within())
    except asyncio.CancelledError:
        if not has_ended:
            raise
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _received(loop: AbstractEventLoop, end: Callable[[], None]) -> Iterator[None]:
    """Let an event loop call `end` with each signal that `terminate_as_interrupt` has taken."""
    taken = [number for number in _ENDING if signal.getsignal(number) is _interrupt]
    for number in taken:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, _interrupt)


@contextlib.contextmanager
def repeat_lost_interrupts() -> Iterator[None]:
    """Repeat a signal where Python cannot raise it, and would print a traceback and continue instead.

    Such places are callbacks of weak references, and each import has some:
    https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """
    before = sys.unraisablehook

    def repeat(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # In a moment, because a signal that arrives here would be lost again. If Ctrl-C is ignored, it was another.
            number = signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else signal.SIGTERM
            again = threading.Timer(_MOMENT_SECONDS, os.kill, (os.getpid(), number))
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
