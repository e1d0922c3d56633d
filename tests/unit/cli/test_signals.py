"""Signals that come while an event loop runs, or where Python cannot raise them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from injector.cli import signals
from injector.cli.signals import interrupt_on_ctrl_c, interrupt_on_termination
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


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
@pytest.mark.parametrize("seconds", [signals._MOMENT_SECONDS, 0])  # at once: while the lost one is handled
def test_lost_interrupt_is_raised_in_a_moment(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_MOMENT_SECONDS", seconds)
    with interrupt_on_ctrl_c(), interrupt_on_termination(), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it is raised while something else runs
        lose(KeyboardInterrupt)
        wait_for("the interrupt", lambda: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_second", [True, False])
def test_signal_while_a_lost_exception_is_reported_is_not_lost(
    number: signal.Signals,
    is_second: bool,  # noqa: FBT001 - a case
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def report() -> None:
        lose(ZeroDivisionError)
        wait_for("the interrupt", lambda: None)

    async def report_after_a_signal() -> None:
        os.kill(os.getpid(), number)
        report()

    monkeypatch.setattr(sys, "unraisablehook", lambda _: os.kill(os.getpid(), number))
    with interrupt_on_ctrl_c(), interrupt_on_termination(), pytest.raises(KeyboardInterrupt):
        signals.run(report_after_a_signal()) if is_second else report()
    assert capfd.readouterr().err == ""


def test_other_lost_exceptions_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    with interrupt_on_ctrl_c():
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

    with interrupt_on_termination():
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

    with interrupt_on_termination(), pytest.raises(KeyboardInterrupt):
        signals.run(work())


def test_work_that_is_cancelled_by_itself_is_not_an_interrupt() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with interrupt_on_termination(), pytest.raises(asyncio.CancelledError):
        signals.run(work())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_the_first_step_begins_nothing(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    make = asyncio.events.new_event_loop

    def make_later() -> asyncio.AbstractEventLoop:
        os.kill(os.getpid(), number)
        return make()

    async def work() -> None:
        done.append("a step")

    monkeypatch.setattr(asyncio.events, "new_event_loop", make_later)
    with interrupt_on_termination(), pytest.raises(KeyboardInterrupt):
        signals.run(work())
    assert done == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_after_the_last_step_waits_for_the_event_loop(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    end = asyncio.BaseEventLoop.shutdown_asyncgens

    def end_interrupted(loop: asyncio.BaseEventLoop) -> Coroutine[None, None, None]:
        ending = end(loop)
        os.kill(os.getpid(), number)
        done.append("the end")
        return ending

    async def work() -> None:
        done.append("a step")

    monkeypatch.setattr(asyncio.BaseEventLoop, "shutdown_asyncgens", end_interrupted)
    with interrupt_on_termination(), pytest.raises(KeyboardInterrupt):
        signals.run(work())
    assert done == ["a step", "the end"]


def test_work_that_ends_in_spite_of_a_signal_has_its_result() -> None:
    async def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "the result"

    assert signals.run(work()) == "the result"
