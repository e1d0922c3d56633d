"""`python -m tests.node [COMMAND ...]`: the node without the tests, for experiments by hand or by a command.

COMMAND runs in the network of the cluster, with `kubectl` and `helm` on its PATH, `KUBECONFIG`, and the variables
by which the tests find an existing cluster; its exit code is returned. Without a command the node runs until Ctrl-C,
and a line on stdout shows how to use it from another terminal. Then everything is removed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.controlplane import binaries
from tests.controlplane.errors import HarnessError
from tests.controlplane.netns import NODE_ADDRESS
from tests.controlplane.target import CLUSTER_VARIABLE, HOST_VARIABLE
from tests.node.target import DAPRD_IMAGE_VARIABLE, IMAGE_VARIABLE, own_node, reason_unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from tests.node.target import Target


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring the node up and run the command; return its exit code, 130 after Ctrl-C, 3 when there can be no node."""
    command = _parser().parse_args(arguments).command
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end in order, as after Ctrl-C
    if reason := reason_unavailable():
        print(reason, file=sys.stderr)
        return 3
    try:
        with own_node(binaries.report_to_stderr) as target, target.entered():
            return _run(command, _variables(target)) if command else _stay(target)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.node",
        description="One node: run COMMAND next to it, or keep it until Ctrl-C; then remove all of it.",
        epilog="example: python -m tests.node pytest tests/node",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run, with its arguments")
    return parser


def _variables(target: Target) -> dict[str, str]:
    """Return the environment variables for clients of the cluster."""
    programs = target.folder / "bin"
    programs.mkdir()
    for name, binary in (("kubectl", target.kubectl.binary), ("helm", target.helm.binary)):
        (programs / name).symlink_to(binary)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "KUBECONFIG": str(target.kubectl.kubeconfig),
        CLUSTER_VARIABLE: "kubeconfig",
        HOST_VARIABLE: NODE_ADDRESS,
        IMAGE_VARIABLE: target.image,
        DAPRD_IMAGE_VARIABLE: target.daprd_image,
    }


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env={**os.environ, **variables})
    except OSError as error:
        raise HarnessError(f"cannot run {command[0]!r}: {error.strerror}") from None

    def end(number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:  # Ctrl-C reaches it from the terminal
            child.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _stay(target: Target) -> int:
    assert target.own is not None
    assigned = shlex.join(f"{name}={value}" for name, value in _variables(target).items())
    print("The node is ready, until Ctrl-C. A shell with kubectl and helm next to it:", file=sys.stderr)
    print(f"nsenter --net=/proc/{target.own.control_plane.apiserver.pid}/ns/net env {assigned} bash", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
