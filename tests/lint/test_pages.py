"""The pages under `docs/reference/lint` are made from the rules: `UPDATE_GOLDEN=1 pytest tests/lint` writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from injector.lint import pages
from injector.lint.catalogue import RULES
from tests.generated import check_page

if TYPE_CHECKING:
    from injector.lint.model import Rule

FOLDER = Path(__file__).parents[2] / "docs/reference/lint"
WANTED = {"README.md": pages.index(RULES), **{f"{rule.name}.md": pages.page(rule) for rule in RULES}}


@pytest.mark.parametrize("name", sorted(WANTED))
def test_page_matches_its_rule(name: str) -> None:
    check_page(FOLDER / name, WANTED[name])


def test_every_page_has_a_rule() -> None:
    assert {page.name for page in FOLDER.iterdir()} == set(WANTED)


def test_every_link_of_index_has_a_page() -> None:
    links = re.findall(r"\]\(([^)]+)\)", WANTED["README.md"])
    assert sorted(links) == sorted(WANTED.keys() - {"README.md"})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_page_has_problem_reason_and_fix(rule: Rule) -> None:
    page = WANTED[f"{rule.name}.md"]
    for part in (rule.id, rule.name, rule.summary, "## Why", "## How to fix it", "Reported:", "Not reported:"):
        assert part in page
    assert " ".join(rule.why.split()) in " ".join(page.split())
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    assert max(map(len, prose.splitlines())) <= 120
