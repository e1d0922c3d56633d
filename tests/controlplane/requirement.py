"""Requirements of tests on the machine: missing ones are reported, and are errors where tests must run."""

from __future__ import annotations

import os

import pytest


def require(reason: str | None) -> None:
    """Pass without a `reason` to skip the test; as root and in continuous integration a reason is a failure.

    Root can install missing programs, and `make test` does (`requirements/packages.sh`).
    """
    if reason is None:
        return
    if os.environ.get("CI") == "true" or os.geteuid() == 0:
        pytest.fail(f"cannot run here, and must as root and in continuous integration: {reason}", pytrace=False)
    pytest.skip(reason)
