"""Signals that come while an event loop runs, or where Python cannot raise them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from injector.cli import signals
from injector.cli.signals import repeat_lost_interrupts, terminate_as_interrupt
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def _ctrl_c(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ctrl-C as a terminal's command has it, and ignored as in a background job of a shell script."""
    before = signal.signal(signal.SIGINT, request.param)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Thing:
    """Something to refer to."""


def lose(error: type[BaseException]) -> None:
    """Raise an exception in the callback of a weak reference."""

    def callback(_: object) -> None:
        raise error

    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    assert reference() is None


@pytest.mark.usefixtures("_ctrl_c")
def test_lost_interrupt_is_raised_in_a_moment() -> None:
    with terminate_as_interrupt(), repeat_lost_interrupts(), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it is raised while something else runs
        lose(KeyboardInterrupt)
        wait_for("the interrupt", lambda: None)


def test_other_lost_exceptions_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    with repeat_lost_interrupts():
        lose(ZeroDivisionError)
    assert seen == [ZeroDivisionError]


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_ends_the_work_between_two_steps(number: signal.Signals) -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            done.append("the rest of the step")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            done.append("the end")

    with terminate_as_interrupt():
        with pytest.raises(KeyboardInterrupt):
            signals.run(work())
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert done == ["the rest of the step", "the end"]


@pytest.mark.usefixtures("_ctrl_c")
def test_second_signal_does_not_wait_for_the_end() -> None:
    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)

    with terminate_as_interrupt(), pytest.raises(KeyboardInterrupt):
        signals.run(work())


def test_work_that_is_cancelled_by_itself_is_no_interrupt() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with terminate_as_interrupt(), pytest.raises(asyncio.CancelledError):
        signals.run(work())
