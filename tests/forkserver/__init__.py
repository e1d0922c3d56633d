"""The command as a real process, without the half second in which each start imports the project.

A server, one for each process of the tests, has imported it and forks. `command()` stands for `python -m injector`: a
client that hands on arguments, folder, environment, streams and signals, and ends as the fork ends. What only a start
from nothing shows is in docs/decisions/0032-fork-server.md.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.forkserver import client

ROOT: Final = Path(__file__).parents[2]
_OPEN: Final = contextlib.ExitStack()  # the server, while there is one


def command(module: str = "injector") -> tuple[str, ...]:
    """The words that stand for `python -m MODULE`; what comes after them are its arguments."""
    return sys.executable, "-I", "-S", client.__file__, _address(), module


def close() -> None:
    """End the server, and with it what still runs."""
    _OPEN.close()
    _address.cache_clear()


@functools.cache
def _address() -> str:
    """Start the server of this process; return the path of its socket."""
    folder = tempfile.mkdtemp(dir="/tmp", prefix="forkserver-")  # the path of a socket must be short
    path = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen(64)
        descriptor = listening.fileno()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver.server", str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[descriptor],
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the tests, which then end it
        )
    _OPEN.enter_context(server)  # closes its standard input, which ends it, and waits
    return path
