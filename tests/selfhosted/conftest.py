"""What every test here runs is built before the first of them begins."""

from __future__ import annotations

import pytest

from tests.controlplane import binaries
from tests.selfhosted import dependencies


@pytest.fixture(scope="session", autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    """Build daprd and what the examples need, where a test of this folder needs a cluster's programs at all."""
    if any(item.get_closest_marker("cluster") for item in request.session.items):
        report = request.getfixturevalue("report")
        binaries.resolve(binaries.DAPRD, report)
        binaries.resolve(binaries.GRPCURL, report)
        dependencies.fetch(report)
