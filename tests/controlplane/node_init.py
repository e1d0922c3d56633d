"""Process 1 of the test's node: sets up the mounts, starts what a node runs, and ends when one of them does.

Called as `python node_init.py SPEC`, in namespaces of its own (`isolation.isolated`); needs the standard library
alone. When it ends, the kernel ends containers, shims and mounts with it. SPEC is the path of a JSON file:
`overlays`, folders that shall look as they are and take no change; `programs`, in order, each with `name`, `log`,
`command`, where the next ones must wait for it `socket`, and `restarts` for one that is started again after a signal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SOCKET_TIMEOUT_SECONDS = 60.0


def main() -> None:
    """Start everything, then reap until one of the programs ends."""
    spec = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for arguments in _mounts(spec):
        subprocess.run(["mount", *arguments], check=True)
    programs: dict[int, dict[str, Any]] = {}
    for program in spec["programs"]:
        programs[_start(program)] = program
        _wait_for_socket(program)
    while True:
        pid, status = os.wait()  # orphans of the node's programs end here, too
        program = programs.pop(pid, None)
        if program is not None and program.get("restarts") and os.WIFSIGNALED(status):
            programs[_start(program)] = program
        elif program is not None:
            sys.exit(f"{program['name']} ended with status {os.waitstatus_to_exitcode(status)}")


def _mounts(spec: dict[str, Any]) -> list[list[str]]:
    """Return the arguments of mount: what the kubelet shares with Pods, and scratch space over the host's folders."""
    scratch = Path(spec["scratch"])
    mounts = [["--make-rshared", "/"], ["-t", "tmpfs", "tmpfs", "/run"]]
    for folder in spec["overlays"]:
        upper, work = scratch / folder.strip("/") / "upper", scratch / folder.strip("/") / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        mounts.append(["-t", "overlay", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder])
    return mounts


def _start(program: dict[str, Any]) -> int:
    with Path(program["log"]).open("ab") as log:
        return subprocess.Popen(program["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid


def _wait_for_socket(program: dict[str, Any]) -> None:
    deadline = time.monotonic() + SOCKET_TIMEOUT_SECONDS
    while "socket" in program and not Path(program["socket"]).exists():
        if time.monotonic() > deadline:
            sys.exit(f"{program['name']} did not open {program['socket']} in {SOCKET_TIMEOUT_SECONDS:g} s")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
