"""Finds and reads the files that the arguments name: files, folders and `-`.

A problem with a file is reported in one line, and the other files are still read. Folders are read in the order of
their names; a link that leads back to a parent folder is reported once and not followed.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from injector.files import error_text
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

# Files that are read from a folder. A file that is named as an argument may have any suffix.
SUFFIXES: Final = (".yaml", ".yml", ".json")
# Our own limit. The API server accepts objects of 3 MiB, so a larger file is not a manifest.
MAX_FILE: Final = 64 * 1024 * 1024  # bytes
_BLOCK: Final = 64 * 1024  # characters
STDIN: Final = "-"
_URLS: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class InputSource:
    """A file, or standard input; messages use `name`."""

    name: str
    path: Path | None


class UnreadableError(Exception):
    """A file cannot be read as manifests; the message has the reason and no part of the text."""


def find(arguments: Sequence[str], exclude: Sequence[str], report: Callable[[str, str], None]) -> Iterator[InputSource]:
    """Yield every file that `arguments` name, each once, by its first name.

    Args:
        arguments: Files, folders, and `-` for standard input.
        exclude: Shell-style patterns of paths, or of their last part, that are skipped in folders.
        report: Called with the name and the problem of a file or folder.
    """
    seen: set[str | None] = set()
    for argument in arguments:
        for source in _of(argument, exclude, report):
            place = os.path.realpath(source.path) if source.path is not None else None
            if place not in seen:
                seen.add(place)
                yield source


def blocks(source: InputSource) -> Iterator[str]:
    """Yield the text of a file in blocks, with its line ends unchanged.

    Raises:
        UnreadableError: It cannot be opened, is too large, or is not text.
    """
    try:
        if source.path is None:
            yield from _blocks(_stdin())
            return
        with source.path.open(encoding="utf-8", newline="") as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE:
                raise UnreadableError(_TOO_LARGE)
            yield from _blocks(file)
    except UnicodeDecodeError as error:
        is_utf_16 = error.start == 0 and error.object.startswith(_UTF_16)
        raise UnreadableError(_NOT_UTF_8 if is_utf_16 else "not UTF-8 text") from None
    except OSError as error:
        raise UnreadableError(error_text(error)) from None


_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_NOT_UTF_8: Final = "UTF-16 text, as `>` of PowerShell writes it; save it as UTF-8 (Out-File -Encoding utf8)"
_TOO_LARGE: Final = f"larger than {MAX_FILE >> 20} MiB, the limit for a manifest"


def _stdin() -> TextIO:
    sys.stdin.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr] # a real stream outside of tests
    return sys.stdin


def _blocks(file: TextIO) -> Iterator[str]:
    size = 0
    while block := file.read(_BLOCK):
        size += len(block)
        if size > MAX_FILE:
            raise UnreadableError(_TOO_LARGE)
        if "\0" in block:
            raise UnreadableError("binary, not YAML or JSON")
        yield block


def _of(argument: str, exclude: Sequence[str], report: Callable[[str, str], None]) -> Iterator[InputSource]:
    path = Path(argument)
    if argument == STDIN:
        yield InputSource("<stdin>", None)
    elif not argument:
        # As a path it would be the current folder; a variable that is not set becomes such an argument.
        report("''", "the name of a file or folder is empty")
    elif argument.startswith(_URLS):
        report(argument, "URLs are not read; use curl -fsSL URL and pipe its output to `-`")
    elif not path.is_dir():
        yield InputSource(_name(path), path)
    else:
        found = False
        for source in _Walk(exclude, report).below(path, frozenset()):
            found = True
            yield source
        if not found:
            report(_name(path), f"no file in this folder ends with {', '.join(SUFFIXES)}")


def _name(path: str | Path) -> str:
    """Return a path as a line; file names are bytes, and may have line ends or not be valid text."""
    return escaped(os.fsencode(path).decode(errors="replace"))


class _Walk:
    """Walks a folder and follows links; each folder is read once, by its first name."""

    def __init__(self, exclude: Sequence[str], report: Callable[[str, str], None]) -> None:
        self._exclude = exclude
        self._report = report
        self._entered: set[tuple[int, int]] = set()

    def below(self, folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[InputSource]:
        """Yield the files of a folder, depth first; `above`: device and inode of its parent folders."""
        try:
            here = folder.stat()
            names = sorted(entry.name for entry in os.scandir(folder))
        except OSError as error:
            self._report(_name(folder), error_text(error))
            return
        me = (here.st_dev, here.st_ino)
        if me in above:
            self._report(_name(folder), "a link to a parent folder; not followed")
        if me in self._entered:
            return
        self._entered.add(me)
        for name in names:
            path = folder / name
            # Hidden folders such as `.git` contain data of other programs.
            if name.startswith(".") or self._is_excluded(path):
                continue
            if path.is_dir():
                yield from self.below(path, above | {me})
            elif path.suffix in SUFFIXES and self._is_regular(path):
                yield InputSource(_name(path), path)

    def _is_excluded(self, path: Path) -> bool:
        return any(fnmatchcase(str(path), pattern) or fnmatchcase(path.name, pattern) for pattern in self._exclude)

    def _is_regular(self, path: Path) -> bool:
        try:
            return stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            self._report(_name(path), error_text(error))
            return False
