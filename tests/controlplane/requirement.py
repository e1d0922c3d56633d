"""What a test needs of the machine: told where it is missing, and never missed where tests must run."""

from __future__ import annotations

import os

import pytest


def require(reason: str | None) -> None:
    """Pass when there is no `reason` against the test; in continuous integration (`CI=true`) one is a failure."""
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run here, and must in continuous integration: {reason}", pytrace=False)
    pytest.skip(reason)
