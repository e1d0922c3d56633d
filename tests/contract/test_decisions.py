"""Each decision record has a status and a date, and the index lists it with both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs/decisions"
RECORDS: Final = sorted(FOLDER.glob("[0-9]*.md"))
INDEX: Final = (FOLDER / "README.md").read_text().splitlines()
_HEAD: Final = re.compile(
    r"# (?P<number>\d{4}) (?P<title>.+)\n\n"
    r"Status: (?P<status>accepted|superseded by (?P<successor>\d{4}))\n\n"
    r"Date: (?P<date>\d{4}-\d{2}-\d{2})(?: \(.+\))?\n\n"
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_record_is_in_the_index_with_status_and_date(record: Path) -> None:
    head = _HEAD.match(record.read_text())

    assert head
    assert record.name.startswith(f"{head['number']}-")
    assert f"| [{head['number']}]({record.name}) | {head['title']} | {head['status']} | {head['date']} |" in INDEX
    if head["successor"]:
        assert list(FOLDER.glob(f"{head['successor']}-*.md"))


def test_index_lists_nothing_else() -> None:
    assert sum(line.startswith("| [") for line in INDEX) == len(RECORDS)
