"""Signing keys in a Secret, written under the resource version that was read."""

from __future__ import annotations

import base64
import binascii
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.core.ownership import owner_of
from injector.kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from injector.kube.resources import SECRETS
from injector.tokens import decode
from injector.tokens.key_stores import KeyStoreError, StoredKeys

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from injector.core.ownership import SecretRef
    from injector.kube.client import Api

# The key of the Secret that holds the JWK Set.
DATA_KEY: Final = "jwks.json"


class SecretKeyStore:
    """One key of one Secret of ours."""

    def __init__(self, api: Api, ref: SecretRef) -> None:
        self.name = f"Secret {ref}"
        self._api = api
        self._ref = ref

    def locked(self) -> AbstractContextManager[None]:
        """Do nothing: the API server refuses to replace what was not read."""
        return nullcontext()

    async def read(self) -> StoredKeys | None:
        """Return the value under `DATA_KEY`; None: there is no such Secret."""
        try:
            found = await self._api.get(SECRETS, self._ref.name, self._ref.namespace)
        except NotFoundError:
            return None
        value = (found.get("data") or {}).get(DATA_KEY)
        if value is None:
            raise KeyStoreError(f"{self.name} has no key {DATA_KEY}, so it holds no signing key")
        try:
            return StoredKeys(base64.b64decode(value, validate=True), found)
        except binascii.Error:  # pragma: no cover - the API server keeps no such Secret
            raise KeyStoreError(f"{self.name}: its {DATA_KEY} is not base64") from None

    async def create(self, content: bytes) -> bool:
        """Create the Secret; return False if it exists."""
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
            await self._api.create(SECRETS, body, self._ref.namespace)
        except AlreadyExistsError:
            return False
        except NotFoundError:
            raise KeyStoreError(
                f"namespace {self._ref.namespace} does not exist; create it first, or check --context"
            ) from None
        return True

    async def replace(self, content: bytes, before: StoredKeys) -> None:
        """Replace the value, if the Secret is ours and has not changed since it was read."""
        found: dict[str, Any] = before.version  # type: ignore[assignment] # what `read` put there
        self._check_owner(found)
        data = {**found["data"], DATA_KEY: base64.b64encode(content).decode()}
        body = {**found, "apiVersion": "v1", "kind": "Secret", "data": data}
        try:
            await self._api.replace(SECRETS, body, self._ref.namespace, before=found)
        except ConflictError as error:
            raise KeyStoreError(f"{error}; run it again") from None
        except NotFoundError:
            raise KeyStoreError(f"{self.name} was deleted by another process; run it again") from None

    def _check_owner(self, found: dict[str, Any]) -> None:
        """Refuse to change what another tool writes, and what cannot be changed."""
        secret = decode.token_secret(found)
        owner = owner_of(secret, DATA_KEY)
        if owner is not None:
            raise KeyStoreError(
                f"{self.name} is managed by {owner.name} ({owner.sign}), which may overwrite it: rotate the key there"
            )
        if secret.immutable:
            raise KeyStoreError(f"{self.name} is immutable: make a key in a Secret with another name")
