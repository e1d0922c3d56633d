from __future__ import annotations

import pytest

from injector.lint.location import Identity, Ordinals, Path, kind_label, label, spelled
from injector.lint.model import Level
from injector.manifests.errors import ManifestError

OBJECT = {
    "spec": {
        "containers": [{"name": "web"}, {"name": "web"}, {"name": 5}, "text"],
        "template": {"metadata": {"annotations": {"dapr.io/enabled": "true"}}},
    }
}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ((), ""),
        (("spec", "containers", 0, "env"), "spec.containers[web].env"),
        (("spec", "containers", 1), "spec.containers[web #2]"),
        (("spec", "containers", 2), "spec.containers[2]"),
        (("spec", "containers", 3, "env"), "spec.containers[3].env"),
        (("spec", "containers", 9, "env", 1), "spec.containers[9].env[1]"),
        (
            ("spec", "template", "metadata", "annotations", "dapr.io/enabled"),
            "spec.template.metadata.annotations[dapr.io/enabled]",
        ),
        (("data", "a key"), "data[a key]"),
    ],
)
def test_paths_are_spelled_by_names(path: Path, words: str) -> None:
    assert spelled(OBJECT, path, Ordinals()) == words


@pytest.mark.parametrize(
    ("level", "other", "answer"),
    [(Level.ERROR, Level.WARNING, True), (Level.INFO, Level.WARNING, False), (Level.INFO, Level.INFO, True)],
)
def test_levels_have_an_order(level: Level, other: Level, *, answer: bool) -> None:
    assert level.at_least(other) is answer


def test_label_hides_possible_token() -> None:
    assert label("orders") == "orders"
    assert label("a\x1b[31m") == "a?[31m"
    assert label("eyJhbGciOiJub25lIn0") == "(a value of 19 characters (not shown: it may be a token))"


def test_kind_is_shown_if_it_is_valid() -> None:
    assert kind_label("ReplicationController") == "ReplicationController"
    assert kind_label("a\nb") == kind_label(5) == kind_label("x" * 99) == "Object"


def test_object_is_named_as_by_kubectl() -> None:
    assert str(Identity("Pod", "shop", "orders")) == "Pod shop/orders"
    assert str(Identity("Pod", "", "orders")) == "Pod orders"
    assert str(Identity("Pod")) == "Pod"


def test_unreadable_document_is_reported_with_known_place() -> None:
    assert str(ManifestError("a.yaml", 2, 7, "not YAML")) == "a.yaml:7: document 2: not YAML"
    assert str(ManifestError("a.yaml", 0, 0, "permission denied")) == "a.yaml: permission denied"
