"""Errors of manifest files."""

from __future__ import annotations

from injector.core.errors import InjectorError


class ManifestError(InjectorError):
    """A document cannot be read or changed. `document` and `line` count from 1; both are 0 for the whole file.

    The message has fixed words and field names, never a value of the file.
    """

    reason = "bad-manifest"

    def __init__(self, source: str, document: int, line: int, message: str) -> None:
        super().__init__(message)
        self.source = source
        self.document = document
        self.line = line
        self.message = message

    def __str__(self) -> str:
        if not self.document:
            return f"{self.source}: {self.message}"
        return f"{self.source}:{self.line}: document {self.document}: {self.message}"


class TextError(Exception):
    """An error at `offset`, in characters of the text. The caller adds file and document."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message
