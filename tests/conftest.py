"""Hypothesis profiles: `dev` for the inner loop, `ci` for a pull request, `long` for a night; by HYPOTHESIS_PROFILE.

And what every folder with a cluster in it needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # it has no types to offer

from tests import forkserver
from tests.controlplane.target import CLUSTER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xdist.remote import Producer  # type: ignore[import-untyped]

# The machine may be slow and busy: no deadlines, and slow examples are not an error.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=200, deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "ci", max_examples=2_000, deadline=None, derandomize=True, print_blob=True, suppress_health_check=_SLOW
)
settings.register_profile(
    "long", max_examples=100_000, deadline=None, suppress_health_check=[*_SLOW, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# API servers, kubectl and Helm are most of what the cluster tests cost, and Go's collector is a good part of that: it
# runs for those alone that live long, when they have this much. One that waits most of the time costs a third less if
# its scheduler has one processor to wake.
os.environ.setdefault("GOGC", "off")
os.environ.setdefault("GOMEMLIMIT", "1GiB")
os.environ.setdefault("GOMAXPROCS", "1")

# A shell starts its background jobs with SIGINT and SIGQUIT ignored, nohup with SIGHUP, and so would be every program
# that a test sends one. What has a handler is at its default in a program that is started.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, lambda *_: None)


# The longest folders run first, so that no process works alone at the end. Named folders run before others.
LONGEST_FIRST: Final = (
    "tests/node/",
    "tests/availability/",
    "tests/cluster/test_self_managed_certificates.py",
    "tests/property/test_cost_laws.py",
    "tests/property/test_rollout_laws.py",
    "tests/cluster/",
    "tests/selfhosted/",
    "tests/contract/test_image.py",
    "tests/http/",
    "tests/offline/",
)
PAGES_ON_A_NODE: Final = "tests/node/test_pages.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest tests first if several processes share the work."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    ranks = (rank for rank, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start))
    return next(ranks, len(LONGEST_FIRST))


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Runs tests that share fixtures in one process: those of a file, and those that share a node or cluster.

    Tests with a node would end last by far if all shared one: the pages have a second.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.split("/")[1]
        if folder in {"cluster", "node"} and os.environ.get(CLUSTER_VARIABLE, "own") != "own":
            return "the user's cluster"
        return folder if folder == "node" and path != PAGES_ON_A_NODE else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Return the scheduler of `pytest -n`: it keeps tests that share fixtures in one process."""
    config.option.loadscopereorder = False  # keep the order of collection
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print progress past pytest's capture: a build takes minutes."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def write_line(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            print(line, file=sys.stderr, flush=True)

    return write_line


@pytest.fixture(scope="session", autouse=True)
def _forkserver() -> Iterator[None]:
    """End the fork server before coverage combines what processes have recorded."""
    yield
    forkserver.close()


@pytest.fixture(autouse=True)
def _tracing_is_active() -> Iterator[None]:
    """Fail the test after which coverage records nothing more in this process, and not the total at the end."""
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before, "this test ended the tracing of coverage: restore what sys.gettrace() returned"
