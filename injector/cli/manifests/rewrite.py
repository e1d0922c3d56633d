"""Changes files, one document in memory at a time; shared by `inject` and `uninject`.

The result of a file is collected in memory, or in a temporary file if it is large. It is written to stdout or to the
file only if the whole file is valid, so no output is ever incomplete.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

import msgspec

from injector.cli.manifests import files
from injector.cli.output import Tally, coloured, wants_colour
from injector.files import error_text, replacement
from injector.manifests.chunks import BOM, split
from injector.manifests.diff import unified
from injector.manifests.documents import documents
from injector.manifests.errors import ManifestError
from injector.manifests.layout import apply
from injector.words import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from injector.cli.output import Reporter
    from injector.manifests.chunks import Chunk
    from injector.manifests.documents import Document
    from injector.manifests.layout import Splice
    from injector.manifests.nodes import Json

# Bytes of a file's result that are kept in memory; a larger result goes to a temporary file.
_IN_MEMORY: Final = 4 * 1024 * 1024
_BLOCK: Final = 256 * 1024  # bytes
# Mode of a new file until it gets the mode of the file that it replaces.
_OWNER: Final = 0o600


class Format(StrEnum):
    """Output formats of stdout."""

    YAML = "yaml"
    JSON = "json"
    DIFF = "diff"
    NOTHING = "nothing"


class ChunkChange(Protocol):
    """A change of a chunk of a file, given its documents. Both methods count the Pod templates in `tally`."""

    def splices(self, read: Sequence[Document], tally: Tally, /) -> list[Splice]:
        """Return the changes of the chunk's text.

        Raises:
            ManifestError: The chunk cannot be changed.
        """

    def values(self, read: Sequence[Document], tally: Tally, /) -> Sequence[Json]:
        """Return the new value of each document of the chunk.

        Raises:
            ManifestError: The chunk cannot be changed.
        """


@dataclass(frozen=True, slots=True)
class RewrittenChunk:
    """A chunk of a file before and after; `values` with `-o json`, otherwise `splices` and `new`."""

    old: str
    splices: Sequence[Splice]
    new: str
    values: Sequence[Json]
    is_changed: bool


class Rewriter:
    """Changes files and writes the results."""

    def __init__(self, change: ChunkChange, output: Format, *, in_place: bool, reporter: Reporter) -> None:
        self.tally = Tally()
        self._change: Final = change
        self._output = output
        self._in_place = in_place
        self._reporter = reporter
        self._stdout = sys.stdout.buffer
        self._colour = output is Format.DIFF and wants_colour(sys.stdout)
        # Files and pipes get a user's text as it is; a terminal would act on it.
        self._shown: Callable[[str], str] = partial(escaped, is_line=False) if sys.stdout.isatty() else str
        self._needs_marker = False
        self._ends_line = True

    def file(self, source: files.InputSource) -> None:
        """Change one file; a file with a problem is reported and not written."""
        tally = Tally(files=1)
        errors: list[str] = []
        try:
            with (
                tempfile.SpooledTemporaryFile(_IN_MEMORY) as output,
                tempfile.SpooledTemporaryFile(_IN_MEMORY) as content,
            ):
                target = TargetFile.of(source) if self._in_place else None
                for text in self._text(source, self._rewritten_chunks(source, tally, errors, content)):
                    output.write(text.encode())
                if not errors:
                    if target is not None and tally.changed:
                        target.replace(content)
                    self._out(output)
        except files.UnreadableError as unreadable:
            errors.append(f"{source.name}: {unreadable}")
        for line in errors:
            self._reporter.error(line)
        self.tally.add(Tally(files=1, failed=1) if errors else tally)
        self._reporter.passed()

    def _rewritten_chunks(
        self, source: files.InputSource, tally: Tally, errors: list[str], content: IO[bytes]
    ) -> Iterator[RewrittenChunk]:
        """Yield the changed chunks of a file, and write them to `content` if the file is changed in place.

        After an error, only further errors are collected.
        """

        def fail(error: ManifestError) -> None:
            errors.append(str(error))

        for chunk in split(files.blocks(source)):
            failed = len(errors)
            read = list(documents(chunk, source.name, tally.documents, fail))
            tally.documents += len(read) + len(errors) - failed
            if len(errors) > failed:
                continue
            try:
                rewritten = self._changed(chunk, read, tally)
            except ManifestError as error:
                fail(error)
                continue
            if not errors:
                tally.changed = tally.changed or int(rewritten.is_changed)
                if self._in_place:
                    content.write(rewritten.new.encode())
                yield rewritten

    def _changed(self, chunk: Chunk, read: Sequence[Document], tally: Tally) -> RewrittenChunk:
        if self._output is Format.JSON:
            values = self._change.values(read, tally)
            return RewrittenChunk(chunk.text, (), "", values, values != [document.value for document in read])
        splices = self._change.splices(read, tally)
        text = apply(chunk.text, splices)
        return RewrittenChunk(chunk.text, splices, text, (), text != chunk.text)

    # --- stdout ---

    def _text(self, source: files.InputSource, chunks: Iterator[RewrittenChunk]) -> Iterator[str]:
        """Yield a file's result in the output format."""
        match self._output:
            case Format.YAML:
                yield from (self._shown(chunk.new) for chunk in chunks)
            case Format.JSON:
                # Each document on its own line, which kubectl can read; empty ones are skipped.
                for value in (value for chunk in chunks for value in chunk.values if value is not None):
                    yield escaped(msgspec.json.encode(value).decode()) + "\n"
            case Format.DIFF:
                # For `patch -p1` and `git apply`.
                path = source.name.lstrip("/").removeprefix("./").strip("<>")
                lines = unified(f"a/{path}", f"b/{path}", ((chunk.old, chunk.splices) for chunk in chunks))
                yield from (coloured(line) if self._colour else line for line in map(self._shown, lines))
            case Format.NOTHING:
                yield from ("" for _ in chunks)

    def _out(self, output: IO[bytes]) -> None:
        """Copy one file's result to stdout, after a document marker if it is not the first."""
        output.seek(0)
        block = output.read(_BLOCK)
        if not block:
            return
        self._reporter.clear()
        if self._output is Format.YAML and self._needs_marker:
            block = block.removeprefix(BOM.encode())
            self._stdout.write(b"" if self._ends_line else b"\n")
            if not block.lstrip().startswith((b"---", b"%")):
                self._stdout.write(b"---\n")
        while block:
            self._stdout.write(block)
            self._ends_line = block.endswith(b"\n")
            block = output.read(_BLOCK)
        self._needs_marker = True
        self._stdout.flush()


# --- in place ---


@dataclass(frozen=True, slots=True)
class TargetFile:
    """A file that is replaced in one step, and its state when it was read. A link stays a link."""

    path: Path
    before: os.stat_result

    @classmethod
    def of(cls, source: files.InputSource) -> TargetFile | None:
        """Return the file behind all links.

        Raises:
            UnreadableError: It does not exist, or is not a regular file.
        """
        if source.path is None:
            return None
        path = Path(os.path.realpath(source.path))
        try:
            before = path.stat()
        except OSError as error:
            raise files.UnreadableError(error_text(error)) from None
        if not stat.S_ISREG(before.st_mode):
            raise files.UnreadableError("not a regular file, so it cannot be changed in place")
        return cls(path, before)

    def replace(self, content: IO[bytes]) -> None:
        """Replace the file's content: write a new file next to it, with its mode and owner, and rename it.

        Raises:
            UnreadableError: It cannot be written, or has changed since it was read; it is not modified.
        """
        try:
            with replacement(self.path, mode=_OWNER, put=self._put) as file:
                content.seek(0)
                shutil.copyfileobj(content, file, _BLOCK)
                self._keep_mode_and_owner(file.fileno())
        except OSError as error:
            raise files.UnreadableError(f"cannot be changed: {error_text(error)}") from None

    def _put(self, new: Path, path: Path) -> None:
        now = path.stat()
        before = self.before
        if (now.st_mtime_ns, now.st_size, now.st_ino) != (before.st_mtime_ns, before.st_size, before.st_ino):
            raise files.UnreadableError("another process changed it in the meantime; it was not modified")
        new.replace(path)

    def _keep_mode_and_owner(self, descriptor: int) -> None:
        made = os.fstat(descriptor)
        if (made.st_uid, made.st_gid) != (self.before.st_uid, self.before.st_gid):
            os.fchown(descriptor, self.before.st_uid, self.before.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(self.before.st_mode))
