"""The pages under `docs/reference/status` are made from the code: `UPDATE_GOLDEN=1 pytest` with this file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from injector.cli.main import main
from injector.cli.status import pages
from injector.core.assessment import Currency, PodFinding, ProtectionReason
from tests.generated import check_page

FOLDER: Final = Path(__file__).parents[3] / "docs/reference/status"


@pytest.mark.parametrize("word", pages.WORDS)
def test_page_matches_the_code(word: str) -> None:
    wanted = pages.page(pages.WORDS[word])
    check_page(FOLDER / f"{word}.md", wanted)
    for part in ("## What it means", "## How it is determined", "## What cannot be seen", "## What to do"):
        assert part in wanted
    assert max(map(len, wanted.splitlines())) <= 120


def test_every_word_has_one_page() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(pages.WORDS)
    assert len(pages.WORDS) == len(ProtectionReason) + len(Currency) + len(PodFinding)


def test_page_of_a_word_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--show-word", "not-injected"]) == 0
    assert capsys.readouterr().out.startswith("# not-injected\n")
    assert main(["status", "--show-word", "none"]) == 2
