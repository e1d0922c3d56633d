"""Ctrl-C that Python cannot raise."""

from __future__ import annotations

import sys
import weakref

import pytest

from injector.cli.signals import repeat_lost_interrupts
from tests.controlplane.polling import wait_for


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


def test_lost_interrupt_is_raised_in_a_moment() -> None:
    with repeat_lost_interrupts(), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it is raised while something else runs
        lose(KeyboardInterrupt)
        wait_for("the interrupt", lambda: None)


def test_other_lost_exceptions_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    with repeat_lost_interrupts():
        lose(ZeroDivisionError)
    assert seen == [ZeroDivisionError]
