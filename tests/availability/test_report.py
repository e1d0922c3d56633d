"""What counts as lost: the judgement alone, on attempts made up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.availability.creates import Attempt, AttemptLog, Kind, Window, encode
from tests.availability.faults import Fault, Seen
from tests.availability.report import Row, problems

if TYPE_CHECKING:
    from pathlib import Path

CALM = Row("restart", 1.0, 100, 0, 0, 0, 0, 0, {}, "")
FAULT = Fault("restart", lambda _: Seen(), meets_at_least=100)
REFUSED = "dial tcp ADDRESS: connect: connection refused"


def changed(**values: object) -> Row:
    return msgspec.structs.replace(CALM, **values)


def test_a_row_without_loss_has_no_problem() -> None:
    assert problems([CALM], [FAULT]) == []


def test_a_fault_that_met_too_few_creates_does_not_count() -> None:
    assert problems([changed(met=99)], [FAULT]) == ["restart: met 99 creates only, 100 are needed to count"]


def test_any_failure_is_a_problem_where_none_is_excused() -> None:
    assert problems([changed(failed=1, said={REFUSED: 1})], [FAULT]) == [f"restart: 1 failed: {REFUSED}"]


def test_only_the_sentences_named_are_excused() -> None:
    fault = Fault("restart", lambda _: Seen(), meets_at_least=1, loses=("connection refused",))
    row = changed(failed=3, said={REFUSED: 2, "context deadline exceeded": 1})
    assert problems([row], [fault]) == ["restart: 1 failed: context deadline exceeded"]


def test_a_bare_pod_and_a_hurt_bystander_are_never_excused() -> None:
    fault = Fault("restart", lambda _: Seen(), meets_at_least=1, loses=("",))
    found = problems([changed(without_variable=1, others_hurt=2)], [fault])
    assert found == ["restart: 1 Pods were admitted without their variable", "restart: 2 others were hurt"]


def test_a_bundle_that_is_whole_too_late_is_a_problem() -> None:
    assert problems([changed(healed=4.9)], [FAULT]) == []
    assert problems([changed(healed=5.25)], [FAULT]) == ["restart: healed after 5.25 s only, 5 s are promised"]


def test_a_create_is_met_when_it_was_under_way_at_any_moment() -> None:
    window = Window(10.0, 20.0)
    spans = ((8.0, 9.9), (8.0, 10.0), (12.0, 13.0), (8.0, 30.0), (20.0, 21.0), (20.1, 21.0))
    met = [window.meets(Attempt(Kind.ASKING, "a", sent, answered, 201)) for sent, answered in spans]
    assert met == [False, True, True, True, True, False]


def test_half_a_line_of_the_log_waits_for_the_other_half(tmp_path: Path) -> None:
    path, attempt = tmp_path / "log", Attempt(Kind.OTHER, "other-1", 1.0, 2.0, 500, "no")
    log, line = AttemptLog(path), encode(attempt)
    assert log.read() == ()
    path.write_bytes(line + line[:10])
    assert log.read() == (attempt,)
    with path.open("ab") as file:
        file.write(line[10:])
    assert log.read() == (attempt, attempt)
