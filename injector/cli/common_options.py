"""What the options of several commands have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")


def together(*options: Callable[[Any], Any]) -> Callable[[_CommandT], _CommandT]:
    """Return a decorator that adds arguments and options to a command; its help lists them in this order."""

    def add(command: _CommandT) -> _CommandT:
        for option in reversed(options):
            command = option(command)
        return command

    return add
