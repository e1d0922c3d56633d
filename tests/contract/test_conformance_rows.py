"""Every row of the conformance list about Pods has an example."""

from __future__ import annotations

import re

import pytest

from tests.golden.cases import FOLDER, Golden, folders, load

ROWS = [*(f"A{number}" for number in range(1, 22)), *(f"W{number}" for number in range(1, 22))]
ALL = tuple(map(load, folders()))


@pytest.mark.parametrize("row", ROWS)
def test_row_has_an_example(row: str) -> None:
    assert [golden.name for golden in ALL if golden.row == row]


@pytest.mark.parametrize("golden", ALL, ids=lambda golden: golden.name)
def test_example_names_its_row_and_tells_its_rule(golden: Golden) -> None:
    assert golden.row in {*ROWS, "D"}
    assert re.fullmatch(r"[AWD]\d*(?:-[a-z0-9]+)+", golden.name)
    assert golden.case.rule.endswith(".")


def test_no_folder_is_left_out() -> None:
    found = {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert found == {golden.name for golden in ALL}


def test_example_that_wants_a_patch_says_inject_and_no_other_does() -> None:
    for golden in ALL:
        assert (golden.want is not None) is (golden.case.verdict == "inject"), golden.name
