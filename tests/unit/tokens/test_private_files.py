"""Files for secrets on unusual file systems and next to other writers."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from injector.cli.main import main
from injector.tokens import private_files
from injector.tokens.key_stores import FileKeyStore, KeyStoreError

Capture = pytest.CaptureFixture[str]
SECRET: Final = b"marker-0123456789abcdef"
GENERATE: Final = ["token", "generate", "--format", "opaque", "--out"]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system such as FAT."""

    def refuse(*_args: object, **_more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_links")
def test_create_without_hard_links_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "token"

    assert private_files.create(out, SECRET)
    assert not private_files.create(out, b"another")
    assert (out.read_bytes(), mode(out)) == (SECRET, 0o600)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.usefixtures("no_links")
def test_failed_create_without_hard_links_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)

    assert main([*GENERATE, str(tmp_path / "token")]) == 2
    assert "cannot be written: input/output error" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_file_system_without_modes_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """As a FAT volume shows every file: others may read it, whichever mode was requested."""
    make = os.open

    def for_all(path: str | Path, flags: int, *more: int) -> int:
        descriptor = make(path, flags, *more)
        if flags & os.O_CREAT:
            os.fchmod(descriptor, 0o755)
        return descriptor

    monkeypatch.setattr(os, "open", for_all)

    assert main([*GENERATE, str(tmp_path / "token")]) == 2
    assert "the file system has no file modes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_create_writes_to_tmpfs() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        out = Path(folder) / "token"

        assert private_files.create(out, SECRET)
        assert not private_files.create(out, b"another")
        assert mode(out) == 0o600


# --- links ---


def test_link_to_nothing_is_filled_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/next")
    (tmp_path / "folder" / "next").symlink_to(tmp_path / "token")

    assert private_files.create(tmp_path / "link", SECRET)
    assert (tmp_path / "token").read_bytes() == SECRET
    assert (tmp_path / "link").is_symlink()


def test_circular_links_are_rejected(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert main([*GENERATE, str(tmp_path / "a"), "--force"]) == 2
    assert "too many levels of symbolic links" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_link_of_another_user_in_sticky_folder_is_rejected(flags: list[str], tmp_path: Path, capsys: Capture) -> None:
    public, target = tmp_path / "public", tmp_path / "target"
    public.mkdir()
    public.chmod(0o1777)
    target.write_bytes(b"precious")
    link = public / "token"
    link.symlink_to(target if flags else tmp_path / "new")
    os.lchown(link, 12345, 12345)

    assert main([*GENERATE, str(link), *flags]) == 2
    assert "a link of another user in a world-writable folder, which is not followed" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "new").exists()


def test_own_link_in_sticky_folder_is_followed(tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o1777)
    (public / "token").symlink_to(tmp_path / "token")

    assert private_files.create(public / "token", SECRET)
    assert (tmp_path / "token").read_bytes() == SECRET


# --- two at once ---


def key_of(path: Path) -> list[str]:
    return [key["kid"] for key in json.loads(path.read_bytes())["keys"]]


@pytest.mark.slow
def test_concurrent_rotations_lose_no_key(tmp_path: Path) -> None:
    """By the file's own name and by a link to it."""
    key, link = tmp_path / "key.json", tmp_path / "other" / "link.json"
    link.parent.mkdir()
    link.symlink_to(key)
    assert main(["token", "generate", "--signing-key", str(key), "--create-key"]) == 0
    before = key_of(key)
    command = [sys.executable, "-m", "injector", "token", "generate", "--rotate-key", "--signing-key"]

    many = [
        subprocess.Popen([*command, str(one)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for one in (key, link, key, link)
    ]
    output = [process.communicate()[1] for process in many]

    assert [process.returncode for process in many] == [0] * 4, output
    after = key_of(key)
    assert len(after) == len(set(after)) == 5
    assert after[-1:] == before
    assert link.is_symlink()
    assert mode(key) == 0o600


def test_rotation_waits_for_the_lock(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    assert main(["token", "generate", "--signing-key", str(key), "--create-key"]) == 0
    before = key.read_bytes()
    command = [sys.executable, "-m", "injector", "token", "generate", "--rotate-key", "--signing-key", str(key)]

    with private_files.locked(key):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert key.read_bytes() == before
        process.kill()  # half-way
        process.wait()

    assert key.read_bytes() == before
    assert list(tmp_path.iterdir()) == [key]
    assert main(["token", "generate", "--rotate-key", "--signing-key", str(key)]) == 0


def test_change_without_lock_is_detected(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    store = FileKeyStore(key)
    found = asyncio.run(store.read())
    assert found is not None
    assert found.content == SECRET
    key.write_bytes(b"{}")

    with pytest.raises(KeyStoreError, match="changed by another program, so the file was not modified"):
        asyncio.run(store.replace(b"new", found))
    assert key.read_bytes() == b"{}"


def test_rotation_works_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key.json"
    assert main(["token", "generate", "--signing-key", str(key), "--create-key"]) == 0

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    assert main(["token", "generate", "--rotate-key", "--signing-key", str(key)]) == 0
    assert len(key_of(key)) == 2
