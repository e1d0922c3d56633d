"""A review of any depth has the decision of the review without its deep members."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from injector.core.depth import shallow
from injector.core.errors import PolicyGapError, ReviewError
from tests.builders import Json, ask, encode
from tests.property import strategies as some

if TYPE_CHECKING:
    from injector.core.model import Endpoint, Policy

# More than `maxNestingDepth` of Go's encoding/json, which an API server writes with.
_DEEPEST: Final = 12_000

_keys = some.text | st.sampled_from(("managedFields", "[", "}", '"', "\\", '\\"]'))
json_texts = st.recursive(
    some.scalars | _keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=12,
)


def _cut(value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _cut(child, depth - 1) for key, child in value.items()} if depth > 1 else {}
    if isinstance(value, list):
        return [_cut(child, depth - 1) for child in value] if depth > 1 else []
    return value


def _depth(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _places(value: object) -> list[Any]:
    """Every object of a review, from the outside in."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, dict) else []), *(found for child in children for found in _places(child))]


def _deep(depth: int, *, objects: bool) -> bytes:
    return b'{"f:a":' * depth + b"1" + b"}" * depth if objects else b"[" * depth + b"]" * depth


def _answer(body: bytes, endpoint: Endpoint, policy: Policy) -> object:
    """The answer, or the class of the error, which must be the same, too."""
    try:
        return ask(body, policy, endpoint)
    except (ReviewError, PolicyGapError) as error:
        return type(error)


@given(json_texts, st.integers(1, 5), st.sampled_from((None, 1)), st.booleans())
def test_truncated_text_is_equal_up_to_the_depth(value: object, depth: int, indent: int | None, ascii_: bool) -> None:  # noqa: FBT001
    found = json.loads(shallow(json.dumps(value, indent=indent, ensure_ascii=ascii_).encode(), depth))

    assert _cut(found, depth) == _cut(value, depth)
    assert _depth(found) <= depth


@given(some.reviews(), some.policies, some.endpoints)
def test_truncated_review_has_the_same_answer(question: Json, policy: Policy, endpoint: Endpoint) -> None:
    body = encode(question)

    assert _answer(shallow(body), endpoint, policy) == _answer(body, endpoint, policy)
    assert _answer(shallow(body, 16), endpoint, policy) == _answer(body, endpoint, policy)


@given(st.data(), some.reviews(), some.policies, some.endpoints, st.sampled_from((900, 985, 990, 995, 1010, _DEEPEST)))
def test_members_below_the_read_depth_change_no_answer(
    data: st.DataObject, question: Json, policy: Policy, endpoint: Endpoint, depth: int
) -> None:
    place = data.draw(st.sampled_from(_places(question)))
    place["managedFields"] = "DEEP"
    body = encode(question)
    flat = body.replace(b'"DEEP"', b"[]")
    deep = body.replace(b'"DEEP"', _deep(depth, objects=data.draw(st.booleans())))

    assert _answer(deep, endpoint, policy) == _answer(flat, endpoint, policy)


@given(st.binary(max_size=200) | st.text('[]{}"\\, a1:', max_size=60).map(str.encode), st.integers(1, 4))
def test_any_bytes_can_be_truncated(text: bytes, depth: int) -> None:
    cut = shallow(text, depth)

    assert len(cut) <= len(text)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert _cut(msgspec.json.decode(cut), depth) == _cut(value, depth)
