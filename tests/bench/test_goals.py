from dataclasses import replace

import pytest

from tests.bench import goals, peers, report, worst
from tests.bench.measure import Cell, Pair, Sample, Spread, cpu_per_byte, ratios, spread

_SAMPLE = Sample(
    requests=1000,
    refused=0.0,
    requests_per_second=1000.0,
    p50_us=100,
    p99_us=900,
    cpu_us=50.0,
    faults=0.0,
    rss_bytes=1 << 20,
    foreign_share=0.0,
)


def _pair(ours: float, theirs: float) -> Pair:
    return Pair(replace(_SAMPLE, requests_per_second=ours), replace(_SAMPLE, requests_per_second=theirs))


def _goal(found: list[goals.Goal], word: str) -> goals.Goal:
    return next(goal for goal in found if word in goal.name)


def test_spread_is_median_and_ends() -> None:
    assert spread([3, 1, 10]) == Spread(median=3, low=1, high=10)


def test_ratios_are_taken_round_by_round_so_that_drift_cancels() -> None:
    slow_then_fast = [_pair(200, 100), _pair(20, 10), _pair(2, 1)]
    assert ratios(slow_then_fast, lambda s: s.requests_per_second) == Spread(2, 2, 2)


def test_ratio_to_nothing_is_one_for_nothing_and_else_infinite() -> None:
    assert ratios([_pair(0, 0)], lambda s: s.requests_per_second).median == 1
    assert ratios([_pair(1, 0)], lambda s: s.requests_per_second).median == float("inf")


def test_cpu_per_byte_is_the_slope_so_that_the_fixed_cost_drops_out() -> None:
    assert cpu_per_byte(150.0, 250.0, (1_000, 101_000)) == pytest.approx(1.0)


def test_goal_of_throughput_is_met_at_its_limit_and_missed_below() -> None:
    for ours, met in ((1600, True), (1599, False)):
        found = goals.judge({peers.GO: {goals.JUDGED: [_pair(ours, 1000)]}}, [], [])
        assert _goal(found, f"requests/s / {peers.GO}").met is met


def test_goal_is_not_judged_on_a_core_that_others_used() -> None:
    busy = replace(_SAMPLE, foreign_share=0.5)
    found = goals.judge({peers.GO: {goals.JUDGED: [Pair(busy, busy)]}}, [], [])
    assert _goal(found, f"requests/s / {peers.GO}").met is None
    assert _goal(found, "faults").met is True


def test_goal_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {goal.met for goal in goals.judge({}, [], [])} == {None}


def test_slope_is_compared_between_the_two_large_bodies() -> None:
    small, large = (Cell(goals.JUDGED.connections, size) for size in goals.SLOPE)
    pair = Pair(replace(_SAMPLE, cpu_us=100), replace(_SAMPLE, cpu_us=400))
    cells = {
        small: [pair, pair],  # a slow machine measures a large body in fewer rounds
        large: [Pair(replace(_SAMPLE, cpu_us=1100), replace(_SAMPLE, cpu_us=4400))],
    }
    goal = _goal(goals.judge({peers.GO: cells}, [], []), "CPU per body byte")
    assert goal.got is not None
    assert goal.got.median == pytest.approx(0.25)
    assert goal.met


def test_worst_cell_decides_about_page_faults() -> None:
    bad = Pair(replace(_SAMPLE, faults=0.5), _SAMPLE)
    found = goals.judge({peers.GO: {goals.JUDGED: [_pair(1, 1)], Cell(1, "1 MB"): [bad]}}, [], [])
    assert _goal(found, "faults").met is False


def test_memory_is_judged_after_the_first_tenth() -> None:
    million = goals.ENOUGH_REQUESTS
    flat = [(0, 40), (million // 10, 100), (million // 2, 101), (million, 101)]
    got = goals.growth(flat)
    assert got is not None
    assert got.median == pytest.approx(0.01)
    growing = [(0, 100), (million // 10, 100), (million, 150)]
    assert _goal(goals.judge({}, [], growing), "memory").met is False


def test_memory_is_not_judged_by_too_few_requests() -> None:
    assert goals.growth([]) is None
    assert goals.growth([(0, 40), (1000, 40), (goals.ENOUGH_REQUESTS - 1, 40)]) is None
    assert goals.growth([(0, 40), (goals.ENOUGH_REQUESTS, 40)]) is None


def test_missed_goal_says_what_it_would_take() -> None:
    found = goals.judge({peers.GO: {goals.JUDGED: [_pair(1000, 1000)]}}, [2.0], [])
    assert report.takes(_goal(found, f"requests/s / {peers.GO}"), [_SAMPLE]).endswith(
        "would take 31 us of CPU per request instead of 50 (x0.62)."
    )
    assert report.takes(_goal(found, "start-up"), [_SAMPLE]) == "start-up, seconds: would take x0.50 of what it is."
    assert report.takes(_goal(found, "p99"), [_SAMPLE]) == "p99 / go-minimal: would take x0.90 of what it is."
    assert report.takes(_goal(found, "memory"), [_SAMPLE]) == ""


def _cost(kind: str, per_mb: float) -> worst.Cost:
    return worst.Cost(kind, f"shape of {per_mb}", 1000, 10, Spread(per_mb, per_mb, per_mb))


@pytest.mark.parametrize(("per_mb", "met"), [(0.2, True), (0.21, False)])
def test_goal_of_cost_is_judged_by_the_worst_review(per_mb: float, *, met: bool) -> None:
    costs = [_cost("review", 0.1), _cost("review", per_mb), _cost("lint", 9.0)]

    goal = _goal(goals.judge({}, [], [], costs), "CPU seconds per MB")

    assert (goal.met, goal.note) == (met, f"shape of {per_mb}")


def test_worst_of_a_kind_that_was_not_measured_is_none() -> None:
    assert worst.worst([_cost("lint", 1.0)], "review") is None


def test_sealed_answer_is_judged_by_its_cpu() -> None:
    for ours, met in ((65.0, True), (66.0, False)):
        pair = Pair(replace(_SAMPLE, cpu_us=ours), _SAMPLE)
        assert _goal(goals.judge({}, [], [], sealed=[pair]), "sealed").met is met
