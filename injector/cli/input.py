"""Reads small files, or standard input in place of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from injector.core.token import MAX_TOKEN
from injector.files import error_text
from injector.tokens import private_files

STDIN: Final = "-"
# Bytes: enough to report that a token is too long.
_MAX_BYTES: Final = 64 * MAX_TOKEN


def read_input(name: str, what: str) -> bytes:
    """Return at most 256 KiB of a file, or of standard input for `-`; `what` describes it in messages.

    Raises:
        click.UsageError: It cannot be read.
    """
    if name == STDIN:
        if sys.stdin.isatty():
            raise click.UsageError(f"standard input is a terminal; pipe {what} or give a file")
        return sys.stdin.buffer.read(_MAX_BYTES)
    try:
        return private_files.read(Path(name), max_bytes=_MAX_BYTES)
    except OSError as error:
        raise click.UsageError(f"{what} {name}: {error_text(error)}") from None
