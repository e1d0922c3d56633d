"""JSON is truncated at a depth in one pass, with any content of its strings."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from injector.core.depth import MAX_DEPTH, shallow
from injector.core.env import EntryKind, env_of
from injector.core.model import Container, read_record
from tests.builders import pod, review

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (b"", b""),
        (b"1", b"1"),
        (b"[]", b"[]"),
        (b"[[]]", b"[[]]"),
        (b"[[[]]]", b"[[]]"),
        (b'{"a":{"b":{"c":{}}}}', b'{"a":{}}'),
        (b'{"a":{"b":{"c":1}},"d":[[1]]}', b'{"a":{},"d":[]}'),
        (b"[[1,[2,[3]],4],5]", b"[[],5]"),
        (b"[ [ [ 1 ] ] , { } ]", b"[ [] , {} ]"),
        # Brackets, quotes and escapes in strings and keys.
        (b'["[[[",["]]]",[1]],"\\"]"]', b'["[[[",[],"\\"]"]'),
        (b'{"a\\\\":[{"]":1}],"\\u005b":"\\\\\\""}', b'{"a\\\\":[],"\\u005b":"\\\\\\""}'),
        (b'{"managedFields":[[[1]]],"metadata":"managedFields"}', b'{"managedFields":[],"metadata":"managedFields"}'),
    ],
)
def test_deeper_members_are_omitted(text: bytes, cut: bytes) -> None:
    assert shallow(text, 2) == cut


@pytest.mark.parametrize("shift", range(12))
def test_text_is_equal_wherever_it_is_divided(shift: int) -> None:
    one = {"a\\": ["]", [1]], '"[{': [{'\\"': {"[": ["x"]}}]}

    found = shallow(b" " * shift + json.dumps([one] * 200).encode(), 4)

    assert json.loads(found) == [{"a\\": ["]", []], '"[{': [{}]}] * 200


@pytest.mark.parametrize(
    "text",
    [b"[[[[", b"]]]]", b'"', b'"[[[[', b'"\\', b'["\\"', b"\\", b"[[[[]", b'{"a":[[["', b"[[[[]]]]]]]]", b'"\\"' * 20],
)
def test_truncated_invalid_json_stays_invalid(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        json.loads(shallow(text, 2))


def test_deepest_member_read_by_a_rule_is_kept() -> None:
    template = {"metadata": {}, "spec": {"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}}
    whole = review({**pod(), "spec": {"jobTemplate": {"spec": {"template": template}}}})

    assert json.loads(shallow(json.dumps(whole).encode(), 16)) == whole
    assert MAX_DEPTH > 16


def test_deep_member_of_a_variable_changes_nothing() -> None:
    env = b'[{"name":"LOG_LEVEL","x":%b},{"name":"DAPR_API_TOKEN","value":"v","x":%b}]' % (DEEP, DEEP)

    found = env_of(Container(env=Raw(env))).api

    assert found is not None
    assert (found.index, found.kind) == (1, EntryKind.LITERAL)


def test_deep_member_of_a_record_changes_nothing() -> None:
    entry = b'{"container":"web","env":"DAPR_API_TOKEN","name":"s","key":"k","x":%b}' % DEEP[99_000:101_000]

    (found,) = read_record((b'{"v":1,"injected":[%b]}' % entry).decode()).injected

    assert found.container == "web"
