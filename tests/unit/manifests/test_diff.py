from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from injector.manifests.diff import Diff

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
    lines: list[str] = []
    diff = Diff("a/f", "b/f", lines.append)
    for old, new in sides:
        diff.feed(old, new)
    diff.finish()
    before, after = ("".join(side[i] for side in sides) for i in (0, 1))
    if before == after and all(old == new for old, new in sides):
        assert lines == []
    elif lines:
        assert lines[:2] == ["--- a/f\n", "+++ b/f\n"]
        assert applied(before, lines) == after


def test_very_different_texts_have_a_valid_diff() -> None:
    lines: list[str] = []
    diff = Diff("a", "b", lines.append)
    before, after = "".join(f"{i}\n" for i in range(700)), "".join(f"x{i}\n" for i in range(700))
    diff.feed(before, after)
    diff.finish()
    assert applied(before, lines) == after
