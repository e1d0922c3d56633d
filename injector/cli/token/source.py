"""Where commands get a token from: a file, or standard input. Never an argument, which every user can list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from injector.core.errors import TokenError
from injector.core.token import MAX_TOKEN, Token, parse_token
from injector.tokens import private_files

if TYPE_CHECKING:
    from collections.abc import Callable

_CommandT = TypeVar("_CommandT", bound="Callable[..., Any]")

STDIN: Final = "-"
_STDIN: Final = "standard input"
# Bytes: enough to report of a token that it is too long.
_MAX_BYTES: Final = 64 * MAX_TOKEN
# Linux keeps no more of a line that is being typed (N_TTY_BUF_SIZE, with the line's end):
# https://github.com/torvalds/linux/blob/master/drivers/tty/n_tty.c
_LONGEST_LINE: Final = 4095


class TokenOption(click.Option):
    """Gives or describes a new token."""


def given_token_options(command: _CommandT) -> _CommandT:
    """The two ways in; which of them is needed is each command's own rule."""
    command = click.option(
        "--token-stdin",
        cls=TokenOption,
        is_flag=True,
        help="Read the token from standard input; asked for, unseen, at a terminal.",
    )(command)
    return click.option(
        "--token-file",
        cls=TokenOption,
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="File that holds the token and nothing else.",
    )(command)


def read_token_file(path: Path) -> Token:
    """The token in a file.

    Raises:
        click.ClickException: The file cannot be read, or holds no token.
    """
    if private_files.is_readable_by_others(path):
        click.echo(f"note: {path} can be read by users other than its owner; chmod 600 it", err=True)
    return _parse(str(path), read_input(str(path), "token file"))


def read_input(name: str, what: str) -> bytes:
    """Return at most 256 KiB of a file, or of standard input for `-`; messages call it `what`.

    Raises:
        click.UsageError: It cannot be read.
    """
    if name == STDIN:
        if sys.stdin.isatty():
            raise click.UsageError(f"{what} is wanted from standard input: pipe it in, or name a file")
        return sys.stdin.buffer.read(_MAX_BYTES)
    try:
        return private_files.read(Path(name), max_bytes=_MAX_BYTES)
    except OSError as error:
        raise click.UsageError(f"{what} {name}: {private_files.error_text(error)}") from None


def read_token_stdin() -> Token:
    """The token on standard input; at a terminal it is asked for and not echoed.

    Raises:
        click.ClickException: It cannot be one.
    """
    if sys.stdin.isatty():
        return _parse(_STDIN, _prompt())
    return _parse(_STDIN, read_input(STDIN, "the token"))


def _prompt() -> bytes:
    """What is typed or pasted at a terminal, as it came."""
    try:
        line = str(click.prompt("Token", hide_input=True, err=True)).encode("utf-8", "surrogateescape")
    except UnicodeDecodeError as error:
        click.echo(err=True)  # the line's end, which was not echoed
        line = bytes(error.object).removesuffix(b"\n")
    if len(line) >= _LONGEST_LINE:
        raise click.ClickException(
            f"{_STDIN} holds no token: a terminal cuts a line after {_LONGEST_LINE:,} bytes; use --token-file"
        )
    return line


def _parse(where: str, value: bytes) -> Token:
    try:
        return parse_token(value)
    except TokenError as error:
        raise click.ClickException(f"{where} holds no token: {error}") from None


def given_token(token_file: Path | None, *, token_stdin: bool) -> Token | None:
    """The token that the options above give; None when they give none.

    Raises:
        click.ClickException: It cannot be read, or is none.
    """
    if token_file is not None and token_stdin:
        raise click.UsageError("--token-file and --token-stdin exclude each other; give one")
    if token_file is not None:
        return read_token_file(token_file)
    return read_token_stdin() if token_stdin else None
