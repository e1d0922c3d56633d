"""Detects options set on the command line, to reject those that would have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Iterator


def reject(why: str, *kinds: type[click.Option]) -> None:
    """Reject options of these classes that are set on the command line.

    Raises:
        click.UsageError: Some are set; names them.
    """
    _reject(why, (flag for flag, option in _set() if isinstance(option, kinds)))


def reject_all_but(why: str, *kinds: type[click.Option]) -> None:
    """Reject options of all other classes that are set on the command line.

    Raises:
        click.UsageError: Some are set; names them.
    """
    _reject(why, (flag for flag, option in _set() if not isinstance(option, kinds)))


def _set() -> Iterator[tuple[str, click.Option]]:
    """Yield the options set on the command line with their flags, in the order of the help."""
    context = click.get_current_context()
    for option in context.command.params:
        is_set = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if is_set and isinstance(option, click.Option):
            yield max(option.opts, key=len), option


def _reject(why: str, flags: Iterator[str]) -> None:
    found = list(flags)
    if found:
        raise click.UsageError(f"{', '.join(found)}: {why}; remove {'it' if len(found) == 1 else 'them'}")
