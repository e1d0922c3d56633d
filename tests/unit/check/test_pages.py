"""The pages under `docs/reference/checks` are made from the checks: `UPDATE_GOLDEN=1 pytest tests/unit/check`."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from injector.check import pages
from injector.check.catalogue import CHECKS
from injector.check.model import Category
from tests.generated import check_page

if TYPE_CHECKING:
    from injector.check.model import Check

FOLDER = Path(__file__).parents[3] / "docs/reference/checks"
WANTED = {"README.md": pages.index(CHECKS), **{f"{check.name}.md": pages.page(check) for check in CHECKS}}


@pytest.mark.parametrize("name", sorted(WANTED))
def test_page_matches_its_check(name: str) -> None:
    check_page(FOLDER / name, WANTED[name])


def test_every_page_has_a_check() -> None:
    assert {page.name for page in FOLDER.iterdir()} == set(WANTED)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_page_has_reason_method_and_fix(check: Check) -> None:
    page = WANTED[f"{check.name}.md"]
    for part in (check.id, check.name, check.summary, "## Why", "## How it is determined", "## How to fix it"):
        assert part in page
    for text in (check.why, check.how, check.fix):
        assert text
        assert " ".join(text.split()) in " ".join(page.split())


def test_ids_and_names_are_unique_and_ids_follow_the_categories() -> None:
    assert len({check.id for check in CHECKS}) == len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(re.fullmatch(r"DTC\d{3}", check.id) for check in CHECKS)
    order = [list(Category).index(check.category) for check in CHECKS]
    assert all(one <= other for one, other in pairwise(order))
