from __future__ import annotations

from typing import Any

from injector.kube.owners import controller_of, controllers


def test_controller_is_found_among_other_owners() -> None:
    owners = [
        {"kind": "A", "name": "a"},
        {"apiVersion": "apps/v1", "kind": "B", "name": "b", "uid": "u", "controller": True},
    ]
    assert controller_of({"ownerReferences": owners}) == ("apps/v1", "B", "b", "u")
    assert controller_of({"ownerReferences": owners[:1]}) is None
    assert controller_of({}) is None
    assert controller_of({"ownerReferences": [{"kind": "Node", "controller": True}]}) is None


def owned_by(kind: str, uid: str) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "uid": uid, "controller": True}]}


def test_owners_are_walked_as_far_as_known() -> None:
    known = {"j": owned_by("CronJob", "c"), "c": owned_by("Workflow", "w")}

    assert [one.kind for one in controllers(controller_of(owned_by("Job", "j")), known)] == [
        *("Job", "CronJob", "Workflow"),
    ]
    assert list(controllers(None, known)) == []


def test_owners_that_own_each_other_end_the_walk() -> None:
    known = {"a": owned_by("ReplicaSet", "b"), "b": owned_by("ReplicaSet", "a")}

    assert [one.uid for one in controllers(controller_of(owned_by("ReplicaSet", "a")), known)] == ["a", "b"]
