"""`python -m injector`, and the program `dapr-token-injector`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line. While modules are imported, and at exit, Ctrl-C ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from injector import seal  # noqa: PLC0415 - after the lines above

    plain = seal.plain_call(sys.argv[1:])
    if plain is not None:
        variables, is_check = plain
        return seal.run(variables, is_check=is_check)
    from injector.cli.main import main as run  # noqa: PLC0415 - a sealed Pod pays for none of it

    return run()


if __name__ == "__main__":
    sys.exit(main())
