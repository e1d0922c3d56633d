"""Each row of docs/reference/conformance.md is tested where the page says, and each tested row is on the page."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.golden.cases import FOLDER, folders, is_patched, read_case, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/reference/conformance.md"
ALL: Final = folders()
_ROW: Final = re.compile(
    r"^\| (?P<row>[A-Z]\d+) \| (?P<situation>.+) \| (?P<behaviour>.+) \| (?P<tests>.+) \|$", re.MULTILINE
)
_NAMED: Final = re.compile(r"\b([HR])(\d+)\b(?: to \1(\d+)\b)?")
_TESTS: Final = ("availability", "cluster", "http", "node")


def _documented() -> dict[str, set[str]]:
    """The rows of the page, each with the files and folders that its last column names."""
    rows = [(match["row"], match["tests"]) for match in _ROW.finditer(PAGE.read_text())]
    assert len(rows) == len(dict(rows)), "a row is on the page twice"
    return {row: set(re.findall(r"`([^`]+)`", tests)) for row, tests in rows}


def _expanded(text: str) -> Iterator[str]:
    """The rows that a docstring names: `H3`, or `H3 to H5`."""
    for letter, first, last in _NAMED.findall(text):
        yield from (f"{letter}{number}" for number in range(int(first), int(last or first) + 1))


@functools.cache
def rows_of_tests() -> dict[str, set[str]]:
    """The rows that golden folders and docstrings of tests name, each with where; read once the tests run."""
    found: dict[str, set[str]] = {}
    for row in {row_of(folder) for folder in ALL} - {"D"}:
        found.setdefault(row, set()).add(f"tests/golden/{row}-*")
    for path in (path for folder in _TESTS for path in (ROOT / "tests" / folder).glob("test_*.py")):
        tree = ast.parse(path.read_text())
        texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
        for text in filter(None, texts):
            for row in _expanded(text):
                found.setdefault(row, set()).add(str(path.relative_to(ROOT)))
    return found


DOCUMENTED: Final = _documented()


@pytest.mark.parametrize("row", sorted(DOCUMENTED))
def test_row_is_tested_where_the_page_says(row: str) -> None:
    assert DOCUMENTED[row] == rows_of_tests().get(row)


def test_every_tested_row_is_on_the_page() -> None:
    assert rows_of_tests().keys() <= DOCUMENTED.keys()


def test_rows_of_a_letter_have_no_gap() -> None:
    for letter in "AHRW":
        numbers = sorted(int(row[1:]) for row in DOCUMENTED if row.startswith(letter))
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("folder", ALL, ids=lambda folder: folder.name)
def test_example_has_row_and_rule(folder: Path) -> None:
    case = read_case(folder)

    assert row_of(folder) in {*DOCUMENTED, "D"}
    assert re.fullmatch(r"[AWD]\d*(?:-[a-z0-9]+)+", folder.name)
    assert case.rule.endswith(".")
    assert is_patched(folder) is (case.verdict == "inject")


def test_every_folder_is_an_example() -> None:
    found = {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert found == {folder.name for folder in ALL}
