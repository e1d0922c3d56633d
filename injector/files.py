"""Files: written in one step, and the text of an error about one."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# As `open` has it: the umask takes away what a user does not want to give.
_DEFAULT_MODE: Final = 0o666


@contextmanager
def replacement(
    path: Path, *, mode: int = _DEFAULT_MODE, put: Callable[[Path, Path], object] = Path.replace
) -> Iterator[IO[bytes]]:
    """Yield a new file next to `path`, which takes its place when the block ends.

    A block that fails leaves everything as it was. When it has ended, content and name are on the disk, where the file
    system can report that.

    Args:
        path: The file; it need not exist. A link is replaced, and not followed.
        mode: Permissions of the new file, less the umask.
        put: Gives the new file, its first argument, the name that is the second.

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
    """Make a name outlast a power failure, where the file system can do so."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def error_text(error: OSError) -> str:
    """Return what the system reports, in lower case and without a path."""
    return (error.strerror or "input or output failed").lower()
