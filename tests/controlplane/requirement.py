"""What a test needs of the machine: told where it is missing, and never missed where tests must run."""

from __future__ import annotations

import os

import pytest


def require(reason: str | None) -> None:
    """Pass when there is no `reason` against the test; for root and in continuous integration one is a failure.

    Root can install what is missing, and `make test` does (`requirements/packages.sh`).
    """
    if reason is None:
        return
    if os.environ.get("CI") == "true" or os.geteuid() == 0:
        pytest.fail(f"cannot run here, and must as root and in continuous integration: {reason}", pytrace=False)
    pytest.skip(reason)
