"""A folder per case: `before.yaml`, and `after.yaml` as `inject` writes it, byte for byte, or `error.txt`."""

from __future__ import annotations

from pathlib import Path

import pytest

from injector.manifests.errors import ManifestError
from tests.unit.manifests.working import inject, patched, uninject

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/after.yaml"))
REFUSED = sorted(path.parent for path in GOLDEN.glob("*/error.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_inject_writes_expected_text(case: Path) -> None:
    before, after = ((case / name).read_bytes().decode() for name in ("before.yaml", "after.yaml"))
    assert inject(before) == after
    assert inject(after) == after
    if case.name != "replaced-entry":
        assert uninject(after) == before


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_inject_refuses_layout_with_file_line_and_advice(case: Path) -> None:
    before = (case / "before.yaml").read_text()
    with pytest.raises(ManifestError) as caught:
        inject(before, source="before.yaml")
    assert f"{caught.value}\n" == (case / "error.txt").read_text()
    assert "DAPR_API_TOKEN" in str(patched(before))  # -o json edits no text


def test_every_case_has_one_outcome() -> None:
    assert sorted([*CASES, *REFUSED]) == sorted(GOLDEN.iterdir())
