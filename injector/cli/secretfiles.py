"""Files that hold secrets: read with a bound, written whole or not at all, for nobody but their owner."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from injector.core.token import MAX_TOKEN

STDIN: Final = "-"
# Ours: enough to say of a token that it is too long.
_MOST: Final = 64 * MAX_TOKEN  # bytes
_OTHERS: Final = 0o077


def read(name: str, what: str) -> bytes:
    """The bytes of a file, or of standard input for `-`; `what` is what messages call it.

    Raises:
        click.UsageError: It cannot be read.
    """
    if name == STDIN:
        if sys.stdin.isatty():
            raise click.UsageError(f"{what} is wanted from standard input: pipe it in, or name a file")
        return sys.stdin.buffer.read(_MOST)
    try:
        with Path(name).open("rb") as file:
            return file.read(_MOST)
    except OSError as error:
        raise click.UsageError(f"{what} {name}: {why(error)}") from None


def note_if_open(path: Path) -> None:
    """Say on stderr when others may read a file that holds a secret."""
    if path.stat().st_mode & _OTHERS:
        click.echo(f"note: {path} can be read by others than its owner; chmod 600 it", err=True)


def create(path: Path, content: bytes) -> bool:
    """Write a new file, mode 0600, in one step; false when there is one already, which is left as it is.

    Raises:
        click.UsageError: It cannot be written.
    """
    return _write(path, content, over=False)


def replace(path: Path, content: bytes) -> None:
    """Give a file new content in one step, mode 0600.

    Raises:
        click.UsageError: It cannot be written; it is as it was.
    """
    _write(path, content, over=True)


def _write(path: Path, content: bytes, *, over: bool) -> bool:
    beside: Path | None = None
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file():
        raise click.UsageError(f"{path}: is no regular file, and is not written over")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        beside = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if over:
            beside.replace(path)
            beside = None
        else:
            path.hardlink_to(beside)  # unlike a rename, this never takes another's place
    except FileExistsError:
        return False
    except OSError as error:
        raise click.UsageError(f"{path}: cannot be written: {why(error)}") from None
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)
    return True


def why(error: OSError) -> str:
    """What the system says is wrong, without a path."""
    return (error.strerror or "input or output failed").lower()
