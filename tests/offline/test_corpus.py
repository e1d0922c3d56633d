"""Manifests as people write them: a change holds nothing but our entries, and taking it back gives the file back.

`corpus/own` collects odd styles. Hundreds of manifests of other projects come from Go modules (`public`) and are
annotated in memory (`annotated`).
"""

from __future__ import annotations

import difflib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from injector.cli.manifests.inject import command as inject
from injector.cli.manifests.uninject import command as uninject
from injector.manifests.documents import read
from tests.controlplane.errors import HarnessError
from tests.offline import public
from tests.offline.annotated import annotated
from tests.unit.manifests import working

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted((CORPUS / "own").iterdir())
PUBLIC = pytest.mark.parametrize("module", public.MODULES)

# What a line of an entry, of the record, or of a list made for an entry can look like in block style.
OURS = re.compile(
    r"""\s*(
        -\ +name:\ (DAPR|APP)_API_TOKEN | valueFrom: | secretKeyRef: | name:\ \S+ | key:\ \S+ | env:
        | dapr-token-injector/status:\ '\{"v":1,"injected":\[.*\]\}'
        | [{}\[\]]+,? | "(name|key)":\ "[-.\w]+",? | "(valueFrom|secretKeyRef|env)":\ ?[{\[]
        | "dapr-token-injector/status":\ ?".*",?
        | ,?\[?\s?\{.*(DAPR|APP)_API_TOKEN.*\}\s?\]?,?
    )\r?\n?""",
    re.VERBOSE,
)
MARKS = ("DAPR_API_TOKEN", "dapr-token-injector/status")


def run(command: object, path: Path, *arguments: str) -> bytes:
    """What a command writes about a file."""
    result = CliRunner().invoke(command, ["-f", str(path), *arguments], standalone_mode=False)  # type: ignore[arg-type] # a click command
    assert result.exception is None, result.stderr
    assert result.return_value == 0, result.stderr
    return result.stdout_bytes


def text_of(path: Path) -> str:
    return path.read_bytes().decode()


@cache
def public_texts(module: str) -> dict[str, str]:
    """The manifests of a module that request a token once they are annotated, by their path."""
    texts = {path: annotated(text, path) for path, text in public.manifests(module).items()}
    return {path: text for path, text in texts.items() if text is not None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_change_contains_only_injected_entries(path: Path) -> None:
    assert not list(foreign_lines(text_of(path), run(inject, path).decode()))


@PUBLIC
def test_change_of_public_manifest_contains_only_injected_entries(module: str) -> None:
    assert not [
        (path, line)
        for path, text in public_texts(module).items()
        for line in foreign_lines(text, working.inject(text))
    ]


def foreign_lines(old: str, new: str) -> Iterator[str]:
    """What a change does other than adding entries, in lines; nothing for a change that is as it should be."""
    before, after = old.split("\n"), new.split("\n")
    if before == after:
        yield "nothing changed"
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        gone, come = before[i1:i2], after[j1:j2]
        if tag == "equal":
            continue
        if tag == "delete":
            yield from gone
        # Every line that gave way is there again, with something of ours inside it or behind it.
        rest = [line for line in come if not OURS.fullmatch(line)]
        for line in gone:
            match = next((new for new in [*rest, *come] if _is_grown(line, new)), None)
            if match is None:
                yield line
            rest = [new for new in rest if new is not match]
        yield from rest


def _is_grown(old: str, new: str) -> bool:
    """Whether a line is another one with an entry, a comma or a line end put into it, and nothing taken out."""
    rest = iter(new)
    if not all(char in rest for char in old):
        return False
    grown = len(new.rstrip("\r")) - len(old.rstrip("\r"))
    return grown == 0 or (grown == 1 and new.count(",") > old.count(",")) or any(mark in new for mark in MARKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_uninject_restores_file_byte_for_byte(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / path.name
    changed.write_bytes(run(inject, path))
    assert run(uninject, changed) == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_diff_is_as_small_as_that_of_diff_u(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / path.name
    changed.write_bytes(run(inject, path))
    texts = text_of(path), text_of(changed)
    assert size(run(inject, path, "-o", "diff")) == size("\n".join(working.diff_u(*texts, tmp_path)).encode())
    assert size(run(uninject, changed, "-o", "diff")) == size(
        "\n".join(working.diff_u(*texts[::-1], tmp_path)).encode()
    )


def size(diff: bytes) -> tuple[int, int, int]:
    """How many hunks, removed and added lines a diff has."""
    marks = [line[:1] for line in diff.split(b"\n")[2:]]
    return marks.count(b"@"), marks.count(b"-"), marks.count(b"+")


@PUBLIC
def test_uninject_restores_public_manifest_byte_for_byte(module: str) -> None:
    texts = public_texts(module)
    assert [path for path, text in texts.items() if working.uninject(working.inject(text)) != text] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_second_inject_of_corpus_changes_nothing(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / path.name
    changed.write_bytes(run(inject, path))
    assert run(inject, changed) == changed.read_bytes()
    assert run(inject, changed, "-o", "diff") == b""


@PUBLIC
def test_second_inject_changes_no_public_manifest(module: str) -> None:
    texts = {path: working.inject(text) for path, text in public_texts(module).items()}
    assert [path for path, text in texts.items() if working.inject(text) != text] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_text_output_equals_json_output(path: Path) -> None:
    edited = read(run(inject, path).decode(), path.name)
    assert [document.value for document in edited if document.value is not None] == [
        json.loads(line) for line in run(inject, path, "-o", "json").splitlines()
    ]


@PUBLIC
def test_text_of_public_manifest_equals_patched_value(module: str) -> None:
    assert [
        path
        for path, text in public_texts(module).items()
        if [document.value for document in read(working.inject(text), path)] != working.patched(text)
    ] == []


def test_hundreds_of_manifests_are_public() -> None:
    assert sum(len(public_texts(module)) for module in public.MODULES) >= 350
    assert all(public_texts(module) for module in public.MODULES)


def test_missing_public_manifests_are_an_error_that_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(HarnessError, match=r"are not in .*: run `python -m tests.prepare unit`"):
        public.manifests("k8s.io/kubernetes")


def test_corpus_has_every_documented_kind() -> None:
    kinds = {each.kind for path in FILES for document in read(text_of(path), path.name) for each in document.objects()}
    promised = "Pod PodTemplate ReplicationController ReplicaSet Deployment StatefulSet DaemonSet Job CronJob Rollout"
    assert kinds >= {*promised.split(), "Service", "JobSet"}
