"""Reads tokens from a file or standard input. Never from an argument, which other users can see."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from injector.cli.common_options import together
from injector.cli.input import STDIN, read_input
from injector.core.errors import TokenError
from injector.core.token import Token, parse_token
from injector.tokens import private_files

_STDIN: Final = "standard input"
# The longest line of a Linux terminal (N_TTY_BUF_SIZE, with the newline):
# https://github.com/torvalds/linux/blob/master/drivers/tty/n_tty.c
_LONGEST_LINE: Final = 4095


class TokenOption(click.Option):
    """Gives or describes a new token."""


# Each command checks which of them it requires.
given_token_options: Final = together(
    click.option(
        "--token-file",
        cls=TokenOption,
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Read the token from FILE, which holds nothing else.",
    ),
    click.option(
        "--token-stdin",
        cls=TokenOption,
        is_flag=True,
        help="Read the token from standard input; a terminal prompts without echo.",
    ),
)


def read_token_file(path: Path) -> Token:
    """Return the token in a file.

    Raises:
        click.ClickException: The file cannot be read or does not hold a token.
    """
    if private_files.is_readable_by_others(path):
        click.echo(f"note: {path}: other users can read it; run chmod 600", err=True)
    return _parse(f"--token-file {path}", read_input(str(path), "--token-file"))


def read_token_stdin() -> Token:
    """Return the token on standard input; a terminal prompts without echo.

    Raises:
        click.ClickException: It is not a token.
    """
    if sys.stdin.isatty():
        return _parse(_STDIN, _prompt())
    return _parse(_STDIN, read_input(STDIN, "the token"))


def _prompt() -> bytes:
    """Return the bytes typed or pasted at a terminal."""
    try:
        line = str(click.prompt("Token", hide_input=True, err=True)).encode("utf-8", "surrogateescape")
    except UnicodeDecodeError as error:
        click.echo(err=True)  # the newline, which was not echoed
        line = bytes(error.object).removesuffix(b"\n")
    if len(line) >= _LONGEST_LINE:
        raise click.ClickException(
            f"{_STDIN}: not a token: a terminal cuts lines after {_LONGEST_LINE:,} bytes; use --token-file"
        )
    return line


def _parse(where: str, value: bytes) -> Token:
    try:
        return parse_token(value)
    except TokenError as error:
        raise click.ClickException(f"{where}: not a token: {error}") from None


def given_token(token_file: Path | None, *, token_stdin: bool) -> Token | None:
    """Return the token of the options above; None if neither is set.

    Raises:
        click.ClickException: It cannot be read or is not a token.
    """
    if token_file is not None and token_stdin:
        raise click.UsageError("--token-file and --token-stdin cannot be combined; use one of them")
    if token_file is not None:
        return read_token_file(token_file)
    return read_token_stdin() if token_stdin else None
