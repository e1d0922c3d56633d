from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from injector.words import counted, escaped


@pytest.mark.parametrize(("number", "words"), [(0, "0 files"), (1, "1 file"), (2000, "2,000 files")])
def test_counted_has_its_plural(number: int, words: str) -> None:
    assert counted(number, "file") == words


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Zürich, 東京 😀", "Zürich, 東京 😀"),
        ("\x1b[2J\r\n\t\0\x7f", r"\u001b[2J\u000d\u000a\u0009\u0000\u007f"),
        ("\x9b31m\x85\u2028\u2029", r"\u009b31m\u0085\u2028\u2029"),
        ("\u202e\u2066\u200b\ufeff", r"\u202e\u2066\u200b\ufeff"),
        ("\U000e0041\udc80", r"\udb40\udc41\udc80"),
    ],
)
def test_escaped_line_shows_what_a_terminal_would_act_on(text: str, line: str) -> None:
    assert escaped(text) == line
    assert escaped(line) == line


@given(st.text(st.characters()))
def test_escaped_text_has_no_control_characters(text: str) -> None:
    bad = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [c for c in escaped(text) if unicodedata.category(c) in bad]
    left = {c for c in escaped(text, is_line=False) if unicodedata.category(c) in bad}
    assert left <= {"\n", "\t", "\r"}
    assert "\r" not in escaped(text, is_line=False).replace("\r\n", "")


@given(st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=3), max_leaves=5))
def test_escaped_json_keeps_its_values(value: object) -> None:
    for indent in (None, 2):
        written = json.dumps(value, ensure_ascii=False, indent=indent)
        assert json.loads(escaped(written, is_line=False)) == value
