"""R4, R5, R6: lost creates during faults of the webhook; the short form of `make soak`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.availability import redundancy
from tests.availability.mixes import MIXES, calm_of, faults_of
from tests.availability.replicas import ADDRESSES
from tests.availability.report import problems
from tests.availability.run import run
from tests.availability.scenario import SHORT, plane_for
from tests.controlplane.cluster import Programs
from tests.controlplane.netns import network_namespace, reason_unavailable
from tests.controlplane.requirement import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.availability.report import Row
    from tests.controlplane.binaries import Report
    from tests.controlplane.cluster import ControlPlane

PER_CALL, REQUESTED = MIXES["endpoint per call"], MIXES["requested"]
SHADOW, REDUNDANT = MIXES["end of shadow mode"], MIXES["redundant"]
# The kinds of faults that mixes with one group do not have; `make soak` has all rows, for each group.
SHORT_OF_REDUNDANT = (
    "SIGKILL of the first",
    "both silent",
    "first silent, later webhook",
    "packets to the first lost",
    "overload of the first",
    "both deleted",
)
SECONDS_OF_BOTH = 6.0  # the timeouts of both entries
# In an overload, a machine that is busy with other work answers after the timeout. `make soak` counts these, too.
SLOW_MACHINE = "context deadline exceeded"


@pytest.fixture(scope="module")
def plane(report: Report) -> Iterator[ControlPlane]:
    """A control plane in a network of its own, for one mix after another."""
    require(reason_unavailable())
    programs = Programs.resolve(report)
    redundancy.rendered()  # Helm cannot be built inside the network namespace
    with network_namespace(ADDRESSES) as network, network.entered(), plane_for(programs, PER_CALL) as started:
        yield started


@pytest.fixture(scope="module")
def rows(plane: ControlPlane, report: Report) -> list[Row]:
    """One row per fault, all of one run: they share a stream of creates."""
    return run(plane, PER_CALL, faults_of(PER_CALL), SHORT, report)


@pytest.mark.cluster
@pytest.mark.timeout(900, func_only=True)
def test_create_that_the_api_server_can_retry_is_never_lost(rows: list[Row]) -> None:
    excused = [
        dataclasses.replace(fault, loses=(*fault.loses, SLOW_MACHINE)) if fault.name == "overload" else fault
        for fault in faults_of(PER_CALL)
    ]
    found = problems(rows, excused)
    assert not found, "\n".join([*found, *map(str, rows)])


@pytest.mark.cluster
def test_every_fault_overlaps_with_creates(rows: list[Row]) -> None:
    expected = faults_of(PER_CALL)
    assert [row.fault for row in rows[1:]] == [fault.name for fault in expected]
    assert all(row.met >= fault.meets_at_least for row, fault in zip(rows[1:], expected, strict=True))


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_policy_requested_leaves_no_pod_without_its_token(plane: ControlPlane, report: Report) -> None:
    rows = run(plane, REQUESTED, faults_of(REQUESTED), SHORT, report)

    found = problems(rows, faults_of(REQUESTED))
    assert not found, "\n".join([*found, *map(str, rows)])
    assert [row.fault for row in rows[1:]] == [fault.name for fault in faults_of(REQUESTED)]
    assert rows[-1].failed > 0  # denied by the policy, and by nothing else


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_end_of_shadow_mode_under_load_loses_no_pod(plane: ControlPlane, report: Report) -> None:
    rows = run(plane, SHADOW, faults_of(SHADOW), SHORT, report)

    found = problems(rows, (calm_of(SHADOW), *faults_of(SHADOW)))
    assert not found, "\n".join([*found, *map(str, rows)])
    assert rows[0].without_variable > 0  # the replicas of shadow mode were called
    assert rows[-1].met > rows[-1].without_variable == 0


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_two_groups_lose_no_pod_while_one_answers(plane: ControlPlane, report: Report) -> None:
    faults = [fault for fault in faults_of(REDUNDANT) if fault.name in SHORT_OF_REDUNDANT]
    rows = run(plane, REDUNDANT, faults, SHORT, report)

    found = problems(rows, faults)
    assert not found, "\n".join([*found, *map(str, rows)])
    assert tuple(row.fault for row in rows[1:]) == SHORT_OF_REDUNDANT
    by_name = {row.fault: row for row in rows}
    assert by_name["both deleted"].failed > 0  # denied by the policy, and by nothing else
    assert by_name["both silent"].p99 >= SECONDS_OF_BOTH
    assert by_name["both silent"].others > 0
