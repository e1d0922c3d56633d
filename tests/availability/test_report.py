"""What counts as lost: the judgement alone, on attempts made up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.availability.creates import Attempt, AttemptLog, Kind, Window, encode, most_at_once, quantile
from tests.availability.faults import Fault, Seen
from tests.availability.report import Row, Segment, problems
from tests.availability.scenario import Rates

if TYPE_CHECKING:
    from pathlib import Path

CALM = Row("restart", 1.0, 100, 0, 0, 0, 0, 0, {}, "")
FAULT = Fault("restart", lambda _: Seen(), meets_at_least=100)
REFUSED = "dial tcp ADDRESS: connect: connection refused"


def changed(**values: object) -> Row:
    return msgspec.structs.replace(CALM, **values)


def test_row_without_loss_has_no_problem() -> None:
    assert problems([CALM], [FAULT]) == []


def test_fault_with_too_few_creates_is_a_problem() -> None:
    assert problems([changed(met=99)], [FAULT]) == ["restart: met 99 creates only, 100 are needed to count"]


def test_failure_is_a_problem_without_an_excuse() -> None:
    assert problems([changed(failed=1, messages={REFUSED: 1})], [FAULT]) == [f"restart: 1 failed: {REFUSED}"]


def test_only_listed_messages_are_excused() -> None:
    fault = Fault("restart", lambda _: Seen(), meets_at_least=1, loses=("connection refused",))
    row = changed(failed=3, messages={REFUSED: 2, "context deadline exceeded": 1})
    assert problems([row], [fault]) == ["restart: 1 failed: context deadline exceeded"]


def test_pod_without_token_and_failed_bystander_are_never_excused() -> None:
    fault = Fault("restart", lambda _: Seen(), meets_at_least=1, loses=("",))
    found = problems([changed(without_variable=1, others_hurt=2)], [fault])
    assert found == ["restart: 1 Pods were admitted without their variable", "restart: 2 others were hurt"]


def test_late_bundle_repair_is_a_problem() -> None:
    assert problems([changed(repaired=4.9)], [FAULT]) == []
    assert problems([changed(repaired=5.25)], [FAULT]) == ["restart: healed after 5.25 s only, 5 s are promised"]


def test_create_counts_when_it_overlaps_with_the_fault() -> None:
    window = Window(10.0, 20.0)
    spans = ((8.0, 9.9), (8.0, 10.0), (12.0, 13.0), (8.0, 30.0), (20.0, 21.0), (20.1, 21.0))
    met = [window.meets(Attempt(Kind.ASKING, "a", sent, answered, 201)) for sent, answered in spans]
    assert met == [False, True, True, True, True, False]


def test_incomplete_log_line_waits_for_its_rest(tmp_path: Path) -> None:
    path, attempt = tmp_path / "log", Attempt(Kind.OTHER, "other-1", 1.0, 2.0, 500, "no")
    log, line = AttemptLog(path), encode(attempt)
    assert log.read() == ()
    path.write_bytes(line + line[:10])
    assert log.read() == (attempt,)
    with path.open("ab") as file:
        file.write(line[10:])
    assert log.read() == (attempt, attempt)


def test_loss_of_the_controller_is_a_problem_without_an_excuse() -> None:
    row = changed(refused_to_controllers=2)
    excused = Fault("restart", lambda _: Seen(), meets_at_least=1, loses=("connection refused",))
    assert problems([row], [FAULT]) == ["restart: 2 creates of the controller failed"]
    assert problems([row], [excused]) == []


def test_pod_without_token_is_expected_until_shadow_mode_has_ended() -> None:
    opens = Fault("restart", lambda _: Seen(), meets_at_least=1, opens=True)
    assert problems([changed(without_variable=1)], [opens]) == []


def test_pod_of_a_controller_counts_in_the_second_of_its_creation() -> None:
    segment = Segment("restart", Window(10.0, 20.0), 22.0, 0, Seen())
    assert [segment.holds(moment, accuracy=1.0) for moment in (8.9, 9.1, 21.9, 22.0)] == [False, True, True, False]


def test_latency_and_waiting_creates_of_attempts() -> None:
    spans = ((0.0, 1.0), (0.5, 3.0), (1.0, 1.25), (2.0, 2.5))
    attempts = [Attempt(Kind.ASKING, "a", sent, answered, 201) for sent, answered in spans]
    seconds = [attempt.seconds for attempt in attempts]
    assert most_at_once(attempts) == 2
    assert (quantile(seconds, 0.5), quantile(seconds, 0.99)) == (0.5, 2.5)
    assert (most_at_once([]), quantile([], 0.5)) == (0, 0.0)


def test_stream_lasts_for_all_its_creates_at_the_lowest_rate() -> None:
    slowest = Rates.bearable(seconds=10.0, most_asking=20.0)
    creates = 100_000
    assert slowest.most_seconds(creates) * (slowest.asking + slowest.others) > creates
    assert slowest.most_seconds(creates) > Rates.bearable(seconds=0.001, most_asking=20.0).most_seconds(creates)
