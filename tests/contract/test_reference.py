from __future__ import annotations

import pytest

from tests.contract.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_reference_pages_match_the_code(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), "run: python -m tests.contract.reference"
