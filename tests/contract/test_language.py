"""Prose uses the terms of Kubernetes: documentation, charts, manifests, help texts, messages and docstrings.

`WORDS` lists the expressions to avoid, each with its replacement. Comments and the names of cases count in tests.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest

from injector.cli.main import commands as root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
_TESTS: Final = ROOT / "tests"

WORDS: Final = {
    "told, tells, said": "reports, logs, returns, shows; reported, logged",
    "anew": "again",
    "mend, mends, mended, mending": "fix, repair",
    "meanwhile": "in the meantime, or the period: during the rollout",
    "beside": "next to, alongside, in addition to",
    "whoever": "users who can ..., or the name of the client",
    "nobody, somebody, everybody, everyone": "no process, another controller; name the user or component",
    "dear": "expensive",
    "go on serving, goes on serving, went on serving, going on serving": "keep serving, keeps serving",
    "left alone, leave alone, leaves alone": "not modified, skipped",
    "ask for, asks for, asked for, asking for": "request, requests, requested",
    "parted by": "separated by",
    "stands in, stand in, stood in, stands there, stand there, stood there": "is in, is already set, replaces",
    "our own fault": "internal error",
    "wrong use": "usage error",
    "old token, old tokens, stale": "outdated token",
    "whose a Secret is, whose the Secret is, whose it is": "which tool manages the Secret",
}


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of prose; `line` is that of its first line, 0 for a text that has no place in a file."""

    where: str
    line: int
    content: str


_GAP: Final = re.compile(r"[\s#]+")  # a phrase may be wrapped, also in a comment
_REPLACEMENTS: Final = {
    expression.lower(): better for expressions, better in WORDS.items() for expression in expressions.split(", ")
}
_NEGATIONS: Final = {"is no": "is not a", "are no": "are not"}
# Not in "there is no" and "is no longer".
_NEGATION: Final = rf"(?<!\bthere)(?<![\s#]) ({'|'.join(_NEGATIONS)})\b(?! (?:longer|more|better)\b)"
_AVOIDED: Final = re.compile(rf"\b({'|'.join(_REPLACEMENTS)})\b|{_NEGATION}".replace(" ", _GAP.pattern), re.IGNORECASE)


def findings(texts: Iterable[Text]) -> list[str]:
    """One line for each expression to avoid: file, line, expression, replacement."""
    found = []
    for text in texts:
        for match in _AVOIDED.finditer(text.content):
            line = text.line + text.content.count("\n", 0, match.start(match.lastindex or 0))
            expression = _GAP.sub(" ", match[0]).strip().lower()
            better = (_REPLACEMENTS | _NEGATIONS)[expression]
            found.append(f"{text.where}:{line}: {expression}: write {better}")
    return found


def _whole(path: Path) -> Text:
    return Text(str(path.relative_to(ROOT)), 1, path.read_text())


def _strings(path: Path) -> Iterator[Text]:
    """The string literals of a module, docstrings among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(str(path.relative_to(ROOT)), node.lineno, node.value)


def _comments(where: str, source: str) -> Text:
    """The comments of a module, each in its line."""
    lines = [""] * (source.count("\n") + 1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = token.string
    return Text(where, 1, "\n".join(lines))


def _prose(path: Path) -> Iterator[Text]:
    """The string literals and the comments of a module."""
    if path not in _LISTS:
        yield from _strings(path)
    if _AVOIDED.search(source := path.read_text()):
        yield _comments(str(path.relative_to(ROOT)), source)


def _package(path: Path) -> str:
    """The package of a module of ours; a module at the top counts as one."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 2 else parts)  # injector/name.py


_LISTS: Final = {_TESTS / "contract" / name for name in ("test_language.py", "test_names.py")}  # of words to avoid
_MODULES: Final = sorted((*(ROOT / "injector").rglob("*.py"), *_TESTS.rglob("*.py")))
_PACKAGES: Final = sorted(set(map(_package, _MODULES)))
_PAGES: Final = sorted(
    page for pattern in ("*.md", ".github/*.md", "docs/**/*.md", "charts/**/*.md") for page in ROOT.glob(pattern)
)
_MANIFESTS: Final = sorted(
    path
    for folder in ("charts", "deploy", ".github/workflows")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".yaml", ".tpl", ".txt", ".sh"} or path.parent.name == "kind"
)
_BUILD: Final = [ROOT / name for name in ("Makefile", "pyproject.toml", "Dockerfile")]
_SCRIPTS: Final = sorted(path for folder in ("charts", "deploy") for path in (ROOT / folder).rglob("*.py"))


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            child = command.get_command(context, word)
            assert child
            yield from _commands(child, f"{name} {word}")


_COMMANDS: Final = dict(_commands(root, "dapr-token-injector"))


def _help(name: str, command: click.Command) -> Iterator[Text]:
    """What `--help` shows of a command."""
    for text in (command.help, command.short_help, command.epilog):
        yield Text(name, 0, text or "")
    for parameter in command.params:
        yield Text(f"{name} {'/'.join(parameter.opts)}", 0, getattr(parameter, "help", None) or "")


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_uses_the_terms_of_kubernetes(page: Path) -> None:
    assert findings([_whole(page)]) == []


@pytest.mark.parametrize("path", [*_MANIFESTS, *_BUILD, *_SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_manifest_uses_the_terms_of_kubernetes(path: Path) -> None:
    assert findings(_prose(path) if path.suffix == ".py" else [_whole(path)]) == []


@pytest.mark.parametrize("package", _PACKAGES)
def test_package_uses_the_terms_of_kubernetes(package: str) -> None:
    found = findings(text for path in _MODULES if _package(path) == package for text in _prose(path))

    assert found == []


def test_case_uses_the_terms_of_kubernetes() -> None:
    files = sorted(_TESTS.rglob("*.yaml"))
    folders = sorted({file.parent for file in files})
    names = (Text(str(folder.relative_to(ROOT)), 0, folder.name.replace("-", " ")) for folder in folders)

    assert findings([*names, *map(_whole, files)]) == []


def test_help_uses_the_terms_of_kubernetes() -> None:
    assert findings(text for name, command in _COMMANDS.items() for text in _help(name, command)) == []


def test_finding_in_comments_has_the_line_of_the_first() -> None:
    found = findings([_comments("m.py", 'told = "told"\nx = 1  # asks\n# for a token\n')])

    assert found == ["m.py:2: asks for: write request, requests, requested"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("It reports the error.", []),
        ("First.\nThe error is told.", ["page.md:2: told: write reports, logs, returns, shows; reported, logged"]),
        ("Pods that Ask\n# for a token", ["page.md:1: ask for: write request, requests, requested"]),
        ("mending", ["page.md:1: mending: write fix, repair"]),
        ("amended, besides, stand-in", []),
        ("A name\n# is no key.", ["page.md:2: is no: write is not a"]),
        ("There is no key, there\n  are no keys, and it is no longer one.", []),
    ],
)
def test_finding_has_file_line_word_and_replacement(content: str, found: list[str]) -> None:
    assert findings([Text("page.md", 1, content)]) == found
