from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from injector.core.model import Policy
from injector.lint.location import Identity
from injector.lint.template import TemplateOwner, workload
from injector.lint.values import at, find_key, items, mapping, text
from injector.manifests.documents import Template
from tests.unit.lint.builders import lint

if TYPE_CHECKING:
    from injector.lint.location import Path

ENABLED = {"annotations": {"dapr.io/enabled": "true"}}


def view(pod: dict[str, Any]) -> TemplateOwner:
    """What rules see of a Pod."""
    return workload(Identity("Pod"), pod, (), [Template((), pod)], Policy())


def flaw(spec: object) -> tuple[Path, str] | None:
    """What is wrong with a Pod's `spec`, and where below it."""
    (template,) = view({"metadata": ENABLED, "spec": spec}).templates
    return None if template.flaw is None else (template.flaw.path[1:], template.flaw.message)


@pytest.mark.parametrize(
    "spec", [None, {}, {"containers": None}, {"containers": []}, {"containers": [{"name": "a", "env": None}]}]
)
def test_absent_or_null_fields_are_valid(spec: object) -> None:
    assert flaw(spec) is None


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"containers": {}}, ("containers",)),
        ({"containers": "web"}, ("containers",)),
        ({"containers": [{"name": "a"}, "web"]}, ("containers", 1)),
        ({"initContainers": [{"name": 5}]}, ("initContainers", 0, "name")),
        ({"containers": [{"name": "a", "restartPolicy": True}]}, ("containers", 0, "restartPolicy")),
        ({"containers": [{"name": "a", "env": {}}]}, ("containers", 0, "env")),
        (
            {"containers": [{"name": "a", "env": [{"name": "DAPR_API_TOKEN", "valueFrom": 5}]}]},
            ("containers", 0, "env"),
        ),
        ({"containers": [{"name": "a\ud800"}]}, ("containers", 0)),
        (
            {
                "containers": [
                    {"name": "a", "env": [{"name": "DAPR_API_TOKEN", "valueFrom": 5}, {"name": "DAPR_API_TOKEN"}]}
                ]
            },
            ("containers", 0, "env", 0),
        ),
    ],
)
def test_malformed_field_is_a_flaw_with_its_path(spec: object, path: Path) -> None:
    found = flaw(spec)
    assert found is not None
    assert found[0] == path


def test_flaw_in_list_item_has_path_of_item() -> None:
    pod = '{"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"dapr.io/enabled": "true"}}, "spec": %s}'
    report = lint(
        '{"apiVersion": "v1", "kind": "List", "items": [\n' + pod % "{}" + ",\n" + pod % '{"containers": 1}' + "]}"
    )
    assert [(finding.rule.id, finding.location.line, finding.location.path) for finding in report.findings] == [
        ("DTI016", 3, "spec.containers")
    ]


def test_overridden_entries_are_checked_too() -> None:
    env = [
        {"name": "DAPR_API_TOKEN", "value": "x"},
        5,
        {"name": "OTHER", "value": "x"},
        {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "APP_API_TOKEN"},
    ]
    pod = {"spec": {"containers": [{"name": "web", "env": [entry for entry in env if entry != 5]}]}}
    (template,) = view(pod).templates
    (container,) = template.containers
    assert [(entry.path[-1], entry.variable, entry.is_last) for entry in container.entries] == [
        (0, "DAPR_API_TOKEN", False),
        (2, "DAPR_API_TOKEN", True),
        (3, "APP_API_TOKEN", True),
    ]


def test_no_view_shows_values() -> None:
    pod = {
        "metadata": {"annotations": {"dapr.io/env": "secret"}},
        "spec": {"containers": [{"name": "secret", "env": []}]},
    }
    seen = view(pod)
    assert "secret" not in repr(seen) + repr(seen.templates[0]) + repr(seen.templates[0].containers)


def test_malformed_values_are_walked_without_error() -> None:
    assert at({"a": [{"b": 1}]}, ("a", 0, "b")) == 1
    assert at({"a": [1]}, ("a", 1)) is at({"a": "text"}, ("a", 0)) is at(None, ("a",)) is None
    assert mapping(["a"]) == {}
    assert mapping({1: 2, "a": 3}) == {"a": 3}
    assert items("text") == items({"a": 1}) == ()
    assert text(5) == ""


def test_key_is_found_at_any_depth_in_the_order_of_the_file() -> None:
    keys = {"a", "b"}
    assert find_key({"x": [1, {"y": {"b": 1}}, {"a": 1}], "a": 1}, keys) == ("x", 1, "y", "b")
    assert find_key({"x": ["a", {"y": "b"}], "": None}, keys) is None
    assert find_key(None, keys) is find_key("a", keys) is find_key([], keys) is None
    deep: object = {"a": 1}
    for _ in range(100_000):
        deep = [deep]
    found = find_key(deep, keys)
    assert found is not None
    assert len(found) == 100_001
