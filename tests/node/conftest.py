"""One cluster with a node for the folder, one namespace per test, the chart installed where a test needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.controlplane.cluster import own_namespace
from tests.node.release import WAIT, Release
from tests.node.target import Target, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane import binaries
    from tests.controlplane.kubectl import Kubectl

HERE = "tests/node/"
TEST_TIMEOUT_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the time limit excludes fixtures, which may build everything first."""
    for item in items:
        if item.nodeid.startswith(HERE):
            item.add_marker(pytest.mark.node)
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SECONDS, func_only=True))


@pytest.fixture(scope="package")
def target(report: binaries.Report) -> Iterator[Target]:
    """The cluster that the environment selects; by default a separate node."""
    with open_target(report) as opened:
        yield opened


@pytest.fixture
def inside(target: Target) -> Iterator[None]:
    """Keep the test where the cluster is reached from."""
    with target.entered():
        yield


@pytest.fixture
def kubectl(target: Target, inside: None) -> Iterator[Kubectl]:  # noqa: ARG001 - entered first, left last
    """Kubectl in a namespace of the test's own."""
    with own_namespace(target.kubectl) as within:
        yield within


class Installation:
    """The state of the chart in the cluster, shared by tests: an installation takes half a minute."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._release: Release | None = None
        self._has_other_values = False

    def ensure(self) -> Release:
        """Return the release, with the values that it has by default."""
        if self._release is None:
            self._release = Release.install(self._target)
        elif self._has_other_values:
            self._release = Release.of(self._target)
            self._release.call("upgrade", *WAIT)
        self._has_other_values = False
        return self._release

    def install(self, *values: str) -> Release:
        """Install the chart with other values; the next test with defaults upgrades it."""
        self._release = Release.install(self._target, *values)
        self._has_other_values = True
        return self._release

    def remove(self) -> None:
        """Leave the cluster without one."""
        if self._release is not None:
            self._release.uninstall()
            self._release = None


@pytest.fixture(scope="package")
def installation(target: Target) -> Iterator[Installation]:
    """The current installation; it is removed from an existing cluster at the end."""
    made = Installation(target)
    yield made
    if target.own is None:
        made.remove()


@pytest.fixture
def release(installation: Installation, inside: None) -> Release:  # noqa: ARG001 - entered first
    """The chart, installed with the values it has by default; for tests that leave it as it is."""
    return installation.ensure()


@pytest.fixture
def not_installed(installation: Installation, inside: None) -> None:  # noqa: ARG001 - entered first
    """The cluster without the chart."""
    installation.remove()
