"""A signing key in a Secret, written under the resource version that was read."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any

import click

from injector.cli.signingkeys import DATA_KEY
from injector.core import names
from injector.kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from injector.kube.resources import SECRETS

if TYPE_CHECKING:
    from injector.cli.kubeconfig import Connect


class SecretStore:
    """One key of one Secret of ours."""

    def __init__(self, namespace: str, name: str, connect: Connect) -> None:
        self.name = f"Secret {namespace}/{name}"
        self._namespace = namespace
        self._secret = name
        self._connect = connect
        self._before: dict[str, Any] = {}

    def read(self) -> bytes | None:
        """The value under its key."""
        return asyncio.run(self._read())

    def create(self, content: bytes) -> bool:
        """A new Secret."""
        return asyncio.run(self._create(content))

    def replace(self, content: bytes) -> None:
        """The same Secret, if nobody has written to it since."""
        asyncio.run(self._replace(content))

    async def _read(self) -> bytes | None:
        async with await self._connect() as api:
            try:
                self._before = await api.get(SECRETS, self._secret, self._namespace)
            except NotFoundError:
                return None
        value = (self._before.get("data") or {}).get(DATA_KEY)
        if value is None:
            raise click.UsageError(f"--signing-key {self.name}: it has no key {DATA_KEY}, so it holds no signing key")
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:  # pragma: no cover - the API server keeps no such Secret
            raise click.UsageError(f"--signing-key {self.name}: its {DATA_KEY} is not base64") from None

    async def _create(self, content: bytes) -> bool:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": self._secret,
                "namespace": self._namespace,
                "labels": {names.MANAGED_BY: names.MANAGER},
            },
            "data": {DATA_KEY: base64.b64encode(content).decode()},
        }
        async with await self._connect() as api:
            try:
                await api.create(SECRETS, body, self._namespace)
            except AlreadyExistsError:
                return False
        return True

    async def _replace(self, content: bytes) -> None:
        data = {**self._before["data"], DATA_KEY: base64.b64encode(content).decode()}
        async with await self._connect() as api:
            try:
                await api.replace(SECRETS, {**self._before, "data": data}, self._namespace)
            except ConflictError as error:
                raise click.UsageError(f"--signing-key: {error}; run it again") from None
