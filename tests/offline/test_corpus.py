"""Manifests as people write them: a change holds nothing but our entries, and taking it back gives the file back.

`corpus/public` comes from public projects (see NOTICE); `corpus/own` collects odd styles.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from injector.cli.manifests.inject import command as inject
from injector.cli.manifests.uninject import command as uninject
from injector.manifests.documents import read

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for folder in ("public", "own") for path in (CORPUS / folder).iterdir())

# What a line of an entry, of the record, or of a list made for an entry can look like in block style.
OURS = re.compile(
    r"""\s*(
        -\ +name:\ (DAPR|APP)_API_TOKEN | valueFrom: | secretKeyRef: | name:\ \S+ | key:\ \S+ | env:(\ &copy-of-\S+)?
        | dapr-token-injector/status:\ '\{"v":1,"injected":\[.*\]\}'
        | [{}\[\]]+,? | "(name|key)":\ "[-.\w]+",? | "(valueFrom|secretKeyRef|env)":\ ?[{\[]
        | "dapr-token-injector/status":\ ?".*",?
        | ,?\[?\s?\{.*(DAPR|APP)_API_TOKEN.*\}\s?\]?,?
    )\r?\n?""",
    re.VERBOSE,
)
# Words for nothing, and aliases: they give way to a list, or to a copy of one.
GAVE_WAY = re.compile(r"null|~|\*\w+")
MARKS = ("DAPR_API_TOKEN", "dapr-token-injector/status", "&copy-of-")


def run(command: object, path: Path, *arguments: str) -> bytes:
    """What a command writes about a file."""
    result = CliRunner().invoke(command, ["-f", str(path), *arguments], standalone_mode=False)  # type: ignore[arg-type] # a click command
    assert result.exception is None, result.stderr
    assert result.return_value == 0, result.stderr
    return result.stdout_bytes


def text_of(path: Path) -> str:
    return path.read_bytes().decode()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_change_holds_nothing_but_our_entries(path: Path) -> None:
    before, after = text_of(path).split("\n"), run(inject, path).decode().split("\n")
    assert before != after
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        gone, come = before[i1:i2], after[j1:j2]
        if tag == "equal":
            continue
        assert tag != "delete"
        # Every line that gave way is there again, with something of ours inside it or behind it.
        rest = [line for line in come if not OURS.fullmatch(line)]
        for line in gone:
            match = next((new for new in [*rest, *come] if _is_grown(line, new)), None)
            assert match is not None, (line, come)
            rest = [new for new in rest if new is not match]
        assert all(_is_copy(line, before) for line in rest), rest


def _is_grown(old: str, new: str) -> bool:
    """Whether a line is another one with an entry, a comma or a line end put into it, and nothing taken out."""
    rest = iter(new)
    if not all(char in rest for char in GAVE_WAY.sub("", old)):
        return False
    grown = len(new.rstrip("\r")) - len(old.rstrip("\r"))
    return grown == 0 or (grown == 1 and new.count(",") > old.count(",")) or any(mark in new for mark in MARKS)


def _is_copy(line: str, before: list[str]) -> bool:
    """Whether a line repeats one of a list that was copied, quotes and indentation aside."""
    plain = {re.sub(r"[\s'\"{}\[\],-]", "", one) for one in before}
    word = re.sub(r"[\s'\"{}\[\],-]", "", line)
    return any(word in one for one in plain)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_uninject_gives_the_file_back_byte_for_byte(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / path.name
    changed.write_bytes(run(inject, path))
    assert run(uninject, changed) == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_second_time_changes_nothing(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / path.name
    changed.write_bytes(run(inject, path))
    assert run(inject, changed) == changed.read_bytes()
    assert run(inject, changed, "-o", "diff") == b""


def test_the_corpus_is_large_and_half_of_it_is_public_and_named() -> None:
    public = sorted(path.name for path in (CORPUS / "public").iterdir())
    assert len(FILES) >= 50
    assert 2 * len(public) >= len(FILES)
    notice = (CORPUS / "NOTICE").read_text(encoding="utf-8")
    named = re.findall(r"^  (\S+): \S+$", notice, re.MULTILINE)
    assert sorted(named) == public
    assert notice.count("https://github.com/") >= 5


def test_the_corpus_holds_every_kind_that_the_reader_promises() -> None:
    kinds = {each.kind for path in FILES for document in read(text_of(path), path.name) for each in document.objects()}
    promised = "Pod PodTemplate ReplicationController ReplicaSet Deployment StatefulSet DaemonSet Job CronJob Rollout"
    assert kinds >= {*promised.split(), "Service", "JobSet"}
