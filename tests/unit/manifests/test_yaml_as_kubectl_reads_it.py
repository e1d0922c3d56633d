"""Values against what the library that kubectl uses makes of the same text (sigs.k8s.io/yaml 1.6.0, YAMLToJSON).

Each row of `yaml11.json` is a text and what came out; a row without a value is a text that the library refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from injector.manifests.documents import read
from injector.manifests.errors import ManifestError

# Where we differ on purpose: keys that stand twice are refused below, so is text that kubectl would drop without a
# word; and a key that is a number beyond 63 bits, or none, is nothing that an object has.
_APART = {"a: 1\na: 2\n", "a: 1\n...\nb: 2", ".nan: 1"}
_BEYOND = ("? 9223372036854775808\n", "? 18446744073709551615\n", "? 0xffffffffffffffff\n")
_ROWS = [
    row
    for row in json.loads((Path(__file__).parent / "yaml11.json").read_text(encoding="utf-8"))
    if row[0] not in _APART and not row[0].startswith(_BEYOND)
]


def _plain(value: object) -> object:
    """Numbers as floats, as JSON has no others; long ones would differ in digits that the text does not have."""
    match value:
        case bool():
            return value
        case int() | float():
            return float(value)
        case dict():
            return {key: _plain(child) for key, child in value.items()}
        case list():
            return [_plain(child) for child in value]
        case _:
            return value


@pytest.mark.parametrize("row", _ROWS, ids=[repr(row[0])[:60] for row in _ROWS])
def test_value_is_read_as_by_kubectl(row: list[Any]) -> None:
    text = row[0]
    try:
        found: Any = [document.value for document in read(text, "f")]
    except ManifestError:
        assert len(row) == 1
        return
    assert len(row) == 2
    # A long number as a key is text, and its digits depend on the writer.
    if isinstance(row[1], dict) and any("e+" in key for key in row[1]):
        assert [float(key) for key in found[0]] == pytest.approx([float(key) for key in row[1]])
    else:
        assert _plain(found[0]) == _plain(row[1])


def test_duplicate_key_is_rejected() -> None:
    with pytest.raises(ManifestError, match="duplicate key in a mapping") as caught:
        list(read("a: 1\nb: {c: 1, 'c': 2}\n", "f"))
    assert (caught.value.document, caught.value.line) == (1, 2)


def test_value_that_kubectl_drops_is_rejected() -> None:
    with pytest.raises(ManifestError, match="did not find expected <document start>"):
        list(read("a: 1\n...\nb: 2\n", "f"))
