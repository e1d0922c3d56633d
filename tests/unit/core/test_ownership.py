from __future__ import annotations

import pytest

from injector.core import names
from injector.core.ownership import MARKS, DataWriter, SecretKey, SecretRef, TokenSecret, managed_by

REF = SecretRef("shop", "s")
KEY = "token"
OURS = {names.MANAGED_BY: names.MANAGER}


def writer(manager: str, time: int | None, *keys: str) -> DataWriter:
    return DataWriter(manager, time, frozenset(keys or {KEY}))


def secret(**more: object) -> TokenSecret:
    return TokenSecret(ref=REF, **{"labels": OURS, **more})  # type: ignore[arg-type] # fields by name


def owner(found: TokenSecret) -> str | None:
    tool = managed_by(found, KEY)
    return tool.name if tool else None


def test_secret_prints_as_namespace_and_name() -> None:
    assert str(REF) == "shop/s"


def test_key_of_a_secret_prints_with_its_secret() -> None:
    key = SecretKey.of(REF, "token")
    assert (key.secret, str(key)) == (REF, "shop/s key token")


def test_labelled_secret_with_our_field_manager_is_ours() -> None:
    assert owner(secret()) is None
    assert owner(secret(writers=(writer(names.MANAGER, 1),))) is None


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"{mark.owner}: {mark.key}")
@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_secret_marked_by_another_tool_is_foreign(mark: object, where: str) -> None:
    key, value, name = mark.key, mark.value, mark.owner  # type: ignore[attr-defined] # a private type
    marks = {**OURS, key + ("x" if key.endswith(("/", "-")) else ""): value or "y"}

    assert owner(secret(**{where: marks})) == name


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"owners": ("SealedSecret/s",)}, "SealedSecret/s"),
        ({"writers": (writer(names.MANAGER, 1), writer("kubectl-edit", 2))}, "kubectl-edit"),
        ({"labels": {}, "writers": (writer("kubectl-create", 1),)}, "kubectl-create"),
        ({"labels": {}}, "another tool"),
        ({"labels": {names.MANAGED_BY: "terraform"}}, "another tool"),
    ],
)
def test_other_field_manager_is_named(more: dict[str, object], name: str) -> None:
    assert owner(secret(**more)) == name


def test_secret_that_tools_copy_from_stays_ours() -> None:
    annotations = {
        "reflector.v1.k8s.emberstack.com/reflection-allowed": "true",
        "replicator.v1.mittwald.de/replicate-to": "shop",
        "kubed.appscode.com/sync": "",
    }
    assert owner(secret(annotations=annotations)) is None


@pytest.mark.parametrize(
    ("writers", "changed"),
    [
        ((), None),
        ((writer("a", 5),), 5),
        ((writer("a", 5), writer("b", 9)), 9),
        ((writer("a", 5), writer("b", None)), None),
    ],
)
def test_change_time_is_that_of_the_last_writer(writers: tuple[DataWriter, ...], changed: int | None) -> None:
    assert secret(writers=writers).changed(KEY) == changed


def test_writer_of_another_key_neither_owns_nor_changes_ours() -> None:
    found = secret(writers=(writer(names.MANAGER, 5), writer("kubectl-patch", 9, "other")))
    assert owner(found) is None
    assert found.changed(KEY) == 5
    assert managed_by(found, "other") is not None


def test_mark_of_a_tool_counts_for_any_keys() -> None:
    marked = secret(labels={**OURS, "app.kubernetes.io/instance": "shop"}, writers=(writer("argocd", 9, "other"),))
    assert owner(marked) == "Argo CD"
