"""Types of option values that click does not have."""

from __future__ import annotations

import click

from injector.core import durations


class Duration(click.ParamType):  # type: ignore[type-arg] # click 8.3 has it without a parameter
    """A duration such as `10m`; the command gets seconds."""

    name = "duration"

    def __init__(self, *, shortest: int = 0) -> None:
        self._shortest = shortest

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds.

        Raises:
            click.UsageError: It is not a duration, or shorter than allowed; the message names the option.
        """
        try:
            return durations.parse(value, shortest=self._shortest)
        except ValueError as error:
            option = max(param.opts, key=len) if param is not None else self.name
            raise click.UsageError(f"{option}: {error}", ctx) from None
