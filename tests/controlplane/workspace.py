"""A temporary folder that is removed when its process ends, in any way.

A small helper process has the reading end of a pipe whose only writer is this process. When the pipe
closes, also because this process was killed, the helper removes the folder and ends. The next run removes
folders that remain after a power cut: a folder's name has the process id of its owner.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "dapr-token-injector-"

# The programs of a killed run may still write while they end, hence more than one round.
_REMOVE_FOLDER = """
import os, shutil, sys, time
while os.read(0, 1):
    pass
deadline = time.monotonic() + 80
while time.monotonic() < deadline:
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.lexists(sys.argv[1]):
        break
    time.sleep(0.05)
"""


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, readable by this user only; it is removed when the block or this process ends."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        with janitor(_REMOVE_FOLDER, str(folder)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def janitor(script: str, *arguments: str) -> Iterator[None]:
    """Run a script that outlives us: it waits for the end of its stdin, which is the block's or ours, and cleans up."""
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, *arguments],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must not reach it
    )
    try:
        yield
    finally:
        helper.communicate()


def sweep() -> None:
    """Remove the folders of ended runs."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        if has_ended(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def has_ended(name: str) -> bool:
    """Whether the run that gave something this name has ended."""
    owner = name.removeprefix(PREFIX).split("-")[0]
    return owner.isdecimal() and not _is_running(int(owner))


def write_private(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, from its first byte on; return its path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
