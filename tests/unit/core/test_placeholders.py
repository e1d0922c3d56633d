"""Placeholders of Flux, envsubst, Helm, Argo CD, vals, Azure and others."""

from __future__ import annotations

import time

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
def test_other_text_is_no_placeholder(text: str) -> None:
    assert not is_placeholder(text)
    assert not has_placeholder(text)


@pytest.mark.parametrize("begin", ["${", "$(a", "{{", "#{", "<", "%a", "@@", "ref+", "ref+a://", "@", "%"])
def test_hostile_text_takes_time_in_proportion_to_its_length(begin: str) -> None:
    text = begin * 300_000
    started = time.process_time()
    has_placeholder(text)
    is_placeholder(text)
    # It takes milliseconds; twice the length would take four times as long if a part was read again and again.
    assert time.process_time() - started < 5


def test_placeholder_behind_the_longest_name_is_not_searched() -> None:
    assert not has_placeholder("a" * 512 + "${X}")
