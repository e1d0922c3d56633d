"""One run: a mix, its faults in turn, and the rows."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.availability import report
from tests.availability.creates import Window
from tests.availability.faults import later_webhook
from tests.availability.mixes import calm_of
from tests.availability.scenario import ASKING_SET, OTHER_SET, scenario
from tests.controlplane.polling import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.availability.faults import Fault
    from tests.availability.report import Row
    from tests.availability.scenario import Mix, Scenario, Size
    from tests.controlplane.cluster import ControlPlane

# A controller retries with growing delays; after the last fault its Pods can take this long.
CONTROLLERS_PATIENCE: Final = 180.0


def run(
    plane: ControlPlane,
    mix: Mix,
    faults: Sequence[Fault],
    size: Size,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Inflict the faults in turn while at least so many Pods are created; one row each, and one for the calm before.

    Needs a network namespace of its own around it and the control plane, with `ADDRESSES`.
    """
    with scenario(plane, mix, size) as stage:
        progress(
            f"{mix.name}: {stage.rates.asking:g} Pods with a request and {stage.rates.others:g} others each second"
        )
        segments = [_run_fault(stage, calm_of(mix))]
        for fault in faults:
            progress(f"{mix.name}: {fault.name} ...")
            segments.append(_run_fault(stage, fault))
        stage.stream.wait_for(size.creates)
        progress(f"{mix.name}: waiting for the controllers' Pods ...")
        stage.stream.process.stop(timeout_seconds=90)
        for name in (ASKING_SET, OTHER_SET):
            wait_for(f"all Pods of {name}", partial(_is_whole, stage, name), timeout_seconds=CONTROLLERS_PATIENCE)
        stage.fleet.check()
        return report.rows(segments, stage)


def _run_fault(stage: Scenario, fault: Fault) -> report.Segment:
    """The fault and the calm after it, in which its consequences show."""
    stage.fleet.check()
    with later_webhook(stage) if fault.later_webhook else contextlib.nullcontext():
        began, retried = time.monotonic(), report.retries(stage)
        seen = fault.inflict(stage)
        ended = time.monotonic()
        stage.stream.wait_for_more(stage.size.lead)
    retried = report.retries(stage) - retried
    return report.Segment(fault.name, Window(began, ended), time.monotonic(), retried, seen)


def _is_whole(stage: Scenario, name: str) -> bool:
    """Whether a Deployment has the number of Pods in its spec."""
    deployment = stage.api.get(f"/apis/apps/v1/namespaces/{stage.kubectl.namespace}/deployments/{name}")
    return bool(deployment["status"].get("replicas", 0) == deployment["spec"]["replicas"])
