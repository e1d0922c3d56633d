"""Runs a command and kills its process right after its n-th write to the API server, like kill -9.

`python -m tests.cluster.crash_after_write LOG N ARGUMENTS...`: each write is recorded in LOG, a line each, before the
process dies; N of 0 kills before the first write, and an N above their number kills nothing. Dry runs write nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from injector.cli.main import main
from injector.kube import client

if TYPE_CHECKING:
    from injector.kube.resources import Object
    from injector.kube.transport import Request

KILLED = 137
_READS = frozenset({"GET"})


class CrashingApi(client.Api):
    """The real client; ends its process after a number of writes."""

    log = Path()
    limit = 0
    written = 0

    async def send(self, request: Request) -> Object:
        if request.method in _READS or ("dryRun", "All") in request.query:
            return await super().send(request)
        if CrashingApi.written >= CrashingApi.limit:
            os._exit(KILLED)
        answer = await super().send(request)
        CrashingApi.written += 1
        with CrashingApi.log.open("a") as log:
            log.write(f"{request.method} {request.path}\n")
        if CrashingApi.written >= CrashingApi.limit:
            os._exit(KILLED)
        return answer


if __name__ == "__main__":
    CrashingApi.log, CrashingApi.limit = Path(sys.argv[1]), int(sys.argv[2])
    client.Api = CrashingApi  # type: ignore[misc] # the real one, which crashes
    sys.exit(main(sys.argv[3:]))
