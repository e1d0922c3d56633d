"""Each folder under `cases` is a set of files, perhaps with a policy, and `want.txt` is what lint says about them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from injector.config.policy import load_policy
from injector.core.model import Policy
from injector.lint import report
from injector.lint.linter import Linter

CASES = Path(__file__).parent / "cases"
NOT_LINTED = {"want.txt", "policy.yml"}


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_case_gets_expected_report(case: str) -> None:
    folder = CASES / case
    policy = folder / "policy.yml"
    linter = Linter(load_policy(policy) if policy.exists() else Policy())
    for path in sorted(path for path in folder.iterdir() if path.name not in NOT_LINTED):
        linter.read(path.name, path.read_text())
    found = linter.report()
    lines = [*report.text(found), *(f"unreadable: {each}" for each in found.unreadable), report.summary(found)]
    want = folder / "want.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        want.write_text("\n".join([*lines, ""]))
    assert lines == want.read_text().splitlines()


def test_no_case_shows_a_value() -> None:
    for want in CASES.glob("*/want.txt"):
        assert "never" not in want.read_text()
        assert "eyJ" not in want.read_text()
