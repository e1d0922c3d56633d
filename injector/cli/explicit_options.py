"""Detects options set on the command line: to reject those without an effect, and to repeat the others."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_TEXTS: Final = f"{__name__}.texts"


class RepeatableCommand(click.Command):
    """A command that can print itself with other options, see `command_line`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and keep them as they are, before any conversion."""
        ctx.meta[_TEXTS] = self.make_parser(ctx).parse_args(list(args))[0]
        return super().parse_args(ctx, args)


def command_line(*flags: str, without: tuple[type[click.Option], ...] = (), names: Collection[str] = ()) -> str:
    """Return the running command as a line for a shell: its own arguments and options, and then `flags`.

    Args:
        flags: Flags to add, unless they are set.
        without: Classes of options to leave out.
        names: Names of parameters to leave out.
    """
    context = click.get_current_context()
    texts: dict[str, Any] = context.meta[_TEXTS]
    words = context.command_path.split()
    added = list(flags)
    for parameter in context.command.params:
        text = texts.get(parameter.name or "")
        if not text or parameter.name in names or isinstance(parameter, without):
            continue
        flag = max(parameter.opts, key=len)
        if isinstance(parameter, click.Argument):
            words += text
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(flag)
        else:
            words += [f"{flag}={one}" for one in (text if parameter.multiple else [text])]
        added = [one for one in added if one != flag]
    return shlex.join([*words, *added])


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
