from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from injector.config.policy import load_policy
from injector.config.settings import Given, in_namespace, load
from injector.core.errors import ConfigError
from injector.regular_files import read_regular
from injector.webhook.certs.pair import CertificateError, read_pair
from tests.http.certificates import NOW, Files, Issuer, key_pem, new_key

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 10


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def unix_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    return path


def link_to_fifo(path: Path) -> Path:
    path.symlink_to(fifo(path.with_suffix(".fifo")))
    return path


def device(_: Path) -> Path:
    return Path("/dev/zero")


SPECIAL = (fifo, folder, unix_socket, link_to_fifo, device)


def test_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"x" * (LIMIT + 1))
    link.symlink_to(file)
    assert read_regular(file, LIMIT) == read_regular(link, LIMIT) == b"x" * LIMIT
    assert read_regular(file, LIMIT + 5) == b"x" * (LIMIT + 1)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", LIMIT)


# Reading a FIFO without a writer would wait for ever: the test would end by its timeout.
@pytest.mark.parametrize("make", SPECIAL)
def test_special_file_is_rejected_without_blocking(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(make(tmp_path / "special"), LIMIT)


def test_fifo_that_replaces_a_file_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, regular = fifo(tmp_path / "fifo"), tmp_path / "file"
    regular.touch()
    status = regular.stat()
    monkeypatch.setattr(os, "stat", lambda _: status)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(path, LIMIT)


@pytest.mark.parametrize("make", SPECIAL)
def test_special_file_is_rejected_as_certificate_or_key(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    key, special = new_key(), make(tmp_path / "special")
    files = Files.write(tmp_path, Issuer().issue(key), key_pem(key))
    for pair, what in (((special, files.key), "certificate"), ((files.chain, special), "private key")):
        with pytest.raises(CertificateError) as caught:
            read_pair(*pair, NOW)
        assert caught.value.problems == (f"the {what} file {special} cannot be read: not a regular file",)


@pytest.mark.parametrize("make", SPECIAL)
def test_special_file_is_rejected_as_policy(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    special = make(tmp_path / "special")
    with pytest.raises(ConfigError) as caught:
        load_policy(special)
    assert [str(problem) for problem in caught.value.problems] == [f"{special}: cannot be read: not a regular file"]


def test_special_file_is_rejected_as_namespace_file(tmp_path: Path) -> None:
    given = Given({}, {})
    with pytest.raises(ConfigError, match="--namespace"):
        in_namespace(load(given), given, fifo(tmp_path / "namespace"))
