"""Which options a person wrote, so that one which would do nothing is refused and not passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Collection


def flags() -> dict[str, str]:
    """The flags on the command line, by the parameter's name, in the order of the help."""
    context = click.get_current_context()
    return {
        option.name: max(option.opts, key=len)
        for option in context.command.params
        if isinstance(option, click.Option) and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }


def refuse(names: Collection[str], why: str) -> None:
    """Refuse parameters that were given and would do nothing.

    Raises:
        click.UsageError: Some were; says which, after `why`.
    """
    wrong = [flag for name, flag in flags().items() if name in names]
    if wrong:
        raise click.UsageError(f"{why}: leave {', '.join(wrong)} out")
