"""Stores signing keys in a Secret; writes fail if the Secret has changed since it was read."""

from __future__ import annotations

import base64
import binascii
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from injector.core.ownership import managed_by
from injector.kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from injector.kube.resources import SECRETS
from injector.tokens import decode, manifests
from injector.tokens.key_stores import FileKeyStore, KeyStoreError, StoredKeys

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from injector.core.ownership import SecretRef
    from injector.kube.client import Api

# The key of the Secret that holds the JWK Set.
DATA_KEY: Final = "jwks.json"


class SecretKeyStore:
    """Stores the keys under one key of one Secret; `name` identifies it in messages.

    Raises:
        KeyStoreError: They cannot be read or written, or another process has changed them since.
        KubeError: The API server rejects a request or does not answer.
    """

    def __init__(self, api: Api, ref: SecretRef) -> None:
        self.name = f"Secret {ref}"
        self._api = api
        self._ref = ref

    def locked(self) -> AbstractContextManager[None]:
        """Do nothing: the API server rejects a write to a Secret that has changed."""
        return nullcontext()

    async def read(self) -> StoredKeys | None:
        """Return the value under `DATA_KEY`; None if there is no such Secret."""
        try:
            found = await self._api.get(SECRETS, self._ref.name, self._ref.namespace)
        except NotFoundError:
            return None
        value = (found.get("data") or {}).get(DATA_KEY)
        if value is None:
            raise KeyStoreError(f"{self.name}: no key {DATA_KEY}, so it holds no signing key")
        try:
            return StoredKeys(base64.b64decode(value, validate=True), found)
        except binascii.Error:  # pragma: no cover - the API server rejects such a Secret
            raise KeyStoreError(f"{self.name}: {DATA_KEY} is not base64") from None

    async def create(self, content: bytes) -> bool:
        """Create the Secret; return False if it exists."""
        body = manifests.with_value(manifests.empty_secret(self._ref), DATA_KEY, content)
        try:
            await self._api.create(SECRETS, body, self._ref.namespace)
        except AlreadyExistsError:
            return False
        except NotFoundError:
            raise KeyStoreError(f"namespace {self._ref.namespace} not found; create it, or check --context") from None
        return True

    async def replace(self, content: bytes, before: StoredKeys) -> None:
        """Replace the value, unless another tool manages the Secret, it is immutable, or it changed since `read`."""
        found: dict[str, Any] = before.version  # type: ignore[assignment] # set by `read`
        secret = decode.token_secret(found)
        owner = managed_by(secret, DATA_KEY)
        if owner is not None:
            raise KeyStoreError(
                f"{self.name}: managed by {owner.name} ({owner.sign}), which may overwrite it; rotate the key there"
            )
        if secret.immutable:
            raise KeyStoreError(f"{self.name}: immutable; use a Secret with another name")
        body = manifests.with_value(found, DATA_KEY, content)
        try:
            await self._api.replace(SECRETS, body, self._ref.namespace, before=found)
        except ConflictError as error:
            raise KeyStoreError(f"{error}; run the command again") from None
        except NotFoundError:
            raise KeyStoreError(f"{self.name}: deleted by another process; run the command again") from None


KeyStore: TypeAlias = FileKeyStore | SecretKeyStore
