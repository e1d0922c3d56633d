"""The golden cases of admission, as files: `inject` makes the same Pod, and `uninject` the file again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped] # it brings no types

from injector.core.model import Endpoint
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError
from tests.golden import cases
from tests.unit.manifests.working import inject, patched, uninject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from injector.core.model import Policy

FOLDERS = [
    folder
    for folder in cases.folders()
    if cases.is_patched(folder) and cases.read_case(folder).endpoint is Endpoint.MUTATE
]
WRITERS: dict[str, Callable[[Any], str]] = {
    "json": json.dumps,
    # Everything in quotes: PyYAML does not know that `y` is a boolean.
    "yaml": lambda value: str(yaml.safe_dump(value, sort_keys=False, width=4096, default_style='"')),
}


def injected(text: str, policy: Policy) -> str | None:
    """The file with the entries; None for one with an empty list, which is refused."""
    try:
        return inject(text, policy)
    except ManifestError as error:
        if "is empty, and uninject could not restore it" in error.message:
            return None
        raise


@pytest.mark.parametrize("style", WRITERS)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_inject_makes_the_pod_of_a_golden_case(folder: Path, style: str) -> None:
    golden = cases.load(folder)
    kind = {"apiVersion": "v1", "kind": "Pod"}
    text = WRITERS[style](json.loads(json.dumps({**kind, **golden.review["request"]["object"]})))

    assert patched(text, golden.policy) == [{**kind, **(golden.want or {})}]
    changed = injected(text, golden.policy)
    if changed is None:
        return
    (document,) = read(changed, "f")
    assert document.value == {**kind, **(golden.want or {})}
    assert inject(changed, golden.policy) == changed
    if "/status" in changed and "/status" not in text and '"replaced":true' not in changed.replace("\\", ""):
        assert uninject(changed) == text
