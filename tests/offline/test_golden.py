"""A folder per case: `before.yaml`, and `after.yaml` as `inject` writes it, byte for byte, or `error.txt`.

A case may have a policy.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from injector.config.policy import load_policy
from injector.core.model import Policy
from injector.manifests.errors import ManifestError
from tests.unit.manifests.working import inject, patched, uninject

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/after.yaml"))
REFUSED = sorted(path.parent for path in GOLDEN.glob("*/error.txt"))


def policy(case: Path) -> Policy:
    """The policy of a case."""
    file = case / "policy.yml"
    return load_policy(file) if file.exists() else Policy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_inject_writes_expected_text(case: Path) -> None:
    before, after = ((case / name).read_bytes().decode() for name in ("before.yaml", "after.yaml"))
    assert inject(before, policy(case)) == after
    assert inject(after, policy(case)) == after
    if case.name != "replaced-entry":
        assert uninject(after) == before


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_inject_refuses_layout_with_file_line_and_advice(case: Path) -> None:
    before = (case / "before.yaml").read_text()
    with pytest.raises(ManifestError) as caught:
        inject(before, policy(case), source="before.yaml")
    assert f"{caught.value}\n" == (case / "error.txt").read_text()
    assert "DAPR_API_TOKEN" in str(patched(before, policy(case)))  # -o json edits no text


def test_every_case_has_one_outcome() -> None:
    assert sorted([*CASES, *REFUSED]) == sorted(GOLDEN.iterdir())
