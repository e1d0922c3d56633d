"""Secrets as we write them. The only place where a token's value enters an object."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.core import names
from injector.tokens.decode import written

if TYPE_CHECKING:
    from injector.core.ownership import SecretRef
    from injector.tokens.minting import Minted

Object = dict[str, Any]

API: Final = "api"
APP: Final = "app"


def fresh(ref: SecretRef, key: str, minted: Minted, direction: str) -> Object:
    """A new Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {names.MANAGED_BY: names.MANAGER, names.TOKEN_LABEL: direction},
            "annotations": _annotations(minted),
        },
        "data": {key: _encoded(minted)},
    }


def renewed(secret: Object, key: str, minted: Minted) -> Object:
    """A Secret with another value under `key`, under the resource version that it was read with."""
    meta = secret["metadata"]
    labels = {**(meta.get("labels") or {}), names.MANAGED_BY: names.MANAGER}
    labels.setdefault(names.TOKEN_LABEL, API)
    annotations = {name: value for name, value in (meta.get("annotations") or {}).items() if name not in _OURS}
    return {
        **secret,
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**meta, "labels": labels, "annotations": {**annotations, **_annotations(minted)}},
        "data": {**(secret.get("data") or {}), key: _encoded(minted)},
    }


# The second holds the value in clear text when somebody once ran `kubectl apply` on the Secret.
_OURS: Final = frozenset(
    {names.TOKEN_ID, names.TOKEN_ISSUED, names.TOKEN_EXPIRES, "kubectl.kubernetes.io/last-applied-configuration"}
)


# Kinds of the External Secrets Operator: https://external-secrets.io/latest/api/secretstore/
STORE_KINDS: Final = ("ClusterSecretStore", "SecretStore")


@dataclass(frozen=True, slots=True)
class Store:
    """A store of the External Secrets Operator."""

    kind: str
    name: str


def external_secret(ref: SecretRef, key: str, direction: str, store: Store, remote_key: str) -> Object:
    """An ExternalSecret that fills the Secret from a store of the caller's; it holds no value."""
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


def _annotations(minted: Minted) -> dict[str, str]:
    told = {names.TOKEN_ID: minted.id, names.TOKEN_ISSUED: written(minted.issued)}
    if minted.expires is not None:
        told[names.TOKEN_EXPIRES] = written(minted.expires)
    return told


def _encoded(minted: Minted) -> str:
    return base64.b64encode(minted.value.reveal().encode()).decode()
