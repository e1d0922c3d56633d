"""Reading the variables of a container."""

from __future__ import annotations

import msgspec
import pytest

from injector.core.env import EntryKind, EnvEntry, EnvList, entries_of, env_of
from injector.core.errors import MalformedObjectError
from injector.core.model import (
    Container,
    SourceKind,
    TokenRef,
)
from tests.builders import Json, encode, literal_env, secret_env

API, APP = "DAPR_API_TOKEN", "APP_API_TOKEN"


def env(*entries: Json) -> EnvList:
    """The decoded container with these variables."""
    return read(encode({"name": "c", "env": entries}))


def read(body: bytes) -> EnvList:
    """The decoded container."""
    return env_of(msgspec.json.decode(body, type=Container))


def reference(source: object) -> EnvEntry:
    """The decoded variable with this source."""
    found = env({"name": API, "valueFrom": source}).api
    assert found is not None
    return found


@pytest.mark.parametrize("body", [b"{}", b'{"env":null}', b'{"env": null }'])
def test_null_list_counts_as_absent(body: bytes) -> None:
    assert read(body) == EnvList(exists=False)


@pytest.mark.parametrize("body", [b'{"env":[]}', b'{"env" : [ ] }', b'{"env":[{"name":"X"}]}'])
def test_list_without_token_variables_is_empty(body: bytes) -> None:
    assert read(body) == EnvList(exists=True)


def test_each_name_has_its_position() -> None:
    found = env(literal_env("x", "X"), secret_env("t", "k", APP), secret_env())

    assert found.get(APP) == found.app == EnvEntry(1, APP, EntryKind.REFERENCE, TokenRef("t", "k"))
    assert found.get(API) == found.api == EnvEntry(2, API, EntryKind.REFERENCE, TokenRef("s", "token"))


def test_last_entry_of_a_name_is_effective() -> None:
    found = env(secret_env(), literal_env("abc"), literal_env("z", "Z"), secret_env("t"), literal_env("y", "Y"))

    assert found.api == EnvEntry(3, API, EntryKind.REFERENCE, TokenRef("t", "token"), copies=3)


def test_escaped_name_is_the_same_name() -> None:
    escaped = b'{"env":[{"name":"\\u0044APR_API\\u005fTOKEN","value":"x"}]}'

    assert read(escaped).api == EnvEntry(0, API, EntryKind.LITERAL)


@pytest.mark.parametrize("value", [{}, {"value": ""}, {"value": None}, {"valueFrom": None}, {"valueFrom": {}}])
def test_neither_value_nor_source_is_empty(value: Json) -> None:
    assert env({"name": API, **value}).api == EnvEntry(0, API, EntryKind.EMPTY)


@pytest.mark.parametrize("value", ["abc", " ", "a$(OTHER)", 5, True])
def test_any_other_value_is_a_literal(value: object) -> None:
    assert env({"name": API, "value": value}).api == EnvEntry(0, API, EntryKind.LITERAL)


def test_source_has_precedence_over_value() -> None:
    assert env({**secret_env(), "value": ""}).api == EnvEntry(0, API, EntryKind.REFERENCE, TokenRef("s", "token"))


def test_config_map_reference_has_its_own_kind() -> None:
    found = reference({"configMapKeyRef": {"name": "c", "key": "k"}})

    assert found.ref == TokenRef("c", "k", SourceKind.CONFIG_MAP)
    assert found.ref != TokenRef("c", "k")


@pytest.mark.parametrize("source", [{"fieldRef": {"fieldPath": "metadata.uid"}}, {"future": 5}, {"future": "x"}])
def test_other_sources_are_opaque_references(source: Json) -> None:
    assert reference(source) == EnvEntry(0, API, EntryKind.REFERENCE, may_be_empty="future" in source)


@pytest.mark.parametrize("kind", ["secretKeyRef", "configMapKeyRef", "fileKeyRef", "future"])
def test_optional_is_read_from_every_source(kind: str) -> None:
    assert reference({kind: {"name": "s", "key": "k", "optional": True}}).optional is True
    assert reference({kind: {"name": "s", "key": "k", "optional": False}}).optional is False
    assert reference({kind: {"name": "s", "key": "k", "optional": None}}).optional is False


@pytest.mark.parametrize("order", [("secretKeyRef", "configMapKeyRef"), ("configMapKeyRef", "secretKeyRef")])
def test_order_of_two_sources_does_not_matter(order: tuple[str, str]) -> None:
    found = reference({kind: {"name": "s", "key": "k", "optional": kind == "secretKeyRef"} for kind in order})

    assert found == EnvEntry(0, API, EntryKind.REFERENCE, None, optional=True)


@pytest.mark.parametrize("order", [("future", "secretKeyRef"), ("secretKeyRef", "future")])
def test_optional_is_read_next_to_another_source(order: tuple[str, str]) -> None:
    found = reference({kind: {"name": "s", "key": "k", "optional": kind == "future"} for kind in order})

    assert found == EnvEntry(0, API, EntryKind.REFERENCE, None, optional=True, may_be_empty=True)


def test_null_source_next_to_another_is_ignored() -> None:
    found = reference({"configMapKeyRef": None, "secretKeyRef": {"name": "s", "key": "k"}})

    assert found == EnvEntry(0, API, EntryKind.REFERENCE, TokenRef("s", "k"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"env":5}',
        b'{"env":"DAPR_API_TOKEN"}',
        b'{"env":{"name":"DAPR_API_TOKEN"}}',
        b'{"env":["DAPR_API_TOKEN"]}',
        b'{"env":[null,{"name":"DAPR_API_TOKEN"}]}',
        b'{"env":[{"name":"DAPR_API_TOKEN","valueFrom":[]}]}',
        b'{"env":[{"name":"DAPR_API_TOKEN","valueFrom":{"secretKeyRef":"s"}}]}',
        b'{"env":[{"name":"DAPR_API_TOKEN","valueFrom":{"secretKeyRef":{"name":5}}}]}',
        b'{"env":[{"name":"\xff"},{"name":"DAPR_API_TOKEN"}]}',
        b'{"env":[{"name":"DAPR_API_TOKEN","valueFrom":{"secretKeyRef":{"name":"\xff"}}}]}',
    ],
)
def test_invalid_env_list_is_reported_without_its_content(body: bytes) -> None:
    with pytest.raises(MalformedObjectError) as failed:
        read(body)

    assert str(failed.value) == "the env of a container is not a list of variables"


USE = {"name": "HEADERS", "value": "dapr-api-token=$(DAPR_API_TOKEN)"}


@pytest.mark.parametrize(
    "value",
    [
        "$(DAPR_API_TOKEN)",
        "a $(DAPR_API_TOKEN) b",
        "$$$(DAPR_API_TOKEN)",
        "$(OTHER)$(DAPR_API_TOKEN)",
        "$x$(DAPR_API_TOKEN)",
        "$(a$(DAPR_API_TOKEN))$(DAPR_API_TOKEN)",
        "\n$(DAPR_API_TOKEN)\n$(",
    ],
)
def test_first_use_is_the_first_entry_that_refers_to_the_variable(value: str) -> None:
    found = env({"name": "A", "value": "a"}, {"name": "B", "value": value}, USE)

    assert (found.first_use(API), found.first_use(APP)) == (1, None)


@pytest.mark.parametrize(
    "value",
    [
        "$$(DAPR_API_TOKEN)",
        "$$$$(DAPR_API_TOKEN)",
        "$(DAPR_API_TOKEN",
        "$(a$(DAPR_API_TOKEN)",
        "$(dapr_api_token)",
        "$( DAPR_API_TOKEN)",
        "$ (DAPR_API_TOKEN)",
        "(DAPR_API_TOKEN)",
        "$(MY_DAPR_API_TOKEN)",
        5,
        None,
        ["$(DAPR_API_TOKEN)"],
    ],
)
def test_other_text_is_not_a_reference(value: object) -> None:
    assert env({"name": "A", "value": value}).first_use(API) is None


def test_each_variable_has_its_own_first_use() -> None:
    app_use = {"name": "A", "value": "$(APP_API_TOKEN)"}

    assert env(app_use, USE) == EnvList(exists=True, uses=((APP, 0), (API, 1)))
    both = env({"name": "A", "value": "$(APP_API_TOKEN)$(DAPR_API_TOKEN)"})
    assert (both.first_use(API), both.first_use(APP)) == (0, 0)


def test_use_after_the_entry_that_sets_the_variable_does_not_count() -> None:
    assert env(secret_env(), USE).first_use(API) is None
    assert env(USE, secret_env()).first_use(API) == 0
    assert env(literal_env("$(DAPR_API_TOKEN)")).first_use(API) is None
    assert env(secret_env(), secret_env(variable=APP), USE).first_use(API) is None


@pytest.mark.parametrize("value", [b'"\\u0024(DAPR_API_TOKEN)"', b'"$(DAPR_API_TOKEN\\u0029"'])
def test_escaped_reference_is_a_reference(value: bytes) -> None:
    assert read(b'{"env":[{"name":"A","value":%b}]}' % value).first_use(API) == 0


def test_value_that_is_not_unicode_refers_to_nothing() -> None:
    assert read(b'{"env":[{"name":"A","value":"\xff$(DAPR_API_TOKEN)"}]}') == EnvList(exists=True)


SET = secret_env("s", "token", "X")
OPTIONAL = secret_env("s", "token", "X", optional=True)
NOTE = {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['token']"}}}
UID = {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
S = TokenRef("s", "token")


def meaning(value: str, *before: Json) -> EnvEntry | None:
    """The entry of `DAPR_API_TOKEN` with this value, after the entries `before`."""
    return env(*before, literal_env(value), literal_env("later", "X")).api


def entry_at(
    index: int, kind: EntryKind, ref: TokenRef | None = None, *, optional: bool = False, may_be_empty: bool = False
) -> EnvEntry:
    """An entry with references to others."""
    return EnvEntry(index, API, kind, ref, optional, is_indirect=True, may_be_empty=may_be_empty)


def test_reference_to_an_entry_has_the_meaning_of_the_entry() -> None:
    assert meaning("$(X)", SET) == entry_at(1, EntryKind.REFERENCE, S)
    assert meaning("$(X)", literal_env("", "X"), SET) == entry_at(2, EntryKind.REFERENCE, S)
    assert meaning("$(Y)", SET, literal_env("$(X)", "Y")) == entry_at(2, EntryKind.REFERENCE, S)
    assert meaning("$(X)", OPTIONAL) == entry_at(1, EntryKind.REFERENCE, S, optional=True)
    assert meaning("$(X)", UID) == entry_at(1, EntryKind.REFERENCE)
    assert meaning("$(X)", NOTE) == entry_at(1, EntryKind.REFERENCE, may_be_empty=True)
    assert meaning("$(X)", literal_env("", "X")) == entry_at(1, EntryKind.EMPTY)
    assert meaning("$(X)", {"name": "X"}) == entry_at(1, EntryKind.EMPTY)
    assert meaning("$(X)", literal_env("secret", "X")) == entry_at(1, EntryKind.LITERAL)
    assert meaning("$(APP_API_TOKEN)", secret_env("t", variable=APP)) == entry_at(
        1, EntryKind.REFERENCE, TokenRef("t", "token")
    )


@pytest.mark.parametrize("value", ["$$(X)", "$(X", "$(Y) $(", "x$(Y)$(Z)", "$()"])
def test_text_without_a_set_variable_is_a_literal(value: str) -> None:
    assert meaning(value, SET) == EnvEntry(1, API, EntryKind.LITERAL)


@pytest.mark.parametrize("value", ["$(Y)", "$(Y)$(Z)", "$(E)$(Y)"])
def test_text_of_nothing_but_unset_variables_may_be_empty(value: str) -> None:
    empty = literal_env("", "E")

    assert meaning(value, empty) == EnvEntry(1, API, EntryKind.LITERAL, may_be_empty=True)
    assert meaning("$(Y)$(X)", literal_env("a", "X")) == EnvEntry(1, API, EntryKind.LITERAL)
    assert meaning("$(X)", literal_env("$(Y)", "X")) == entry_at(1, EntryKind.LITERAL, may_be_empty=True)


def test_value_of_several_references_cannot_be_repeated() -> None:
    empty = literal_env("", "E")
    assert meaning("Bearer $(X)", SET) == entry_at(1, EntryKind.REFERENCE)
    assert meaning("Bearer $(X)", OPTIONAL) == entry_at(1, EntryKind.REFERENCE, optional=True)
    assert meaning("$(X)$(Y)", SET) == entry_at(1, EntryKind.REFERENCE)
    assert meaning("$(X)$(E)", SET, empty) == entry_at(2, EntryKind.REFERENCE)
    assert meaning("$(X)$(E)", NOTE, empty) == entry_at(2, EntryKind.REFERENCE, may_be_empty=True)
    assert meaning("a$(X)$(E)", NOTE, empty) == entry_at(2, EntryKind.REFERENCE)
    assert meaning("$(E)$(E)", empty) == entry_at(1, EntryKind.EMPTY)
    assert meaning("a$(E)", empty) == EnvEntry(1, API, EntryKind.LITERAL)
    assert meaning("$(X)$(X)", literal_env("a", "X")) == EnvEntry(1, API, EntryKind.LITERAL)


@pytest.mark.parametrize("path", ["metadata.annotations['a']", "metadata.labels['a']"])
def test_annotation_or_label_may_be_empty(path: str) -> None:
    assert reference({"fieldRef": {"fieldPath": path}}).may_be_empty
    assert not reference({"fieldRef": {"fieldPath": "metadata.name"}}).may_be_empty
    assert not reference({"resourceFieldRef": {"resource": "limits.cpu"}}).may_be_empty


@pytest.mark.parametrize(
    "source", [{"fileKeyRef": {"key": "T"}}, {"fileKeyRef": 5}, {"futureRef": {"fieldPath": 5}}, {"futureRef": 5}]
)
def test_source_that_a_kubelet_may_not_know_may_be_empty(source: Json) -> None:
    assert reference(source).may_be_empty


def test_entries_of_has_every_managed_entry_in_order() -> None:
    body = encode({"env": [literal_env("$(X)"), SET, literal_env("$(X)"), literal_env("", APP)]})

    found = entries_of(msgspec.json.decode(body, type=Container))

    assert found == (
        EnvEntry(0, API, EntryKind.LITERAL, may_be_empty=True),
        entry_at(2, EntryKind.REFERENCE, S),
        EnvEntry(3, APP, EntryKind.EMPTY),
    )
