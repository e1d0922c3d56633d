"""`python -m tests.controlplane build [PROGRAM ...]` and `... run`: the control plane without the tests."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.controlplane import binaries
from tests.controlplane.cluster import Programs, control_plane
from tests.controlplane.errors import HarnessError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 3 when it could not be done."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end in order, as after Ctrl-C
    try:
        if options.command == "build":
            _build(options.programs or [program.name for program in binaries.ALL])
        else:
            _run()
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the programs that are missing and print their paths")
    build.add_argument("programs", nargs="*", metavar="PROGRAM", help="default: all of them")
    commands.add_parser("run", help="run a control plane until Ctrl-C and print its KUBECONFIG")
    return parser


def _build(names: list[str]) -> None:
    known = {program.name: program for program in binaries.ALL}
    for name in names:
        if name not in known:
            raise HarnessError(f"unknown program {name!r}, known: {', '.join(known)}")
        print(binaries.resolve(known[name]))


def _run() -> None:
    with control_plane(Programs.resolve()) as running:
        print(f"export KUBECONFIG={running.kubeconfig}", flush=True)
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
