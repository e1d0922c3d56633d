"""Reads and writes files that hold secrets: atomically, with mode 0600."""

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
    """A file cannot be read or written; the message names it and the reason."""

    reason = "private-file"


def read(path: Path, *, max_bytes: int) -> bytes:
    """Return at most `max_bytes` of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file.read(max_bytes)


def is_readable_by_others(path: Path) -> bool:
    """Return whether users other than the owner may read a regular file; False if it cannot be inspected."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & _OTHERS)


def create(path: Path, content: bytes) -> bool:
    """Write a new file with mode 0600 atomically; return False if it exists, which does not modify it.

    Raises:
        PrivateFileError: It cannot be written.
    """
    try:
        _write(path, content, _move_new)
    except _ExistsError:
        return False
    return True


def replace(path: Path, content: bytes) -> None:
    """Write or replace a file with mode 0600 atomically.

    Raises:
        PrivateFileError: It cannot be written; it is unchanged.
    """
    _write(path, content, os.replace)


def exists(path: Path) -> bool:
    """Return whether the path exists; False if that cannot be determined."""
    try:
        return path.exists()
    except OSError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock against other writers. Readers are not blocked.

    The lock is on the folder, because the file itself is replaced and a lock file would have to be removed. It ends
    with the process. On file systems without locks, such as some network file systems, nothing is locked.

    Raises:
        PrivateFileError: The folder cannot be opened.
    """
    try:
        descriptor = os.open(resolve_link(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise PrivateFileError(f"{path}: {files.error_text(error)}") from None
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def resolve_link(path: Path) -> Path:
    """Return the file that a path refers to, so that replacing it keeps symbolic links.

    In a world-writable sticky folder such as /tmp, only a link of the same user or of the folder's owner is followed.
    Linux enforces the same with `fs.protected_symlinks`, but only for open(2), not for rename(2).

    Raises:
        PrivateFileError: Another user owns a link in such a folder, or there are too many links.
    """
    for _ in range(_MOST_LINKS):
        try:
            found = path.lstat()
        except OSError:
            return path  # it does not exist, or the write will report the error
        if not stat.S_ISLNK(found.st_mode):
            return Path(os.path.realpath(path.parent)) / path.name if path.name else path
        folder = path.parent.stat()
        is_for_all = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if is_for_all and found.st_uid not in {os.geteuid(), folder.st_uid}:
            raise PrivateFileError(
                f"{path}: a link of another user in a world-writable folder, which is not followed; use another path"
            )
        # No race: in such a folder only the owner can replace the link.
        path = path.parent / path.readlink()
    raise PrivateFileError(f"{path}: too many levels of symbolic links")


_MOST_LINKS: Final = 40  # as in Linux


def _write(path: Path, content: bytes, move: Callable[[Path, Path], None]) -> None:
    try:
        path = resolve_link(path)
        if path.exists() and not path.is_file():
            raise PrivateFileError(f"{path}: not a regular file, so it is not overwritten; use another path")
        with files.replacement(path, mode=_OWNER, put=move) as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise PrivateFileError(
                    f"{path}: the file system has no file modes, so other users could read it; use another folder"
                )
            file.write(content)
    except OSError as error:
        raise PrivateFileError(f"{path}: cannot be written: {files.error_text(error)}") from None


class _ExistsError(Exception):
    """The path exists, so nothing was moved to it."""


def _move_new(temporary: Path, path: Path) -> None:
    """Move without overwriting: a hard link and O_EXCL both fail if the path exists."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise _ExistsError from None
    except OSError:  # a file system without links, such as FAT
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER))
        except FileExistsError:
            raise _ExistsError from None
        try:
            temporary.replace(path)  # replaces the empty file that this process created
        except OSError:
            path.unlink(missing_ok=True)
            raise
