"""Which containers run daprd, whatever their names are."""

from __future__ import annotations

import msgspec
import pytest

from injector.core.model import Container
from injector.core.program import runs_daprd
from tests.builders import encode


def runs(**members: object) -> bool:
    return runs_daprd(msgspec.json.decode(encode({"name": "dapr", **members}), type=Container))


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
    assert runs(image="example/tools", command=[word, "-app-id", "orders"])
    assert runs(image="daprio/dapr", command=[word])


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"image": "example/orders"},
        {"image": "example/daprd-exporter:1"},
        {"image": "example/orders:daprd"},
        {"image": "daprd.example.com/orders"},
        {"image": "example/dapr"},
        {"image": "daprio/dapr:1.18.4", "command": ["/placement"]},
        {"image": "daprio/dashboard"},
        {"image": "example/orders", "command": ["daprd-wait"]},
        {"image": "example/orders", "command": ["sh", "-c", "daprd"]},
        {"image": "example/orders", "command": []},
        {"image": None, "command": None},
    ],
)
def test_other_programs_are_not_daprd(members: dict[str, object]) -> None:
    assert not runs(**members)
