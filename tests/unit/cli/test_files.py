from __future__ import annotations

import io
import os
import socket
from typing import TYPE_CHECKING

import pytest

from injector.cli.manifests import files
from injector.cli.manifests.files import InputSource, UnreadableError, blocks, find

if TYPE_CHECKING:
    from pathlib import Path


def found(*arguments: str, exclude: tuple[str, ...] = ()) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of the selected files, and the messages about others."""
    message: list[tuple[str, str]] = []
    names = [source.name for source in find(arguments, exclude, lambda name, why: message.append((name, why)))]
    return names, message


def why_not(source: InputSource) -> str:
    with pytest.raises(UnreadableError) as caught:
        list(blocks(source))
    return str(caught.value)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a: 1\n")


def test_a_folder_is_searched_in_order_for_what_is_called_a_manifest(folder: Path) -> None:
    write(folder, "b.yaml", "a/z.yml", "a/b.json", "c.txt", ".git/x.yaml", "a/.hidden.yaml", "B.YAML.bak")
    assert found(".") == (["a/b.json", "a/z.yml", "b.yaml"], [])


def test_a_file_that_is_named_may_be_called_anything(folder: Path) -> None:
    write(folder, "manifest", ".hidden.yaml")
    assert found("manifest", "./.hidden.yaml") == (["manifest", ".hidden.yaml"], [])


def test_each_file_is_read_once(folder: Path) -> None:
    write(folder, "a/b.yaml")
    assert found("a", "a/b.yaml", "./a", "-", "-") == (["a/b.yaml", "<stdin>"], [])


def test_file_with_several_names_is_read_once_by_its_first(folder: Path) -> None:
    write(folder, "a/b.yaml", "z.yaml")
    (folder / "link.yaml").symlink_to("a/b.yaml")
    assert found("a/../a/b.yaml", str(folder / "a" / "b.yaml"), ".") == (["a/../a/b.yaml", "z.yaml"], [])


def test_empty_argument_is_not_the_current_folder(folder: Path) -> None:
    write(folder, "a.yaml")
    assert found("") == ([], [("''", "the name of a file or folder is empty")])


def test_name_with_control_characters_is_escaped(folder: Path) -> None:
    write(folder, "a\n\x1b[31m.yaml")
    assert found(".") == (["a\\u000a\\u001b[31m.yaml"], [])


def test_patterns_leave_out_files_and_folders(folder: Path) -> None:
    write(folder, "charts/a.yaml", "deploy/charts/b.yaml", "deploy/c.yaml", "deploy/values.yaml")
    assert found(".", exclude=("charts", "*/values.yaml")) == (["deploy/c.yaml"], [])
    assert found(".", exclude=("charts",)) == (["deploy/c.yaml", "deploy/values.yaml"], [])


def test_link_that_leads_back_is_reported_and_not_followed(folder: Path) -> None:
    write(folder, "a/b/c.yaml")
    (folder / "a/b/up").symlink_to("..")
    (folder / "a/here").symlink_to(".")
    (folder / "linked").symlink_to("a/b")
    names, message = found(".")
    assert names == ["a/b/c.yaml"]
    assert message == [(name, "a link to a parent folder; not followed") for name in ("a/b/up", "a/here")]


def test_folder_entry_that_is_not_a_file_is_skipped(folder: Path) -> None:
    write(folder, "a.yaml")
    (folder / "gone.yaml").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.yaml")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket.yaml"))
        assert found(".") == (["a.yaml"], [("gone.yaml", "no such file or directory")])


def test_folder_with_nothing_to_read_is_reported(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert found("empty") == ([], [("empty", "no file in this folder ends with .yaml, .yml, .json")])


def test_folder_that_cannot_be_listed_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "a/b.yaml", "c.yaml")
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    assert found(".") == (["c.yaml"], [("a", "permission denied")])


def test_name_that_is_not_text_can_be_printed(folder: Path) -> None:
    (folder / os.fsdecode(b"a\xff.yaml")).write_text("a: 1\n")
    names, _ = found(".")
    assert names == ["a\ufffd.yaml"]


def test_text_comes_in_blocks_with_its_line_ends(folder: Path) -> None:
    (folder / "a.yaml").write_bytes(b"a: 1\r\n" * 30_000)
    pieces = list(blocks(InputSource("a.yaml", folder / "a.yaml")))
    assert len(pieces) > 1
    assert "".join(pieces) == "a: 1\r\n" * 30_000


def test_file_that_cannot_be_read_is_reported_in_a_line(folder: Path) -> None:
    (folder / "binary").write_bytes(b"\x00\x01\x02")
    (folder / "latin").write_bytes(b"a: \xe4")
    assert why_not(InputSource("x", folder / "absent")) == "no such file or directory"
    assert why_not(InputSource("x", folder)) == "is a directory"
    assert why_not(InputSource("x", folder / "binary")) == "binary, not YAML or JSON"
    assert why_not(InputSource("x", folder / "latin")) == "not UTF-8 text"


def test_a_very_large_file_is_not_read(folder: Path) -> None:
    with (folder / "large.yaml").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    assert why_not(InputSource("x", folder / "large.yaml")) == "larger than 64 MiB, the limit for a manifest"


def test_standard_input_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE", 10)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\n" * 3)))
    assert "larger than" in why_not(InputSource("<stdin>", None))


def test_url_is_not_read_and_the_error_names_curl() -> None:
    url = "https://example.com/deploy.yaml"
    assert found(url) == ([], [(url, "URLs are not read; use curl -fsSL URL and pipe its output to `-`")])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_file_is_named_as_such(folder: Path, encoding: str) -> None:
    (folder / "a.yaml").write_bytes("\ufeffa: 1\n".encode(encoding))
    assert why_not(InputSource("a.yaml", folder / "a.yaml")).startswith("UTF-16 text, as `>` of PowerShell writes it")


def test_utf_16_on_standard_input_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\ufeffa: 1\n".encode("utf-16-le"))))
    assert why_not(InputSource("<stdin>", None)).startswith("UTF-16 text")
