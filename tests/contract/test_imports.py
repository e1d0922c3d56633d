"""Allowed imports between packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CORE: Final = sorted((ROOT / "injector/core").glob("*.py"))
# Modules of the standard library without side effects.
VALUES: Final = frozenset(
    {
        "__future__",
        "base64",
        "collections",
        "dataclasses",
        "enum",
        "fnmatch",
        "functools",
        "itertools",
        "ipaddress",
        "operator",
        "re",
        "typing",
        "weakref",
    }
)
CODEC: Final = frozenset({"env.py", "model.py", "observed.py", "review.py"})


def test_import_contracts_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_imports_allowed_modules_only(path: Path) -> None:
    allowed = VALUES | {"injector"} | ({"msgspec"} if path.name in CODEC else set())

    assert {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))} <= allowed


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_imports_no_other_package_of_the_project(path: Path) -> None:
    ours = {name for name in imported(ast.parse(path.read_text())) if name.partition(".")[0] == "injector"}

    assert all(name.startswith("injector.core") for name in ours)


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_core_neither_prints_nor_opens_nor_evaluates(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert not called & {"print", "open", "input", "eval", "exec", "__import__", "compile", "breakpoint"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every imported module, at any level of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""
