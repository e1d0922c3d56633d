"""Programs that mount, fork and use control groups: the kernel removes what they leave behind.

`isolated` puts a command into namespaces of its own for mounts and processes. When its first process ends,
or we do, the kernel ends all others and no mount remains. Control groups have no such end, so `control_group`
names a folder for them that is removed like a temporary one. Both need root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane.errors import HarnessError
from tests.controlplane.workspace import PREFIX, has_ended, janitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CGROUPS: Final = Path("/sys/fs/cgroup")
_V2_CONTROLLERS: Final = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")

# A group can be removed when it is empty; the programs of a killed run need a moment to end.
_REMOVE_GROUPS = """
import os, sys, time
while os.read(0, 1):
    pass
deadline = time.monotonic() + 80
left = sys.argv[1:]
while left and time.monotonic() < deadline:
    for top in left:
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass
    left = [top for top in left if os.path.isdir(top)]
    time.sleep(0.05)
"""


def isolated(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` in separate process and mount namespaces.

    Raises:
        HarnessError: there is no `unshare`.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise HarnessError("no `unshare` on the PATH: install util-linux")
    return [unshare, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *command]


@contextlib.contextmanager
def control_group() -> Iterator[str]:
    """Yield the absolute name of a new control group, in every hierarchy; it is removed with the block or process.

    Raises:
        HarnessError: this user cannot create one.
    """
    hierarchies = _hierarchies()
    _sweep(hierarchies)
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    folders = [str(hierarchy / name) for hierarchy in hierarchies]
    with janitor(_REMOVE_GROUPS, *folders):
        try:
            for folder in folders:
                Path(folder).mkdir()
        except OSError as error:
            raise HarnessError(f"no control group ({error.strerror}: {error.filename}): run as root") from None
        yield f"/{name}"


def _hierarchies() -> tuple[Path, ...]:
    """Return where groups are made: one place for version 2, one for each controller for version 1, or all of these."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    for controller in _V2_CONTROLLERS:  # without these in the root's list the kubelet finds its group unfit
        with contextlib.suppress(OSError):
            (_CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
    return tuple(Path(mount[1]) for mount in mounts if mount[2] in {"cgroup", "cgroup2"})


def _sweep(hierarchies: Sequence[Path]) -> None:
    """Remove the groups of ended runs."""
    dead = [str(folder) for place in hierarchies for folder in place.glob(f"{PREFIX}*-*") if has_ended(folder.name)]
    if dead:
        command = [sys.executable, "-I", "-S", "-c", _REMOVE_GROUPS, *dead]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
