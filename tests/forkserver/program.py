"""A program for the tests of the fork server: it does what its first argument says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

CODE: Final = 7


def _on_signal(number: int, _: object) -> NoReturn:
    print(signal.Signals(number).name)
    sys.exit(3)


def main(word: str) -> None:
    """Do it."""
    match word:
        case "show":
            print(sys.argv[1:], Path.cwd(), os.environ["WORD"], sys.stdin.read(), sys.stdin.isatty())
            print("to stderr", file=sys.stderr)
        case "network":
            print(Path("/proc/self/ns/net").readlink())
        case "exit" | "text":
            sys.exit(CODE if word == "exit" else "a message")
        case "raise":
            raise ValueError("unexpected")
        case "hard":
            os._exit(9)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait" | "pause":
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, _on_signal if word == "wait" else signal.SIG_DFL)
            print("waiting", flush=True)
            while True:
                time.sleep(1)  # a signal just before it is handled after it
        case _:
            with subprocess.Popen(["sleep", "600"]) as child:
                print(os.getpid(), child.pid, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
