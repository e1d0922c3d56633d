"""Properties of lint: any JSON is checked without an internal error, and the order of files does not matter."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from injector.core.model import Policy
from injector.lint import report
from injector.lint.linter import Linter, Report

_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "orders",
        "namespace": "shop",
        "labels": {"dapr.io/watchdog-patched": "true"},
        "annotations": {
            "dapr.io/enabled": "true",
            "dapr.io/api-token-secret": "tokens",
            "dapr.io/app-token-secret": "tokens",
            "dapr-token-injector/api-token-key": "token",
            "dapr-token-injector/app-containers": "web",
            "dapr.io/env": "A=b",
        },
    },
    "spec": {
        "initContainers": [{"name": "daprd", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "web",
                "env": [
                    {"name": "DAPR_API_TOKEN", "value": "x"},
                    {
                        "name": "DAPR_API_TOKEN",
                        "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "token", "optional": True}},
                    },
                    {"name": "APP_API_TOKEN", "valueFrom": {"configMapKeyRef": {"name": "tokens", "key": "token"}}},
                ],
                "envFrom": [{"prefix": "A_", "secretRef": {"name": "tokens"}}],
            },
            {"name": "daprd", "env": [{"name": "DAPR_API_TOKEN"}]},
        ],
    },
}
_FILE = {"volumeName": "dapr-token-injector-seal", "path": "tokens.env", "key": "DAPR_API_TOKEN"}
_READ = {"name": "DAPR_API_TOKEN", "valueFrom": {"fileKeyRef": _FILE}}
_SEALED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "orders",
        "annotations": {**_POD["metadata"]["annotations"], "dapr-token-injector/seal": "true"},
    },
    "spec": {
        "volumes": [
            {"name": "dapr-token-injector-seal", "emptyDir": {"medium": "Memory"}},
            {"name": "v", "secret": {"secretName": "tokens", "items": [{"key": "token", "path": "t"}]}},
            {"name": "w", "projected": {"sources": [{"secret": {"name": "tokens"}}]}},
        ],
        "initContainers": [
            {
                "name": "dapr-token-injector-seal",
                "command": ["dapr-token-injector", "seal"],
                "args": ["DAPR_API_TOKEN"],
                "env": [{"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "token"}}}],
                "volumeMounts": [{"name": "dapr-token-injector-seal", "mountPath": "/dapr-token-injector/seal"}],
            },
            {
                "name": "dapr-token-injector-seal-check",
                "command": ["dapr-token-injector", "seal", "--check"],
                "args": ["DAPR_API_TOKEN"],
                "env": [_READ],
            },
        ],
        "containers": [
            {"name": "daprd", "env": [_READ]},
            {
                "name": "web",
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "token"}}}],
                "envFrom": [{"secretRef": {"name": "tokens"}}],
            },
        ],
    },
}
_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": _POD["metadata"],
    "spec": {"template": {"metadata": _POD["metadata"], "spec": _POD["spec"]}},
}
_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "tokens", "namespace": "shop"},
    "data": {"token": "YWJj", "other": ""},
    "stringData": {"token": "abc"},
}
_WHOLE = (_POD, _SEALED, _DEPLOYMENT, _SECRET, {"apiVersion": "v1", "kind": "List", "items": [_SECRET, _POD]})

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for step, child in children for deeper in _paths(child, (*path, step)))]


@st.composite
def damaged(draw: st.DrawFn) -> object:
    """An object that every rule checks, with other values in a few places."""
    whole: Any = {"root": copy.deepcopy(draw(st.sampled_from(_WHOLE)))}
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(_paths(whole)[1:]))
        node = whole
        for step in parents:
            node = node[step]
        node[last] = draw(_anything)
    return whole["root"]


def linted(files: list[tuple[str, object]]) -> Report:
    linter = Linter(Policy())
    for name, value in files:
        linter.read(name, json.dumps(value))
    return linter.report()


@given(st.lists(damaged(), min_size=1, max_size=3))
def test_any_json_is_checked_without_an_internal_error(values: list[object]) -> None:
    found = linted([(f"{index}.json", value) for index, value in enumerate(values)])
    for finding in found.findings:
        assert finding.message.isascii()
        assert finding.message.isprintable()
        assert finding.location.line == 1
        assert finding.location.column >= 1
    for form in report.FORMATS.values():
        assert all(line.isascii() or form in {report.json, report.sarif} for line in form(found))


@given(st.lists(damaged(), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_order_of_files_does_not_change_findings(values: list[object], random: Any) -> None:  # noqa: ANN401 - random.Random
    files = [(f"{index}.json", value) for index, value in enumerate(values)]
    first = linted(files)
    random.shuffle(files)
    assert linted(files).findings == first.findings
