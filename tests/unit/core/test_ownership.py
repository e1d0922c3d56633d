from __future__ import annotations

import pytest

from injector.core import names
from injector.core.ownership import MARKS, DataWriter, SecretRef, TokenSecret, owner_of

REF = SecretRef("shop", "s")
OURS = {names.MANAGED_BY: names.MANAGER}


def secret(**more: object) -> TokenSecret:
    return TokenSecret(ref=REF, **{"labels": OURS, **more})  # type: ignore[arg-type] # fields by name


def owner(found: TokenSecret) -> str | None:
    told = owner_of(found)
    return told.name if told else None


def test_secret_is_told_as_people_write_it() -> None:
    assert str(REF) == "shop/s"


def test_secret_with_our_label_that_only_we_wrote_is_ours() -> None:
    assert owner(secret()) is None
    assert owner(secret(writers=(DataWriter(names.MANAGER, 1),))) is None


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"{mark.owner}: {mark.key}")
@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_any_mark_of_a_tool_makes_it_foreign(mark: object, where: str) -> None:
    key, value, name = mark.key, mark.value, mark.owner  # type: ignore[attr-defined] # a private type
    told = {**OURS, key + ("x" if key.endswith(("/", "-")) else ""): value or "y"}

    assert owner(secret(**{where: told})) == name


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"owners": ("SealedSecret/s",)}, "SealedSecret/s"),
        ({"writers": (DataWriter(names.MANAGER, 1), DataWriter("kubectl-edit", 2))}, "kubectl-edit"),
        ({"labels": {}, "writers": (DataWriter("kubectl-create", 1),)}, "kubectl-create"),
        ({"labels": {}}, "somebody else"),
        ({"labels": {names.MANAGED_BY: "terraform"}}, "somebody else"),
    ],
)
def test_whoever_else_wrote_it_is_named(more: dict[str, object], name: str) -> None:
    assert owner(secret(**more)) == name


def test_sources_that_tools_copy_from_stay_ours() -> None:
    told = {
        "reflector.v1.k8s.emberstack.com/reflection-allowed": "true",
        "replicator.v1.mittwald.de/replicate-to": "shop",
        "kubed.appscode.com/sync": "",
    }
    assert owner(secret(annotations=told)) is None


@pytest.mark.parametrize(
    ("writers", "changed"),
    [
        ((), None),
        ((DataWriter("a", 5),), 5),
        ((DataWriter("a", 5), DataWriter("b", 9)), 9),
        ((DataWriter("a", 5), DataWriter("b", None)), None),
    ],
)
def test_data_changed_when_its_last_writer_wrote(writers: tuple[DataWriter, ...], changed: int | None) -> None:
    assert secret(writers=writers).changed == changed
