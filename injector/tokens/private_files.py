"""Files that hold secrets: read up to a bound, written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from injector.core.errors import InjectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OTHERS: Final = 0o077


class PrivateFileError(InjectorError):
    """A file cannot be read or written; the message names it and says why."""

    reason = "private-file"


def read(path: Path, *, max_bytes: int) -> bytes:
    """Return at most so many bytes of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(max_bytes)


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
    return _write(path, content, _move_new)


def replace(path: Path, content: bytes) -> None:
    """Give a file new content in one step, mode 0600.

    Raises:
        PrivateFileError: It cannot be written; it is as it was.
    """
    _write(path, content, _move_over)


def exists(path: Path) -> bool:
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
        descriptor = os.open(resolve_link(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise PrivateFileError(f"{path}: {error_text(error)}") from None
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def resolve_link(path: Path) -> Path:
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


def _write(path: Path, content: bytes, move: Callable[[Path, Path], bool]) -> bool:
    temporary: Path | None = None
    try:
        path = resolve_link(path)
        if path.exists() and not path.is_file():
            raise PrivateFileError(f"{path}: is no regular file, and is not written over")
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            if os.fstat(descriptor).st_mode & _OTHERS:
                raise PrivateFileError(
                    f"{path}: its file system keeps no modes, so that others could read it; choose another folder"
                )
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        is_moved = move(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise PrivateFileError(f"{path}: cannot be written: {error_text(error)}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return is_moved


def _sync_folder(folder: Path) -> None:
    """Have the name outlast a power failure, where the file system can say so."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move_over(temporary: Path, path: Path) -> bool:
    temporary.replace(path)
    return True


def _move_new(temporary: Path, path: Path) -> bool:
    """Unlike a rename, neither way takes another's place: a link does not, nor does a file that must be new."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:  # a file system without links, such as FAT
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        try:
            temporary.replace(path)  # the place is ours, and empty until now
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return True


def error_text(error: OSError) -> str:
    """What the system says is wrong, without a path."""
    return (error.strerror or "input or output failed").lower()
