"""The reference page of the JSON output of `probe`, `token verify` and `version`, held to what they print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from injector.cli import probe_report
from injector.cli.main import main
from injector.core.exposure import Answer, Asked, Exposure, Found, Purpose, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Capture = pytest.CaptureFixture[str]
PAGE: Final = (Path(__file__).parents[3] / "docs/reference/probe-and-token-output.md").read_text()
TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "boolean or null": lambda value: value is None or isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "list of string": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "object": lambda value: isinstance(value, dict),
}


def rows(part: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    below = PAGE.partition(f"\n## {part}\n")[2].partition("\n## ")[0].splitlines()
    table = [line for line in below if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in table]


def fields(part: str) -> dict[str, str]:
    """Type by path, as documented."""
    return {row[0].strip("`").removesuffix("?"): row[1] for row in rows(part) if row[1] in TYPES}


def words(part: str, field: str) -> set[str]:
    """The words that a field's meaning names."""
    (meaning,) = (row[2] for row in rows(part) if row[0].strip("`") == field)
    return set(re.findall(r"`([a-z-]+)`", meaning))


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    """Every path of a document with its value; `[]` stands for any entry of a list of objects."""
    if isinstance(value, dict):
        for name, one in value.items():
            below = f"{path}.{name}" if path else name
            yield below, one
            yield from flat(one, below)
    elif isinstance(value, list):
        for one in value:
            yield from flat(one, f"{path}[]")


def check(part: str, *documents: str) -> None:
    """Between them the documents have every field that the page names, of its type, and no other."""
    seen: set[str] = set()
    for document in documents:
        for path, value in flat(json.loads(document)):
            seen.add(path)
            assert TYPES[fields(part)[path]](value), path
    assert seen == set(fields(part))


def test_fields_of_probe(capsys: Capture) -> None:
    refused, served = Answer.REFUSED, Answer.SERVED
    reports = [
        Report("pod/a", failure="it is not running"),
        Report(
            "pod/b",
            (
                Asked(Purpose.HTTP, 3500, refused, refused, served),
                Asked(Purpose.GRPC, 50001, failure="no answer within 5 s"),
                Asked(Purpose.HTTP, 3501, refused, refused, untried="no token was given"),
            ),
            (Found(Exposure.ENFORCEMENT_OFF, "port 1", "daprd has no DAPR_API_TOKEN"),),
        ),
    ]

    probe_report.show(reports, (), "json")

    check("probe", capsys.readouterr().out)


def test_words_of_probe() -> None:
    assert words("probe", "targets[].verdict") == set(Verdict)
    assert words("probe", "targets[].ports[].purpose") - {"daprd"} == set(Purpose)
    assert words("probe", "targets[].ports[].without") == set(Answer)
    assert words("probe", "targets[].findings[].finding") == set(Exposure)


def test_fields_of_token_verify(tmp_path: Path, capsys: Capture) -> None:
    key, token = tmp_path / "key", tmp_path / "token"
    assert main(["token", "generate", "--signing-key", str(key), "--create-key", "--out", str(token)]) == 0
    capsys.readouterr()
    assert main(["token", "verify", str(token), "--signing-key", str(key), "-o", "json"]) == 0
    told = capsys.readouterr().out

    check("token verify", told)
    assert {one["what"] for one in json.loads(told)["findings"]} == words("token verify", "findings[].what")


def test_fields_of_version(capsys: Capture) -> None:
    assert main(["version", "-o", "json"]) == 0

    check("version", capsys.readouterr().out)


def test_what_is_no_jwt_is_not_signed_by_a_key_that_was_given(tmp_path: Path, capsys: Capture) -> None:
    key, token = tmp_path / "key", tmp_path / "token"
    token.write_bytes(b"eyJhbGciOiJFZDI1NTE5In0.marker")
    assert main(["token", "generate", "--signing-key", str(key), "--create-key"]) == 0
    assert main(["token", "verify", str(token)]) == 0
    capsys.readouterr()

    assert main(["token", "verify", str(token), "--signing-key", str(key)]) == 1

    told = capsys.readouterr().out
    assert "signature  WRONG  it is no JWT, and bears none" in told
    assert "marker" not in told
