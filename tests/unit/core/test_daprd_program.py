"""Which containers run daprd, whatever their names are."""

from __future__ import annotations

import pytest

from injector.core.sidecar import is_daprd


def runs(image: str = "", command: tuple[str, ...] = ()) -> bool:
    return is_daprd(image, command)


@pytest.mark.parametrize(
    "image",
    [
        "daprd",
        "daprio/daprd",
        "docker.io/daprio/daprd:1.18.4",
        "daprio/daprd:1.9.5-mariner",
        "localhost:5000/daprd",
        "registry.example.com:5000/mirror/dapr/daprd:edge@sha256:0123456789abcdef",
        "ghcr.io/dapr/daprd@sha256:0123456789abcdef",
        "daprio/dapr:1.18.4",
        "docker.io/daprio/dapr",
    ],
)
def test_image_of_any_registry_tag_or_digest_is_recognized(image: str) -> None:
    assert runs(image=image)


@pytest.mark.parametrize("word", ["daprd", "/daprd", "./daprd", "/usr/local/bin/daprd"])
def test_command_is_recognized(word: str) -> None:
    assert runs(image="example/tools", command=(word, "-app-id", "orders"))
    assert runs(image="daprio/dapr", command=(word,))


@pytest.mark.parametrize(
    ("image", "command"),
    [
        ("", ()),
        ("example/orders", ()),
        ("example/daprd-exporter:1", ()),
        ("example/orders:daprd", ()),
        ("daprd.example.com/orders", ()),
        ("example/dapr", ()),
        ("daprio/dapr:1.18.4", ("/placement",)),
        ("daprio/dashboard", ()),
        ("example/orders", ("daprd-wait",)),
        ("example/orders", ("sh", "-c", "daprd")),
    ],
)
def test_other_programs_are_not_daprd(image: str, command: tuple[str, ...]) -> None:
    assert not runs(image, command)
