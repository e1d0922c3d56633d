"""The words of an assessment are those of its page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.status import meanings
from injector.core.advisories import _AFFECTED
from injector.core.assessment import (
    CURRENCY_SEVERITIES,
    PROTECTIONS,
    SEVERITIES,
    Currency,
    PodFinding,
    Protection,
    ProtectionReason,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE: Final = (Path(__file__).resolve().parent.parent.parent / "docs/reference/status.md").read_text()


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table with this first heading, by their first cell."""
    lines = PAGE.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        first, *others = (
            re.sub(r"^\[`(.+)`\]\(status/\1\.md\)$", r"\1", cell.strip()).strip("`")
            for cell in line.strip("|").split(" | ")
        )
        rows[first] = others
    return rows


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Protection", Protection),
        ("Reason", ProtectionReason),
        ("Currency", Currency),
        ("Finding", PodFinding),
    ],
)
def test_words_are_documented_with_meaning_and_action(heading: str, words: type[Protection]) -> None:
    rows = table(heading)

    assert set(rows) == set(words)
    assert all(all(cells) for cells in rows.values())
    assert len({len(cells) for cells in rows.values()}) == 1


def test_protection_and_severity_are_those_of_the_code() -> None:
    assert {reason: cells[0] for reason, cells in table("Reason").items()} == PROTECTIONS
    assert {word: cells[0].split("`")[0] for word, cells in table("Protection").items()} == SEVERITIES
    assert {word: cells[0] for word, cells in table("Currency").items()} == CURRENCY_SEVERITIES


def test_advisories_are_documented() -> None:
    assert all(name in table("Finding")["daprd-advisory"][1] for name in _AFFECTED)


@pytest.mark.parametrize(
    ("heading", "column", "texts"),
    [
        ("Protection", "Meaning", meanings.PROTECTION_MEANINGS),
        ("Reason", "How it is determined", meanings.REASON_MEANINGS),
        ("Currency", "Meaning", meanings.CURRENCY_MEANINGS),
        ("Finding", "Meaning", meanings.FINDING_MEANINGS),
        ("Finding", "How it is determined", meanings.FINDING_METHODS),
    ],
)
def test_meanings_of_the_report_are_those_of_the_page(heading: str, column: str, texts: Mapping[str, str]) -> None:
    (head,) = re.findall(rf"^\| {heading} \| (.*) \|$", PAGE, re.MULTILINE)
    place = head.split(" | ").index(column)

    assert {word: cells[place].replace("`", "") for word, cells in table(heading).items()} == texts
