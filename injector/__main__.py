"""`python -m injector`."""

from __future__ import annotations

import sys

from injector.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
