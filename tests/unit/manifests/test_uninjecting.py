"""However many entries a record lists, all of them go, and nothing else does."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml  # type: ignore[import-untyped] # it brings no types

from injector.manifests.documents import read
from injector.manifests.uninjecting import EntryOutcome, evaluate
from tests.builders import pod, secret_env
from tests.unit.manifests.working import uninject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_STATUS: Final = "dapr-token-injector/status"


def _recorded(env: Sequence[dict[str, Any]], record: Sequence[dict[str, str]]) -> dict[str, Any]:
    status = json.dumps({"v": 1, "injected": list(record)})
    return pod({"note": "x", _STATUS: status}, [{"name": "web", "env": list(env)}, {"name": "other"}])


def _entry(variable: str, secret: str = "s") -> dict[str, str]:
    return {"container": "web", "env": variable, "name": secret, "key": "token"}


_WRITERS: Final[Mapping[str, Callable[[Any], str]]] = {
    "json": json.dumps,
    "pretty": lambda value: json.dumps(value, indent=2) + "\n",
    "flow": lambda value: yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=4096),
    "narrow": lambda value: yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=30),
    "block": lambda value: yaml.safe_dump(value, sort_keys=False),
}


@pytest.mark.parametrize("style", _WRITERS)
@pytest.mark.parametrize("ours", list(product([True, False], repeat=4)), ids=str)
def test_uninject_removes_only_recorded_entries(ours: tuple[bool, ...], style: str) -> None:
    env = [secret_env(variable=f"{'OURS' if mine else 'OWN'}_{i}") for i, mine in enumerate(ours)]
    record = [_entry(f"OURS_{i}") for i, mine in enumerate(ours) if mine] or [_entry("GONE")]
    text = _WRITERS[style](_recorded(env, record))

    (document,) = read(uninject(text), "f")

    left: Any = document.value
    web = left["spec"]["containers"][0]
    assert (web.get("env") or []) == [entry for entry in env if entry["name"].startswith("OWN")]
    assert left["metadata"]["annotations"] == {"note": "x"}


@pytest.mark.parametrize("style", _WRITERS)
def test_uninject_removes_hundreds_of_entries_of_one_list(style: str) -> None:
    variables = [f"E{i}" for i in range(300)]
    text = _WRITERS[style](_recorded([secret_env(variable=v) for v in variables], [_entry(v) for v in variables]))

    (document,) = read(uninject(text), "f")

    left: Any = document.value
    assert not left["spec"]["containers"][0].get("env")


def test_uninject_removes_what_it_reports() -> None:
    """Of a name that is there twice only the last entry counts; the one before it is not ours to take."""
    first, last = secret_env("a"), secret_env("b")
    found = _recorded([first, last], [_entry("DAPR_API_TOKEN", "b"), _entry("DAPR_API_TOKEN", "a")])
    (document,) = read(json.dumps(found), "f")

    (result,) = evaluate(document)
    (after,) = read(uninject(json.dumps(found)), "f")

    assert [outcome for _, outcome in result.entries] == [EntryOutcome.REMOVED, EntryOutcome.CHANGED]
    left: Any = after.value
    assert left["spec"]["containers"][0]["env"] == [first]


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "DAPR_API_TOKEN", "value": "x"},
        {"name": "DAPR_API_TOKEN", "valueFrom": None},
        {"name": "DAPR_API_TOKEN", "valueFrom": {"fieldRef": {"name": "s", "key": "token"}}},
        {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": "s"}},
        {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": 1}}},
        secret_env(optional=True),
        {**secret_env(), "value": ""},
    ],
)
def test_uninject_keeps_entry_that_differs(variable: dict[str, Any]) -> None:
    found = _recorded([variable], [_entry("DAPR_API_TOKEN")])

    (document,) = read(uninject(json.dumps(found)), "f")

    left: Any = document.value
    assert left["spec"]["containers"][0]["env"] == [variable]
