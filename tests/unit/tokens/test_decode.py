from __future__ import annotations

import pytest

from injector.core.ownership import DataWriter
from injector.tokens.decode import token_secret


def test_secret_is_decoded_without_its_values() -> None:
    secret = {
        "metadata": {
            "namespace": "shop",
            "name": "s",
            "creationTimestamp": "1970-01-01T00:01:00Z",
            "ownerReferences": [{"kind": "SealedSecret", "name": "s"}],
            "managedFields": [
                {"manager": "a", "time": "1970-01-01T00:01:00Z", "fieldsV1": {"f:data": {".": {}, "f:token": {}}}},
                {"manager": "b", "time": "1970-01-01T00:02:00Z", "fieldsV1": {"f:metadata": {}}},
                {"manager": "c", "time": "1970-01-01T00:03:00Z", "fieldsV1": {"f:data": {".": {}}}},
            ],
        },
        "data": {"token": "bWFya2Vy"},
        "immutable": True,
    }
    read = token_secret(secret)

    assert read.writers == (DataWriter("a", 60, frozenset({"token"})),)
    assert (read.keys, read.owners, read.immutable) == (frozenset({"token"}), ("SealedSecret/s",), True)
    assert read.created == 60
    assert "bWFya2Vy" not in repr(read)


def test_secret_without_a_creation_time_is_read() -> None:
    assert token_secret({"metadata": {"namespace": "shop", "name": "s"}}).created is None


def test_key_that_was_applied_as_string_data_is_owned() -> None:
    fields = [
        {"f:stringData": {"f:token": {}}},
        {"f:data": {"f:other": {}}, "f:stringData": None},
        {"f:stringData": {}},
    ]
    entries = [{"manager": str(number), "fieldsV1": one} for number, one in enumerate(fields)]

    read = token_secret({"metadata": {"namespace": "shop", "name": "s", "managedFields": entries}})

    assert [writer.keys for writer in read.writers] == [{"token"}, {"other"}]


@pytest.mark.parametrize(
    ("entries", "holds"),
    [
        ([], True),  # stripped
        ([("ours", ("token",), ("dapr-token-injector/token-id",))], True),
        ([("ours", (), ("dapr-token-injector/token-id",)), ("other", ("token",), ())], False),
        ([("ours", (), ("dapr-token-injector/token-id",)), ("other", ("token",), ("a",))], False),
        ([("other", (), ("a",))], True),
    ],
)
def test_facts_about_a_token_end_with_another_writer_of_the_value(
    entries: list[tuple[str, tuple[str, ...], tuple[str, ...]]],
    holds: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    annotations = {f"dapr-token-injector/token-{word}": "x" for word in ("id", "issued", "expires")} | {"a": "b"}
    fields = [
        {
            "manager": manager,
            "fieldsV1": {
                "f:data": {f"f:{key}": {} for key in keys},
                "f:metadata": {"f:annotations": {f"f:{name}": {} for name in owned}},
            },
        }
        for manager, keys, owned in entries
    ]
    meta = {"namespace": "shop", "name": "s", "annotations": annotations, "managedFields": fields}

    assert token_secret({"metadata": meta}).annotations == (annotations if holds else {"a": "b"})
