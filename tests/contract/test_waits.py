"""Tests wait long enough for a busy machine: the deadline of a wait is not an assertion."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS: Final = Path(__file__).parents[1]
WAITS: Final = {"wait_for", "eventually"}
LEAST_SECONDS: Final = 90


def short_waits(source: str) -> Iterator[int]:
    """The lines with a wait whose deadline, as a literal or a constant of the module, is too short."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or getattr(call.func, "id", getattr(call.func, "attr", "")) not in WAITS:
            continue
        for keyword in call.keywords:
            value = keyword.value
            seconds = constants.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
            if keyword.arg == "timeout_seconds" and isinstance(seconds, (int, float)) and seconds < LEAST_SECONDS:
                yield call.lineno


def test_waits_of_tests_are_long_enough_for_a_busy_machine() -> None:
    found = {
        str(path.relative_to(TESTS)): lines
        for path in sorted(TESTS.rglob("*.py"))
        if "timeout_seconds" in (source := path.read_text("utf-8")) and (lines := list(short_waits(source)))
    }
    assert found == {}


def test_short_wait_is_found_by_value_and_by_name() -> None:
    source = 'SHORT = 5\nwait_for("x", y, timeout_seconds=30)\nself.wait_for("x", y, timeout_seconds=SHORT)\n'
    assert list(short_waits(source + 'wait_for("x", y, timeout_seconds=90)\nwait_for("x", y)\n')) == [2, 3]
