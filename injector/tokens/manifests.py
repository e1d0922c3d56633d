"""Builds the Secrets and ExternalSecrets that commands write. No other module puts a value into a Secret."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.times import rfc3339
from injector.tokens.decode import TOKEN_FACTS

if TYPE_CHECKING:
    from injector.core.ownership import SecretRef
    from injector.kube.resources import Object
    from injector.tokens.minting import MintedToken

API: Final = "api"
APP: Final = "app"


def empty_secret(ref: SecretRef) -> Object:
    """Return a new Secret without a value."""
    meta = {"name": ref.name, "namespace": ref.namespace, "labels": {names.MANAGED_BY: names.MANAGER}}
    return {"type": "Opaque", "metadata": meta}


def with_value(secret: Object, key: str, value: bytes) -> Object:
    """Return the Secret with a value under `key`; its resource version is kept, so that a conflict is detected."""
    data = {**(secret.get("data") or {}), key: base64.b64encode(value).decode()}
    return {**secret, "apiVersion": "v1", "kind": "Secret", "data": data}


def new_secret(ref: SecretRef, key: str, minted: MintedToken, direction: str) -> Object:
    """Return a new token Secret."""
    return updated_secret(empty_secret(ref), key, minted, direction)


def updated_secret(secret: Object, key: str, minted: MintedToken, direction: str = API) -> Object:
    """Return the Secret with a new token under `key`; `direction` is used if it has no label with its own."""
    meta = secret["metadata"]
    labels = {names.TOKEN_LABEL: direction, **(meta.get("labels") or {}), names.MANAGED_BY: names.MANAGER}
    annotations = {name: value for name, value in (meta.get("annotations") or {}).items() if name not in _REPLACED}
    meta = {**meta, "labels": labels, "annotations": {**annotations, **_annotations(minted)}}
    return with_value({**secret, "metadata": meta}, key, minted.value.reveal().encode())


# The last one holds the value in clear text if the Secret was ever applied with `kubectl apply`.
_REPLACED: Final = frozenset({*TOKEN_FACTS, "kubectl.kubernetes.io/last-applied-configuration"})


# Kinds of the External Secrets Operator: https://external-secrets.io/latest/api/secretstore/
STORE_KINDS: Final = ("ClusterSecretStore", "SecretStore")


@dataclass(frozen=True, slots=True)
class StoreRef:
    """A store of the External Secrets Operator."""

    kind: str
    name: str


def external_secret(ref: SecretRef, key: str, direction: str, store: StoreRef, remote_key: str) -> Object:
    """Return an ExternalSecret that fills the Secret from a store; it holds no value."""
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": {
            "refreshInterval": "24h",
            "secretStoreRef": {"kind": store.kind, "name": store.name},
            "target": {
                "name": ref.name,
                "creationPolicy": "Owner",
                "template": {"type": "Opaque", "metadata": {"labels": {names.TOKEN_LABEL: direction}}},
            },
            "data": [{"secretKey": key, "remoteRef": {"key": remote_key}}],
        },
    }


def _annotations(minted: MintedToken) -> dict[str, str]:
    annotations = {names.TOKEN_ID: minted.id, names.TOKEN_ISSUED: rfc3339(minted.issued)}
    if minted.expires is not None:
        annotations[names.TOKEN_EXPIRES] = rfc3339(minted.expires)
    return annotations
