"""A signing key in a Secret, written under the resource version that was read."""

from __future__ import annotations

import base64
import binascii
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from injector.cli import kubeconfig, targets
from injector.cli.signingkeys import DATA_KEY
from injector.core import names
from injector.core.ownership import SecretRef, owner_of
from injector.kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from injector.kube.resources import SECRETS
from injector.tokens import reading

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from injector.cli.kubeconfig import Connect
    from injector.kube.client import Api


class SecretStore:
    """One key of one Secret of ours."""

    def __init__(self, namespace: str, name: str, connect: Connect) -> None:
        self._ref = SecretRef(namespace, name)
        self.name = f"Secret {self._ref}"
        self._connect = connect
        self._before: dict[str, Any] = {}

    def locked(self) -> AbstractContextManager[None]:
        """Not needed: the API server refuses to replace what was not read."""
        return nullcontext()

    def read(self) -> bytes | None:
        """The value under its key."""
        return kubeconfig.run(self._connect, self._read)

    def create(self, content: bytes) -> bool:
        """A new Secret."""
        return kubeconfig.run(self._connect, lambda api: self._create(api, content))

    def replace(self, content: bytes) -> None:
        """The same Secret, if it is ours and nobody has written to it since."""
        self._check_owner()
        kubeconfig.run(self._connect, lambda api: self._replace(api, content))

    async def _read(self, api: Api) -> bytes | None:
        try:
            self._before = await api.get(SECRETS, self._ref.name, self._ref.namespace)
        except NotFoundError:
            return None
        value = (self._before.get("data") or {}).get(DATA_KEY)
        if value is None:
            raise click.UsageError(f"--signing-key {self.name}: it has no key {DATA_KEY}, so it holds no signing key")
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:  # pragma: no cover - the API server keeps no such Secret
            raise click.UsageError(f"--signing-key {self.name}: its {DATA_KEY} is not base64") from None

    async def _create(self, api: Api, content: bytes) -> bool:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": self._ref.name,
                "namespace": self._ref.namespace,
                "labels": {names.MANAGED_BY: names.MANAGER},
            },
            "data": {DATA_KEY: base64.b64encode(content).decode()},
        }
        try:
            await api.create(SECRETS, body, self._ref.namespace)
        except AlreadyExistsError:
            return False
        except NotFoundError:
            raise targets.no_namespace(self._ref.namespace) from None
        return True

    def _check_owner(self) -> None:
        """Refuse to change what somebody else writes, and what nobody can change."""
        secret = reading.token_secret(self._before)
        owner = owner_of(secret, DATA_KEY)
        if owner is not None:
            raise click.UsageError(
                f"--signing-key {self.name} is written by {owner.name} ({owner.sign}), who may write it back: "
                "rotate the key there"
            )
        if secret.immutable:
            raise click.UsageError(f"--signing-key {self.name} is immutable: make a key in one of another name")

    async def _replace(self, api: Api, content: bytes) -> None:
        data = {**self._before["data"], DATA_KEY: base64.b64encode(content).decode()}
        body = {**self._before, "apiVersion": "v1", "kind": "Secret", "data": data}
        try:
            await api.replace(SECRETS, body, self._ref.namespace, before=self._before)
        except ConflictError as error:
            raise click.UsageError(f"--signing-key: {error}; run it again") from None
        except NotFoundError:
            raise click.UsageError(f"--signing-key {self.name}: somebody deleted it meanwhile; run it again") from None
