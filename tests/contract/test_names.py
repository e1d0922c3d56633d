"""Names in code are the terms of Kubernetes, and a class and a test have names of their own.

No two classes of the product have the same name, so that a name has one meaning and a search one result. A test's name
is short enough for a list of failures.

`CLASSES`, `VALUES` and `MODULES` list the names to avoid, each with its replacement. They are compared as whole names,
without leading underscores: `ca_settle_time`, the name of a setting, is not `settle`. Only definitions count, because a
caller cannot choose the name of what it calls.

General words such as `one`, `each` and `found` are deliberately not listed. They are used for the element of a short
loop or comprehension, or for the value under test, whose type is on the same line or in the call before.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST_TEST_NAME: Final = 69

CLASSES: Final = {
    "Holder": "PodUsage",
    "Use": "SecretUsage",
    "Age": "TokenState",
    "Hold": "SkipReason",
    "Keeper": "CertificateSource",
    "Pulse": "LoopMonitor",
    "Independent": "ConcurrentTasks",
    "Waits": "RotationDelays",
}
VALUES: Final = {  # functions, variables, parameters and attributes
    "told": "message",
    "tell": "report",
    "said": "message",
    "at_once": "max_concurrent",
    "settle": "propagation_delay",
    "waves": "batches",
    "is_settled": "rollout_complete",
    "masked": "redact_words",
    "guarded": "redact_secret_values",
    "doing": "operation",
    "of_refusal": "error_from_status",
}
MODULES: Final = {
    "given": "explicit_options",
    "targets": "secret_refs",
    "place": "target",
    "creating": "create",
    "listing": "list",
    "rotating": "rotate",
    "observing": "observe",
    "reading": "decode",
    "writing": "manifests",
    "strangers": "non_dapr_servers",
    "dying": "crash_after_write",
    "warped": "manual_clock",
    "broken": "invalid_command",
    "world": "fake_cluster",
    "scene": "scenario",
    "material": "fixtures",
}


# What a source must have for a finding, without a look at its syntax.
_SUSPECT: Final = re.compile(rf"\b_*(?:{'|'.join((*CLASSES, *VALUES))})\b|\btest_\w{{{LONGEST_TEST_NAME - 4},}}")


def findings(where: str, source: str) -> list[str]:
    """One line for each name to avoid in a module: file, line, name, replacement."""
    stem = Path(where).stem.removeprefix("test_")
    found = [(1, stem, f"write {MODULES[stem]}")] if stem in MODULES else []
    for node in ast.walk(ast.parse(source)) if _SUSPECT.search(source) else ():
        for line, name, better in _defined(node):
            plain = name.lstrip("_")
            if plain in better:
                found.append((line, name, f"write {better[plain]}"))
            if name.startswith("test_") and len(name) > LONGEST_TEST_NAME:
                found.append((line, name, f"write at most {LONGEST_TEST_NAME} characters"))
    return [f"{where}:{line}: {name}: {advice}" for line, name, advice in sorted(found)]


def _defined(node: ast.AST) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The names that a node defines, each with its line and the names to avoid of its kind."""
    match node:
        case ast.ClassDef(name=name):
            yield node.lineno, name, CLASSES
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield node.lineno, name, VALUES
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield node.lineno, name, VALUES
        case ast.arg(arg=name) | ast.alias(asname=str(name)):
            yield node.lineno, name, VALUES
        case _:
            pass


def shared_names(sources: dict[str, str]) -> dict[str, list[str]]:
    """The names that several classes have, each with the modules of these classes."""
    modules: dict[str, list[str]] = {}
    for module, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                modules.setdefault(node.name, []).append(module)
    return {name: found for name, found in modules.items() if len(found) > 1}


def _package(path: Path) -> str:
    """The package of a module; a module at the top of `injector` or `tests` counts as one."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 2 else parts)  # injector/name.py


_PACKAGES: Final[dict[str, list[Path]]] = {}
for _path in sorted((*(ROOT / "injector").rglob("*.py"), *(ROOT / "tests").rglob("*.py"))):
    _PACKAGES.setdefault(_package(_path), []).append(_path)


@pytest.mark.parametrize("package", _PACKAGES)
def test_package_defines_no_name_to_avoid(package: str) -> None:
    found = [
        finding for path in _PACKAGES[package] for finding in findings(str(path.relative_to(ROOT)), path.read_text())
    ]

    assert found == []


def test_no_two_classes_of_the_product_have_one_name() -> None:
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "injector").rglob("*.py")}
    assert shared_names(sources) == {}


def test_class_with_the_name_of_another_is_found() -> None:
    sources = {"a.py": "class Row: ...\nclass _State: ...", "b.py": "import a\nclass Row(a.Row): ...", "c.py": ""}
    assert shared_names(sources) == {"Row": ["a.py", "b.py"]}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("message = told", []),
        ("ca_settle_time = 1", []),
        ("told = 1", ["m.py:1: told: write message"]),
        ("\nclass _Hold:\n    doing: str", ["m.py:2: _Hold: write SkipReason", "m.py:3: doing: write operation"]),
        ("def f(settle): self.said = 1", ["m.py:1: said: write message", "m.py:1: settle: write propagation_delay"]),
        ("import a as told", ["m.py:1: told: write message"]),
        ("def test_" + "x" * 64 + "(): ...", []),
        ("def test_" + "x" * 65 + "(): ...", [f"m.py:1: test_{'x' * 65}: write at most 69 characters"]),
    ],
)
def test_finding_has_file_line_name_and_replacement(source: str, found: list[str]) -> None:
    assert findings("m.py", source) == found


def test_finding_in_the_name_of_a_module() -> None:
    assert findings("tests/unit/test_world.py", "") == ["tests/unit/test_world.py:1: world: write fake_cluster"]
