"""Starts a command with tokens in its environment."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

import click

from injector.files import error_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.core.token import Token


def env_with_tokens(tokens: Mapping[str, Token]) -> dict[str, str]:
    """Return the environment of this process with the tokens added."""
    return {**os.environ, **{variable: token.reveal() for variable, token in tokens.items()}}


def replace_process(arguments: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
    """Replace this process by the command.

    Raises:
        click.ClickException: It cannot be started.
    """
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)  # the command would inherit ignored signals
    try:
        os.execvpe(arguments[0], arguments, env)  # noqa: S606 - running the given command is the purpose
    except (OSError, ValueError) as error:
        raise cannot_start(arguments[0], error) from None


_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def cannot_start(name: str, error: OSError | ValueError) -> click.ClickException:
    """The error for a command that cannot be started."""
    if isinstance(error, FileNotFoundError):
        return click.ClickException(f"{name}: command not found")
    return click.ClickException(f"{name}: cannot start: {error_text(error) if isinstance(error, OSError) else error}")
