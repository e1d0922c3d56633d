from __future__ import annotations

from injector.kube.owners import controller_of


def test_controller_is_found_among_other_owners() -> None:
    owners = [
        {"kind": "A", "name": "a"},
        {"apiVersion": "apps/v1", "kind": "B", "name": "b", "uid": "u", "controller": True},
    ]
    assert controller_of({"ownerReferences": owners}) == ("apps/v1", "B", "b", "u")
    assert controller_of({"ownerReferences": owners[:1]}) is None
    assert controller_of({}) is None
