"""Where signing keys are kept: a file of mode 0600, or a Secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import click

from injector.cli import secretfiles
from injector.core.request import is_secret_name
from injector.tokens import keyring

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from injector.cli.kubeconfig import Connect

SECRET_PREFIX: Final = "secret:"
# The key of the Secret under which the JWK Set is kept.
DATA_KEY: Final = "jwks.json"


class Store(Protocol):
    """A place for one key file; `name` is what messages call it."""

    name: str

    def locked(self) -> AbstractContextManager[None]:
        """For the time from `read` to `replace`."""

    def read(self) -> bytes | None:
        """What is there; None when nothing is."""

    def create(self, content: bytes) -> bool:
        """Put it there; false when something is there already."""

    def replace(self, content: bytes) -> None:
        """Put it in the place of what was read.

        Raises:
            click.UsageError: Something else is there by now.
        """


def store_of(text: str, connect: Connect) -> Store:
    """The place that `FILE` or `secret:NAMESPACE/NAME` means.

    Raises:
        click.UsageError: It means none.
    """
    if not text.startswith(SECRET_PREFIX):
        return FileStore(Path(text))
    namespace, slash, name = text.removeprefix(SECRET_PREFIX).partition("/")
    if not slash or not is_secret_name(namespace) or not is_secret_name(name):
        raise click.UsageError(
            f"--signing-key: after {SECRET_PREFIX} a namespace and a name are needed: shop/signing-key"
        )
    from injector.cli.signingsecret import SecretStore  # noqa: PLC0415 - the client is for those who use a cluster

    return SecretStore(namespace, name, connect)


class FileStore:
    """A file, mode 0600."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._before: bytes | None = None

    def locked(self) -> AbstractContextManager[None]:
        """Others who replace the key wait, so that none of two rotations loses the other's key."""
        return secretfiles.locked(self._path)

    def read(self) -> bytes | None:
        """The file's bytes."""
        self._before = self._content(must_be_ours=True)
        return self._before

    def create(self, content: bytes) -> bool:
        """A new file."""
        return secretfiles.create(self._path, content)

    def replace(self, content: bytes) -> None:
        """The same file, in one step."""
        if self._content() != self._before:  # by somebody who takes no lock
            raise click.UsageError(f"--signing-key {self._path}: somebody else changed it meanwhile; it was left alone")
        secretfiles.replace(self._path, content)

    def _content(self, *, must_be_ours: bool = False) -> bytes | None:
        try:
            return secretfiles.read_file(self._path, most=keyring.LARGEST_FILE + 1, must_be_ours=must_be_ours)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise click.UsageError(f"--signing-key {self._path}: {secretfiles.why(error)}") from None
