"""Which test runs the command blocks of a page: all of them that no comment marks, in the page's order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.pages.blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

# By page. Pages of one test module share what is expensive: a control plane, a node.
FAMILIES: Final[Mapping[str, str]] = {
    "docs/tutorial.md": "tests/cluster/test_demo.py",
}


def run_by(module: str) -> tuple[str, ...]:
    """The pages that a test module runs; `module` is its `__file__`."""
    here = str(Path(module).relative_to(ROOT))
    found = tuple(page for page, family in FAMILIES.items() if family == here)
    assert found, f"{here} runs no page"
    return found
