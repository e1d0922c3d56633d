"""Runs a command and kills its process right after its n-th write to the API server, like kill -9.

`python -m tests.cluster.crash_after_write LOG N ARGUMENTS...`: each write is recorded in LOG, a line each, before the
process dies; N of 0 kills before the first write, and an N above their number kills nothing. Dry runs write nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from injector.cli.main import main
from injector.kube import client

if TYPE_CHECKING:
    from injector.kube.resources import Object
    from injector.kube.transport import Request, Transport

KILLED = 137
_READS = frozenset({"GET"})


_SEND: Final = client.Api.send


class Crash:
    """Ends its process after a number of writes of the real client."""

    def __init__(self, log: Path, limit: int) -> None:
        self._log, self._left = log, limit

    async def send(self, api: Transport, request: Request) -> Object:
        """Send a request, and end the process if it was the last one."""
        if request.method in _READS or ("dryRun", "All") in request.query:
            return await _SEND(api, request)
        self._end()
        answer = await _SEND(api, request)
        self._left -= 1
        with self._log.open("a") as log:
            log.write(f"{request.method} {request.path}\n")
        self._end()
        return answer

    def _end(self) -> None:
        if self._left <= 0:
            os._exit(KILLED)


if __name__ == "__main__":
    crash = Crash(Path(sys.argv[1]), int(sys.argv[2]))
    # The method and not the class: others have imported the class.
    client.Api.send = lambda api, request: crash.send(api, request)  # type: ignore[assignment,method-assign] # noqa: PLW0108 - a bound method would not get the client
    sys.exit(main(sys.argv[3:]))
