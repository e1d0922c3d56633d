"""`check --wait` on a manual clock: how often checks run, and what their rounds request."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from injector.check.catalogue import BY_WORD, CHECKS
from injector.check.model import Category, Check, Outcome, Result, failed, unknown
from injector.check.reader import ClusterReader
from injector.check.runner import CheckResult, run_until_sound
from tests.fake_cluster.store import Store
from tests.unit.check.checking import NOW
from tests.unit.check.installed import MUTATING, NAME, InstalledApi, installed
from tests.unit.kube.manual_clock import run_with_manual_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from injector.kube.resources import Object
    from injector.kube.transport import Request

REGISTRATION = f"/apis/admissionregistration.k8s.io/v1/{MUTATING}/{NAME}"
ALL_PODS = "/api/v1/pods"


class CountingApi(InstalledApi):
    """Counts the requests by path; the registration appears when it is read for the third time."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.counts: Counter[str] = Counter()
        self.late = store.objects.pop((MUTATING, "", NAME))

    async def send(self, request: Request) -> Object:
        self.counts[request.path] += 1
        if self.counts[REGISTRATION] == 3:
            self._store.put(MUTATING, self.late)
        return await super().send(request)


def wait(
    checks: Sequence[Check], api: InstalledApi, seconds: float = 600
) -> tuple[tuple[CheckResult, ...], list[Sequence[CheckResult]]]:
    """Return the findings of the end, and those after each round that was not the last one."""
    rounds: list[Sequence[CheckResult]] = []
    found = run_until_sound(
        checks,
        lambda: ClusterReader(api, None, NOW),
        wait_seconds=seconds,
        waiting=lambda found, _left: rounds.append(found),
    )
    return run_with_manual_clock(found), rounds


def test_rounds_request_what_failed_checks_need() -> None:
    api = CountingApi(installed())
    names = ("registered", "token-secret-exists", "reloader-sees-tokens", "dapr-shared-token")
    found, rounds = wait([one for one in CHECKS if one.name in names], api)

    assert [one.check.name for one in found] == [one.name for one in CHECKS if one.name in names]
    assert BY_WORD["registered"] in [one.check for one in rounds[0] if one.result is Result.FAILED]
    assert (len(rounds), api.counts[REGISTRATION]) == (2, 3)
    assert api.counts[ALL_PODS] == 2  # of the first round and of the last one


class Planned:
    """Checks that find the planned results, one after the other; the last one is found from then on."""

    def __init__(self, **plans: str) -> None:
        self.calls: list[str] = []
        self.readers: list[ClusterReader] = []
        self.checks = [self._check(name, list(plan)) for name, plan in plans.items()]

    def _check(self, name: str, plan: list[str]) -> Check:
        async def run(reader: ClusterReader) -> Outcome:
            self.calls.append(name)
            self.readers.append(reader)
            word = plan.pop(0) if len(plan) > 1 else plan[0]
            problem = {"F": (failed("x"),), "U": (unknown("x"),), "P": ()}[word]
            return Outcome(seen="", problems=problem)

        return Check(id=name, name=name, category=Category.CLUSTER, summary="", why="", how="", fix="", run=run)


@pytest.mark.parametrize(
    ("plans", "calls", "results"),
    [
        ({"a": "P", "b": "P"}, "ab", "PP"),
        ({"a": "P", "b": "FUP"}, "abbba", "PP"),
        ({"a": "FP", "b": "FFP"}, "ababba", "PP"),
        ({"a": "PFP", "b": "FP"}, "abbaab", "PP"),  # what passed before has failed in the meantime
        ({"a": "P", "b": "F"}, "ab" + 120 * "b" + "a", "PF"),
        ({"a": "PU", "b": "F"}, "ab" + 120 * "b" + "a", "UF"),
    ],
)
def test_results_are_those_of_one_last_round(plans: dict[str, str], calls: str, results: str) -> None:
    planned = Planned(**plans)
    found, _ = wait(planned.checks, InstalledApi(Store()))

    assert "".join(planned.calls) == calls
    assert "".join(one.result.name[0] for one in found) == results
    assert len({id(reader) for reader in planned.readers[-len(plans) :]}) == 1


def test_progress_counts_all_checks() -> None:
    planned = Planned(a="P", b="FFP")
    _, rounds = wait(planned.checks, InstalledApi(Store()))

    assert [[one.result for one in found] for found in rounds] == [[Result.PASSED, Result.FAILED]] * 2


def test_check_that_is_chosen_twice_is_shown_twice() -> None:
    planned = Planned(a="FP")
    found, _ = wait([*planned.checks, *planned.checks], InstalledApi(Store()))

    assert len(found) == 2
