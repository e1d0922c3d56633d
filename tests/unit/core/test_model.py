"""Reading records and workloads."""

from __future__ import annotations

import msgspec
import pytest

from injector.core.model import (
    Container,
    Injected,
    PodTemplate,
    Reason,
    ReviewedWorkload,
    SourceKind,
    read_record,
    write_status,
)
from tests.builders import encode, literal_env, pod, workload

API, APP = "DAPR_API_TOKEN", "APP_API_TOKEN"


def test_record_round_trip() -> None:
    record = (
        Injected("web", API, "s", "token"),
        Injected("web", APP, "c", "k", SourceKind.CONFIG_MAP, replaced=True),
    )

    assert read_record(write_status(record)).injected == record


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
    assert read_record(text).injected == ()


def test_oversized_record_is_not_read() -> None:
    record = write_status(tuple(Injected(f"container-{i}", API, "s", "token") for i in range(4000)))

    assert len(record) > 256 * 1024
    assert read_record(record).injected == ()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_template_is_found_for_each_kind(kind: str) -> None:
    found = msgspec.json.decode(encode(workload(pod(), kind)), type=ReviewedWorkload)

    assert isinstance(found.template, PodTemplate)
    assert found.template.spec is not None
    assert found.template.spec.containers is not None
    assert [container.name for container in found.template.spec.containers] == ["web", "daprd"]


@pytest.mark.parametrize("body", [b"{}", b'{"spec":null}', b'{"spec":{}}', b'{"spec":{"jobTemplate":{}}}'])
def test_workload_without_a_template_has_none(body: bytes) -> None:
    assert msgspec.json.decode(body, type=ReviewedWorkload).template is None


def test_repr_of_decoded_object_shows_no_data() -> None:
    container = msgspec.json.decode(encode({"name": "hidden", "env": [literal_env(API, "hidden")]}), type=Container)

    assert "hidden" not in repr(container)
    assert repr(container) == "Container(...)"


def test_reasons_are_lower_case_words_with_dashes() -> None:
    for reason in Reason:
        assert reason.value == reason.name.lower().replace("_", "-")
