"""R4, R5, R6: lost creates during faults of the webhook; the short form of `make soak`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.availability import faults
from tests.availability.replicas import ADDRESSES
from tests.availability.report import problems
from tests.availability.run import SHORT_LEAD, run
from tests.availability.scenario import MIXES
from tests.controlplane.cluster import Programs
from tests.controlplane.netns import network_namespace, reason_unavailable
from tests.controlplane.requirement import require

if TYPE_CHECKING:
    from tests.availability.report import Row
    from tests.availability.scenario import Mix
    from tests.controlplane.binaries import Report

CREATES = 500
# In an overload, a machine that is busy with other work answers after the timeout. `make soak` counts these, too.
SLOW_MACHINE = "context deadline exceeded"


@pytest.fixture(scope="module")
def rows(report: Report) -> list[Row]:
    """One row per fault, all of one run: they share a control plane and a stream of creates."""
    return _rows(MIXES["endpoint per call"], report)


def _rows(mix: Mix, report: Report) -> list[Row]:
    require(reason_unavailable())
    with network_namespace(ADDRESSES) as network, network.entered():
        return run(Programs.resolve(report), mix, faults.of(mix), creates=CREATES, lead=SHORT_LEAD, progress=report)


@pytest.mark.cluster
@pytest.mark.timeout(900, func_only=True)
def test_create_that_the_api_server_can_retry_is_never_lost(rows: list[Row]) -> None:
    excused = [
        dataclasses.replace(fault, loses=(*fault.loses, SLOW_MACHINE)) if fault.name == "overload" else fault
        for fault in faults.ALL
    ]
    found = problems(rows, excused)
    assert not found, "\n".join([*found, *map(str, rows)])


@pytest.mark.cluster
def test_every_fault_overlaps_with_creates(rows: list[Row]) -> None:
    assert [row.fault for row in rows[1:]] == [fault.name for fault in faults.ALL]
    assert all(row.met >= fault.meets_at_least for row, fault in zip(rows[1:], faults.ALL, strict=True))


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_policy_requested_leaves_no_pod_without_its_token(report: Report) -> None:
    rows = _rows(MIXES["requested"], report)

    found = problems(rows, faults.REQUESTED)
    assert not found, "\n".join([*found, *map(str, rows)])
    assert [row.fault for row in rows[1:]] == [fault.name for fault in faults.REQUESTED]
    assert rows[-1].failed > 0  # denied by the policy, and by nothing else
