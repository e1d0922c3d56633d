"""Handles termination signals like Ctrl-C, for commands that clean up or report before they end."""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

_T = TypeVar("_T")

# Sent by job runners, shells and terminals. Without a handler the process would end at once, with the cursor hidden and
# without a message on how to continue.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def interrupt_on_termination() -> Iterator[None]:
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
    """Run a coroutine as `asyncio.run`; Ctrl-C, and a signal inside `interrupt_on_termination`, cancels it.

    It is cancelled between two of its steps, and not begun if the signal comes earlier. A signal after its last step
    waits until the event loop is closed, which would otherwise end in warnings. The second signal does not wait.

    Raises:
        KeyboardInterrupt: A signal has ended the work, or came before or after it.
    """
    with _Interrupts() as interrupts:
        import asyncio  # noqa: PLC0415 - only commands that wait pay for it

        async def within() -> _T:
            task = asyncio.current_task()
            loop = asyncio.get_running_loop()

            def cancel() -> None:
                if task is not None:
                    task.cancel()
                loop.call_soon_threadsafe(lambda: None)  # it may be waiting for a connection

            with interrupts.received_by(cancel):
                if interrupts.is_pending:
                    work.close()
                    raise asyncio.CancelledError
                return await work

        try:
            return asyncio.run(within())
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            raise KeyboardInterrupt from None


class _Interrupts:
    """Takes the signals that are to end a block: the second one raises KeyboardInterrupt at once.

    The first one is pending until the end of the block, and raised there, unless a function receives it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.is_pending = False
        self._receiver: Callable[[], None] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other thread can set handlers
            for number in (signal.SIGINT, *_ENDING):
                handler = signal.getsignal(number)
                if handler is signal.default_int_handler or handler is _interrupt:
                    self._before[number] = handler
                    signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.is_pending and kind is None:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def received_by(self, receiver: Callable[[], None]) -> Iterator[None]:
        """Call a function in place of leaving the first signal pending."""
        self._receiver = receiver
        try:
            yield
        finally:
            self._receiver = None

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            _interrupt(number, frame)
        elif self._receiver is None:
            self.is_pending = True
        else:
            self._receiver()


@contextlib.contextmanager
def interrupt_on_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt if it would end the process, and repeat a signal where it cannot be raised.

    There Python would print a traceback and continue. Such places are callbacks of weak references, and each import has
    some: https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """
    hook, ctrl_c = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    is_ending = ctrl_c in (signal.SIG_DFL, signal.default_int_handler)
    is_taken = is_ending and threading.current_thread() is threading.main_thread()  # no other thread can set handlers
    try:
        if is_taken:
            signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = functools.partial(_report_or_repeat, hook)
        yield
    finally:
        sys.unraisablehook = hook
        if is_taken:
            signal.signal(signal.SIGINT, ctrl_c)


def _report_or_repeat(report: Callable[[sys.UnraisableHookArgs], Any], lost: sys.UnraisableHookArgs) -> None:
    """Repeat the signal of a lost KeyboardInterrupt; report any other exception."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # If Ctrl-C is ignored, it was another.
        _repeat_in_a_moment(signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else signal.SIGTERM)
    else:
        report(lost)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise what Ctrl-C raises, also in background jobs of a shell script, which ignore Ctrl-C.

    Where it would be lost, while another lost exception is handled, the signal is repeated.
    """
    while frame is not None:
        if frame.f_code is _report_or_repeat.__code__:
            _repeat_in_a_moment(number)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _repeat_in_a_moment(number: int) -> None:
    """Send this process a signal. `threading` has locks that the code which was interrupted may hold."""

    def send() -> None:
        time.sleep(_MOMENT_SECONDS)
        os.kill(os.getpid(), number)

    _thread.start_new_thread(send, ())


_MOMENT_SECONDS: Final = 0.01
