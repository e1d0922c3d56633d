from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from injector.files import error_text, replacement

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("before", [None, b"before"])
def test_replacement_gives_file_new_content_and_leaves_nothing_else(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with replacement(path) as file:
        file.write(b"after")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"after")]


def test_replacement_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail_halfway() -> None:
        with replacement(path) as file:
            file.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_halfway()
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"before")]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_new_file_has_mode_less_umask(tmp_path: Path, umask: int, mode: int) -> None:
    previous = os.umask(umask)
    try:
        with replacement(tmp_path / "file"), replacement(tmp_path / "private", mode=0o600):
            pass
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacement(tmp_path / "no" / "file"):
        pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "Permission denied", "/secret/path"), "permission denied"),
        (OSError("only words"), "input or output failed"),
    ],
)
def test_error_text_is_lower_case_without_path(error: OSError, text: str) -> None:
    assert error_text(error) == text
