"""Placeholders of Flux, envsubst, Helm, Argo CD, vals, Azure and others."""

from __future__ import annotations

import pytest

from injector.core.placeholders import has_placeholder, is_placeholder

PLACEHOLDERS = [
    "${X}",
    "${X:=y}",
    "${NAMESPACE:-shop}",
    "$(X)",
    "$(pipeline.secret-name)",
    "{{ .Values.name }}",
    "{{x}}",
    "#{X}#",
    "#{X}",
    "<X>",
    "<path:secret/data/dapr#token>",
    "%X%",
    "@@X@@",
    "ref+vault://dapr/token",
]


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_placeholder_is_recognised_alone_and_inside(text: str) -> None:
    assert is_placeholder(text)
    assert has_placeholder(text)
    assert has_placeholder(f"a-{text}-b")
    assert not is_placeholder(f"a-{text}")


@pytest.mark.parametrize(
    "text",
    ["", "dapr-api-token", "a$b", "$X", "${}", "$()", "$(a b)", "{x}", "{{}}", "100%", "%%", "a@b", "@@@@", "<>"],
)
def test_other_text_is_not_a_placeholder(text: str) -> None:
    assert not is_placeholder(text)
    assert not has_placeholder(text)


@pytest.mark.parametrize("begin", ["${", "$(a", "{{", "#{", "<", "%a", "@@", "ref+", "ref+a://", "@", "%"])
def test_hostile_text_is_read_once(begin: str) -> None:
    """Each start of a placeholder read to the end of the text would take hours: the time limit of a test ends it."""
    text = begin * (4_000_000 // len(begin))

    has_placeholder(text)
    is_placeholder(text)


def test_placeholder_behind_the_longest_name_is_not_searched() -> None:
    assert not has_placeholder("a" * 512 + "${X}")
