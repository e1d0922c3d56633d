from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from injector.manifests.diff import unified
from injector.manifests.layout import Splice, apply
from tests.unit.manifests.working import diff_u

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

lines = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=30)
pieces = st.lists(st.tuples(lines, st.none() | lines), max_size=6)
_NO_NEWLINE = "\\ No newline at end of file\n"


def applied(old: str, diff: list[str]) -> str:
    """What a patch program makes of a text, every context line checked."""
    source = [line + "\n" for line in old.split("\n")]
    source[-1] = source[-1][:-1]
    source = [line for line in source if line]
    out: list[str] = []
    at = 0
    for line in diff[2:]:
        head = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n", line)
        if head:
            start = int(head[1]) - (head[2] != "0")
            out += source[at:start]
            at = start
            assert len(out) == int(head[3]) - (head[4] != "0")
            continue
        mark, text = line[0], line[1:].removesuffix("\n" + _NO_NEWLINE)
        if mark in " -":
            assert source[at] == text
            at += 1
        if mark in " +":
            out.append(text)
    return "".join(out + source[at:])


@given(pieces, st.tuples(st.booleans(), st.booleans()))
def test_diff_of_chunks_turns_old_text_into_new(
    given_pieces: list[tuple[list[str], list[str] | None]], ends: tuple[bool, bool]
) -> None:
    sides = [["".join(old), "".join(old if new is None else new)] for old, new in given_pieces]
    if sides:
        sides[-1][0] = sides[-1][0] if ends[0] else sides[-1][0].removesuffix("\n")
        sides[-1][1] = sides[-1][1] if ends[1] else sides[-1][1].removesuffix("\n")
    edits = [(old, [Splice(0, len(old), new)] if old != new else []) for old, new in sides]
    lines = list(unified("a/f", "b/f", edits))
    before, after = ("".join(side[i] for side in sides) for i in (0, 1))
    if before == after and all(old == new for old, new in sides):
        assert lines == []
    elif lines:
        assert lines[:2] == ["--- a/f\n", "+++ b/f\n"]
        assert applied(before, lines) == after


def test_very_different_texts_have_a_valid_diff() -> None:
    before, after = "".join(f"{i}\n" for i in range(700)), "".join(f"x{i}\n" for i in range(700))
    assert applied(before, diff_of(before, [Splice(0, len(before), after)])) == after


def diff_of(text: str, splices: Sequence[Splice]) -> list[str]:
    return list(unified("a", "b", [(text, splices)]))


@given(st.text("ab\n", max_size=60), st.lists(st.integers(0, 60), max_size=8), st.lists(st.text("ab\n"), max_size=4))
def test_diff_of_splices_turns_old_text_into_new(text: str, offsets: list[int], new: list[str]) -> None:
    places = sorted(min(offset, len(text)) for offset in offsets)
    splices = [
        Splice(*place, insert) for place, insert in zip(zip(places[::2], places[1::2], strict=False), new, strict=False)
    ]
    after = apply(text, splices)
    lines = diff_of(text, splices)
    assert applied(text, lines) == after
    assert (lines == []) == (text == after)


@given(lines, lines)
def test_diff_of_one_edit_is_the_smallest(old: list[str], new: list[str]) -> None:
    stay = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, before in enumerate(old):
        for j, after in enumerate(new):
            stay[i + 1][j + 1] = stay[i][j] + 1 if before == after else max(stay[i][j + 1], stay[i + 1][j])
    text = "".join(old)
    found = diff_of(text, [Splice(0, len(text), "".join(new))])
    assert changed(found) == len(old) + len(new) - 2 * stay[-1][-1]


def changed(diff: Sequence[str]) -> int:
    """How many lines a diff removes and adds."""
    return sum(line[0] in "-+" for line in diff[2:])


@pytest.mark.parametrize("gap", range(1, 12))
def test_hunks_are_those_of_diff_u(gap: int, tmp_path: Path) -> None:
    text = "".join(f"{i}\n" for i in range(30))
    at, end = text.index("9\n"), text.index(f"{10 + gap}\n")
    splices = [Splice(at, at + 1, "x"), Splice(end, end, "y\n"), Splice(len(text), len(text), "z")]
    assert "".join(diff_of(text, splices)[2:]).splitlines() == diff_u(text, apply(text, splices), tmp_path)[2:]
