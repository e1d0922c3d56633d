"""Reading the variables of a container, records and workloads."""

from __future__ import annotations

import msgspec
import pytest

from injector.core.errors import MalformedObjectError
from injector.core.model import (
    Container,
    EntryKind,
    EnvEntry,
    EnvList,
    Injected,
    PodTemplate,
    Reason,
    SourceKind,
    TokenRef,
    Workload,
    env_of,
    read_status,
    write_status,
)
from tests.builders import Json, encode, literal_env, pod, secret_env, workload

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


@pytest.mark.parametrize("value", ["abc", " ", "$(OTHER)", 5, True])
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
    assert reference(source) == EnvEntry(0, API, EntryKind.REFERENCE)


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

    assert found == EnvEntry(0, API, EntryKind.REFERENCE, None, optional=True)


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


def test_record_round_trip() -> None:
    record = (
        Injected("web", API, "s", "token"),
        Injected("web", APP, "c", "k", SourceKind.CONFIG_MAP, replaced=True),
    )

    assert read_status(write_status(record)) == record


def test_record_is_versioned_compact_json() -> None:
    assert write_status((Injected("web", API, "s", "token"),)) == (
        '{"v":1,"injected":[{"container":"web","env":"DAPR_API_TOKEN","name":"s","key":"token"}]}'
    )


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "[]",
        '{"v":2,"injected":[]}',
        '{"v":1}',
        '{"v":1,"injected":[{"container":"web"}]}',
        '{"v":1,"injected":[{"container":"web","env":"x","name":"s","key":"k","source":"other"}]}',
        "[" * 20_000,
        '{"v":1,"injected":[' + "[" * 20_000,
    ],
    ids=lambda text: str(text)[:20],
)
def test_foreign_record_is_empty(text: str | None) -> None:
    assert read_status(text) == ()


def test_oversized_record_is_not_read() -> None:
    record = write_status(tuple(Injected(f"container-{i}", API, "s", "token") for i in range(4000)))

    assert len(record) > 256 * 1024
    assert read_status(record) == ()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_template_is_found_for_each_kind(kind: str) -> None:
    found = msgspec.json.decode(encode(workload(pod(), kind)), type=Workload)

    assert isinstance(found.template, PodTemplate)
    assert found.template.spec is not None
    assert found.template.spec.containers is not None
    assert [container.name for container in found.template.spec.containers] == ["web", "daprd"]


@pytest.mark.parametrize("body", [b"{}", b'{"spec":null}', b'{"spec":{}}', b'{"spec":{"jobTemplate":{}}}'])
def test_workload_without_a_template_has_none(body: bytes) -> None:
    assert msgspec.json.decode(body, type=Workload).template is None


def test_repr_of_decoded_object_shows_no_data() -> None:
    container = msgspec.json.decode(encode({"name": "hidden", "env": [literal_env(API, "hidden")]}), type=Container)

    assert "hidden" not in repr(container)
    assert repr(container) == "Container(...)"


def test_reasons_are_lower_case_words_with_dashes() -> None:
    for reason in Reason:
        assert reason.value == reason.name.lower().replace("_", "-")
