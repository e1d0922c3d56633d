"""Reads regular files without blocking, up to a limit.

Opening a FIFO waits for a writer, and reading a terminal or a device waits or never ends. A process that serves
requests in one thread must not wait.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """Return at most `limit` bytes of a regular file; links are followed.

    Raises:
        OSError: The file cannot be read, or is not a regular file (a FIFO, a directory, a device, a socket).
    """
    # Checked before it is opened, because opening some devices has effects; and after, because it may have changed.
    # With O_NONBLOCK, opening a FIFO that took the file's place in between does not wait for a writer.
    _refuse_special(path, os.stat(path).st_mode)  # noqa: PTH116 - the same call as below
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        _refuse_special(path, os.fstat(descriptor).st_mode)
        return file.read(limit)


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
