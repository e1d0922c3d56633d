"""Files that hold secrets: read with a bound, written whole or not at all, for nobody but their owner."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from injector.core.token import MAX_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STDIN: Final = "-"
# Ours: enough to say of a token that it is too long.
_MOST: Final = 64 * MAX_TOKEN  # bytes
_OTHERS: Final = 0o077


def read(name: str, what: str, *, most: int = _MOST, must_be_ours: bool = False) -> bytes:
    """At most so many bytes of a file, or of standard input for `-`; `what` is what messages call it.

    With `must_be_ours`, others who may read a regular file are told of on stderr.

    Raises:
        click.UsageError: It cannot be read.
    """
    if name == STDIN:
        if sys.stdin.isatty():
            raise click.UsageError(f"{what} is wanted from standard input: pipe it in, or name a file")
        return sys.stdin.buffer.read(most)
    try:
        return read_file(Path(name), most=most, must_be_ours=must_be_ours)
    except OSError as error:
        raise click.UsageError(f"{what} {name}: {why(error)}") from None


def read_file(path: Path, *, most: int, must_be_ours: bool) -> bytes:
    """As `read`, of a file alone.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if must_be_ours and stat.S_ISREG(mode) and mode & _OTHERS:
            click.echo(f"note: {path} can be read by others than its owner; chmod 600 it", err=True)
        return file.read(most)


def create(path: Path, content: bytes) -> bool:
    """Write a new file, mode 0600, in one step; false when there is one already, which is left as it is.

    Raises:
        click.UsageError: It cannot be written.
    """
    return _written(path, content, _place_new)


def replace(path: Path, content: bytes) -> None:
    """Give a file new content in one step, mode 0600.

    Raises:
        click.UsageError: It cannot be written; it is as it was.
    """
    _written(path, content, _place_over)


def is_there(path: Path) -> bool:
    """Whether there is something already, as far as we may look."""
    try:
        return path.exists()
    except OSError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others who do this out, for as long as the block lasts; those who only read are not kept out.

    The lock is on the folder: the file itself is replaced, and a file beside it would have to be cleared away. It ends
    with the process, however that ends. Where the file system has no locks, as some over a network, there is none.

    Raises:
        click.UsageError: The folder cannot be opened.
    """
    try:
        descriptor = os.open(resolved(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise click.UsageError(f"{path}: {why(error)}") from None
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def resolved(path: Path) -> Path:
    """Where a path leads, so that what is a link stays one.

    In a folder like /tmp, where everybody may put a link, only one's own is followed. Linux has the same rule where
    `fs.protected_symlinks` is on, but for those who open a file; we replace it.

    Raises:
        click.UsageError: A link there is somebody else's.
    """
    for _ in range(_MOST_LINKS):
        try:
            found = path.lstat()
        except OSError:
            return path  # nothing is there, or what keeps us out will be told when it is written
        if not stat.S_ISLNK(found.st_mode):
            return Path(os.path.realpath(path.parent)) / path.name if path.name else path
        folder = path.parent.stat()
        is_for_all = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if is_for_all and found.st_uid not in {os.geteuid(), folder.st_uid}:
            raise click.UsageError(f"{path}: is somebody else's link in a folder for all, and is not followed")
        # Whose link this is cannot change in such a folder: only its owner may take it away.
        path = path.parent / path.readlink()
    raise click.UsageError(f"{path}: too many links follow one another")


_MOST_LINKS: Final = 40  # as Linux


def _written(path: Path, content: bytes, place: Callable[[Path, Path], bool]) -> bool:
    beside: Path | None = None
    try:
        path = resolved(path)
        if path.exists() and not path.is_file():
            raise click.UsageError(f"{path}: is no regular file, and is not written over")
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        beside = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            if os.fstat(descriptor).st_mode & _OTHERS:
                raise click.UsageError(
                    f"{path}: its file system keeps no modes, so that others could read it; choose another folder"
                )
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        is_placed = place(beside, path)
        _settle(path.parent)
    except OSError as error:
        raise click.UsageError(f"{path}: cannot be written: {why(error)}") from None
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)
    return is_placed


def _settle(folder: Path) -> None:
    """Have the name outlast a power failure, where the file system can say so."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _place_over(beside: Path, path: Path) -> bool:
    beside.replace(path)
    return True


def _place_new(beside: Path, path: Path) -> bool:
    """Unlike a rename, neither way takes another's place: a link does not, nor does a file that must be new."""
    try:
        path.hardlink_to(beside)
    except FileExistsError:
        return False
    except OSError:  # a file system without links, such as FAT
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        try:
            beside.replace(path)  # the place is ours, and empty until now
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return True


def why(error: OSError) -> str:
    """What the system says is wrong, without a path."""
    return (error.strerror or "input or output failed").lower()
