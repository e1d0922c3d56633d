"""Writes files in one step, and describes file errors."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def replacement(
    path: Path, *, mode: int = 0o666, put: Callable[[Path, Path], object] = os.replace
) -> Iterator[IO[bytes]]:
    """Yield a new file next to `path`, which replaces it when the block ends.

    If the block fails, nothing changes. After the block, content and name are on disk, if the file system supports
    fsync.

    Args:
        path: The file; it need not exist. A link is replaced, not followed.
        mode: Permissions of the new file, less the umask.
        put: Renames the new file, its first argument, to its second argument.

    Raises:
        OSError: The file cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        put(new, path)
        _sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Write a folder's names to disk, if the file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def error_text(error: OSError) -> str:
    """Return the system's error message in lower case, without a path."""
    return (error.strerror or "input or output failed").lower()
