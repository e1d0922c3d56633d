"""Build the programs of the tests before they start: `python -m tests.prepare [cluster|node|test]`.

Everything is kept under `~/.cache/dapr-token-injector`, so only the first run takes time. Without root there is no
node: its programs are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries, crds, images, netns
from tests.controlplane.errors import HarnessError
from tests.controlplane.target import CLUSTER_VARIABLE
from tests.selfhosted import dependencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# By target of the Makefile.
PROGRAMS: Final[Mapping[str, Sequence[binaries.Program]]] = {
    "cluster": binaries.WITHOUT_NODE,
    "node": (*binaries.CONTROL_PLANE, binaries.DAPR_INJECTOR, binaries.HELM, binaries.DAPRD, *binaries.NODE),
    "test": binaries.ALL,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build it; return 0, or 3 when something could not be built."""
    parser = argparse.ArgumentParser(prog="python -m tests.prepare", description=__doc__)
    parser.add_argument("target", nargs="?", choices=PROGRAMS, default="test", help="target of the Makefile")
    target = parser.parse_args(arguments).target
    if os.environ.get(CLUSTER_VARIABLE, "own") != "own":
        return 0  # the tests run on the user's cluster
    started = time.monotonic()
    try:
        _prepare(target)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    report(f"everything that the tests run is built ({time.monotonic() - started:.0f} s)")
    return 0


def _prepare(target: str) -> None:
    has_node = netns.reason_unavailable() is None
    wanted = [program for program in PROGRAMS[target] if has_node or program not in binaries.NODE]
    for number, program in enumerate(wanted, 1):
        binaries.resolve(program, lambda line, number=number: report(f"[{number}/{len(wanted)}] {line}"))  # type: ignore[misc]
    if target != "node":
        crds.resolve()
        dependencies.fetch(report)
    if target != "cluster" and has_node:
        with tempfile.TemporaryDirectory() as folder:
            images.build_images(binaries.resolve(binaries.DAPRD), Path(folder), report)


report = binaries.report_to_stderr


if __name__ == "__main__":
    sys.exit(main())
