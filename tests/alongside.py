"""`python -m tests.alongside 'COMMAND' -- OTHER COMMAND`: run two commands at the same time, and fail if one fails.

Tests with a cluster wait more than they work, so what only works can run alongside. The second command writes to the
terminal as if it ran alone. The output of the first one appears in one piece when it ends; if it failed, its last lines
appear once more at the end, where they are looked for.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading

_FEWEST = 4  # words
_LAST_LINES = 40


def main() -> int:
    """Exit code of the second command; that of the first one if only that failed."""
    if len(sys.argv) < _FEWEST or sys.argv[2] != "--":
        print("usage: python -m tests.alongside 'COMMAND' -- OTHER COMMAND", file=sys.stderr)
        return 2
    first, second = sys.argv[1], sys.argv[3:]
    with tempfile.TemporaryFile() as output:
        # A group of its own, so that an interrupt ends what it has started.
        shorter = subprocess.Popen(shlex.split(first), stdout=output, stderr=output, start_new_session=True)
        interrupts: list[int] = []

        def interrupt(number: int, _: object) -> None:
            """Pass it on; the terminal interrupts the second command as well, which ends in order."""
            interrupts.append(number)
            if shorter.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # the other thread is seeing its end
                    os.killpg(shorter.pid, signal.SIGINT)

        signal.signal(signal.SIGINT, interrupt)

        def report() -> None:
            shorter.wait()
            output.seek(0)
            sys.stdout.write(f"\n$ {first}\n{output.read().decode(errors='replace')}")
            sys.stdout.flush()

        reporter = threading.Thread(target=report)
        reporter.start()
        other = subprocess.Popen(second)
        if interrupts:  # before the second one ran, so the terminal could not
            other.send_signal(signal.SIGINT)
        code = other.wait()
        reporter.join()
        if shorter.returncode:
            output.seek(0)
            ending = output.read().decode(errors="replace").splitlines(keepends=True)[-_LAST_LINES:]
            print(f"\n$ {first}\nfailed:\n{''.join(ending)}", end="", flush=True)
    failed = code or shorter.returncode
    return 128 - failed if failed < 0 else failed  # as a shell reports a signal


if __name__ == "__main__":
    sys.exit(main())
