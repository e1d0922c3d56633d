"""Files that hold secrets: read up to a bound, written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from injector import files
from injector.core.errors import InjectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OWNER: Final = 0o600
_OTHERS: Final = 0o077


class PrivateFileError(InjectorError):
    """A file cannot be read or written; the message names it and says why."""

    reason = "private-file"


def read(path: Path, *, most: int) -> bytes:
    """Return at most so many bytes of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(most)


def is_readable_by_others(path: Path) -> bool:
    """Return whether users other than the owner may read a regular file; False where it cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & _OTHERS)


def create(path: Path, content: bytes) -> bool:
    """Write a new file, mode 0600, in one step; false when there is one already, which is left as it is.

    Raises:
        PrivateFileError: It cannot be written.
    """
    return _written(path, content, _place_new)


def replace(path: Path, content: bytes) -> None:
    """Give a file new content in one step, mode 0600.

    Raises:
        PrivateFileError: It cannot be written; it is as it was.
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
        PrivateFileError: The folder cannot be opened.
    """
    try:
        descriptor = os.open(resolved(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise PrivateFileError(f"{path}: {files.error_text(error)}") from None
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
        PrivateFileError: A link there is somebody else's.
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
            raise PrivateFileError(f"{path}: is somebody else's link in a folder for all, and is not followed")
        # Whose link this is cannot change in such a folder: only its owner may take it away.
        path = path.parent / path.readlink()
    raise PrivateFileError(f"{path}: too many links follow one another")


_MOST_LINKS: Final = 40  # as Linux


def _written(path: Path, content: bytes, put: Callable[[Path, Path], bool]) -> bool:
    is_placed = False

    def place(beside: Path, target: Path) -> None:
        nonlocal is_placed
        is_placed = put(beside, target)

    try:
        path = resolved(path)
        if path.exists() and not path.is_file():
            raise PrivateFileError(f"{path}: is no regular file, and is not written over")
        with files.replacement(path, mode=_OWNER, put=place) as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise PrivateFileError(
                    f"{path}: its file system keeps no modes, so that others could read it; choose another folder"
                )
            file.write(content)
    except OSError as error:
        raise PrivateFileError(f"{path}: cannot be written: {files.error_text(error)}") from None
    return is_placed


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
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER))
        except FileExistsError:
            return False
        try:
            beside.replace(path)  # the place is ours, and empty until now
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return True
