"""A folder per case: `before.yaml`, and `after.yaml` as `inject` writes it, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.manifests.working import inject, uninject

CASES = sorted((Path(__file__).parent / "golden").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_inject_writes_what_the_case_wants(case: Path) -> None:
    before, after = ((case / name).read_bytes().decode() for name in ("before.yaml", "after.yaml"))
    assert inject(before) == after
    assert inject(after) == after
    if case.name != "replaced-entry":
        assert uninject(after) == before
