"""Stores signing keys: in a file of mode 0600, or in a Secret (`secret_key_store`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from injector.core.errors import InjectorError
from injector.files import error_text
from injector.tokens import private_files, signing_keys

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


class KeyStoreError(InjectorError):
    """Signing keys cannot be read or written; the message names the store and the reason."""

    reason = "key-store"


@dataclass(frozen=True, slots=True, repr=False)
class StoredKeys:
    """A key file as it was read; the store compares `version` before it replaces the file."""

    content: bytes
    version: object


class FileKeyStore:
    """A file, mode 0600; `name` identifies it in messages.

    Raises:
        KeyStoreError: It cannot be read, or another process has changed it since.
        PrivateFileError: Its folder cannot be opened, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def locked(self) -> AbstractContextManager[None]:
        """Block other writers from `read` to `replace`, so that two concurrent rotations both keep their key."""
        return private_files.locked(self._path)

    def is_readable_by_others(self) -> bool:
        """Return whether users other than the owner may read the file; False if it does not exist."""
        return private_files.is_readable_by_others(self._path)

    async def read(self) -> StoredKeys | None:
        """Return the file's content; None if it does not exist."""
        content = self._content()
        return None if content is None else StoredKeys(content, content)

    async def create(self, content: bytes) -> bool:
        """Write a new file; return False if it exists."""
        return private_files.create(self._path, content)

    async def replace(self, content: bytes, before: StoredKeys) -> None:
        """Replace the file atomically."""
        if self._content() != before.version:  # by a program that does not take the lock
            raise KeyStoreError(
                f"{self._path}: changed by another program, so the file was not modified; run the command again"
            )
        private_files.replace(self._path, content)

    def _content(self) -> bytes | None:
        try:
            return private_files.read(self._path, max_bytes=signing_keys.LARGEST_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyStoreError(f"{self._path}: {error_text(error)}") from None
