"""Operations on positions in the caller's own JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from injector.core import patch
from injector.core.containers import Place, Target
from injector.core.env import EnvList
from injector.core.model import Injected, PatchOp, SourceKind, TokenRef
from injector.core.plan import Change, Plan

if TYPE_CHECKING:
    from injector.core.model import ListName

API, APP = "DAPR_API_TOKEN", "APP_API_TOKEN"
S = TokenRef("s", "token")
STATUS_PATH = "/metadata/annotations/dapr-token-injector~1status"


def place(exists: bool, list_name: ListName = "containers", index: int = 1) -> Place:  # noqa: FBT001 - one per test
    """A sidecar with or without a list of variables."""
    return Place(Target.SIDECAR, list_name, index, "daprd", EnvList(exists))


def operations(*changes: Change, record: tuple[Injected, ...] = ()) -> list[PatchOp]:
    """The operations of these changes, without the record."""
    made = patch.build(Plan(changes, (), frozenset(), record, (), (), has_target=True))
    return [operation for operation in made if operation.path != STATUS_PATH]


def entry(name: str = API, secret: str = "s", key: str = "token") -> dict[str, object]:
    """A variable as it must be in a patch."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def test_plan_without_changes_has_no_patch() -> None:
    record = (Injected("daprd", API, "s", "token"),)

    assert patch.build(Plan((), (), frozenset(), record, (), (), has_target=True)) == ()


def test_entry_is_appended_to_a_list() -> None:
    assert operations(Change(place(exists=True), API, S)) == [PatchOp("add", "/spec/containers/1/env/-", entry())]


def test_missing_list_is_created() -> None:
    assert operations(Change(place(exists=False), API, S)) == [PatchOp("add", "/spec/containers/1/env", [entry()])]


def test_list_is_created_once() -> None:
    missing = place(exists=False)

    found = operations(Change(missing, API, S), Change(missing, APP, TokenRef("t", "k")))

    assert found == [
        PatchOp("add", "/spec/containers/1/env", [entry()]),
        PatchOp("add", "/spec/containers/1/env/-", entry(APP, "t", "k")),
    ]


def test_list_is_created_in_each_container() -> None:
    found = operations(
        Change(place(exists=False), API, S),
        Change(place(exists=False, list_name="initContainers"), API, S),
        Change(place(exists=False, index=2), API, S),
    )

    assert [operation.path for operation in found] == [
        "/spec/containers/1/env",
        "/spec/initContainers/1/env",
        "/spec/containers/2/env",
    ]


@pytest.mark.parametrize("at", [0, 7])
def test_entry_is_replaced_in_place(at: int) -> None:
    found = operations(Change(place(exists=True), API, S, at))

    assert found == [PatchOp("replace", f"/spec/containers/1/env/{at}", entry())]


def test_config_map_reference_stays_a_config_map_reference() -> None:
    (found,) = operations(Change(place(exists=True), API, TokenRef("c", "k", SourceKind.CONFIG_MAP)))

    assert found.value == {"name": API, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}


def test_record_comes_last_under_an_escaped_name() -> None:
    record = (Injected("daprd", API, "s", "token"),)

    *_, last = patch.build(
        Plan((Change(place(exists=True), API, S),), (), frozenset(), record, (), (), has_target=True)
    )

    assert last == PatchOp(
        "add",
        STATUS_PATH,
        '{"v":1,"injected":[{"container":"daprd","env":"DAPR_API_TOKEN","name":"s","key":"token"}]}',
    )


def test_names_are_escaped_for_json_pointer() -> None:
    # In this order: the other one would make `~01` of a slash.
    assert patch._escape("a/b~c/~d") == "a~1b~0c~1~0d"


def test_changes_without_a_record_write_none() -> None:
    plan = Plan((Change(place(exists=True), API, S),), (), frozenset(), (), (), (), has_target=True)

    assert patch.build(plan) == (PatchOp("add", "/spec/containers/1/env/-", entry()),)


ENV = "/spec/containers/1/env"


@pytest.mark.parametrize(
    ("api", "app", "expected"),
    [
        ({"before": 2}, {"before": 4}, [("add", 2), ("add", 5)]),
        ({"before": 2}, {"before": 2}, [("add", 2), ("add", 3)]),
        ({"before": 2}, {"before": 1}, [("add", 2), ("add", 1)]),
        ({"before": 2}, {}, [("add", 2), ("add", "-")]),
        ({}, {"before": 0}, [("add", "-"), ("add", 0)]),
        ({"before": 0}, {"replaces": 0}, [("add", 0), ("replace", 1)]),
        ({"before": 2}, {"replaces": 1}, [("add", 2), ("replace", 1)]),
        ({"replaces": 3}, {"before": 0}, [("replace", 3), ("add", 0)]),
        ({"replaces": 0}, {"before": 3}, [("replace", 0), ("add", 3)]),
    ],
)
def test_positions_count_the_insertion_before(
    api: dict[str, Any], app: dict[str, Any], expected: list[tuple[str, object]]
) -> None:
    here, other = place(exists=True), place(exists=True, index=2)
    t = TokenRef("t", "k")

    found = operations(Change(here, API, S, **api), Change(other, API, S, before=0), Change(here, APP, t, **app))

    values = [entry(), entry(APP, "t", "k")]
    ours = [PatchOp(op, f"{ENV}/{at}", value) for (op, at), value in zip(expected, values, strict=True)]  # type: ignore[arg-type]
    assert found == [ours[0], PatchOp("add", "/spec/containers/2/env/0", entry()), ours[1]]


def test_insertions_are_counted_per_list() -> None:
    inner, outer = place(exists=True, list_name="initContainers"), place(exists=True)

    found = operations(Change(outer, API, S, before=0), Change(inner, APP, S, before=1))

    assert [operation.path for operation in found] == [f"{ENV}/0", "/spec/initContainers/1/env/1"]
