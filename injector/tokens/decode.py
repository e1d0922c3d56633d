"""Decodes Secrets of the API server without their values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from injector.core.ownership import DataWriter, SecretRef, TokenSecret

Object = dict[str, Any]


def unix_time(text: str | None) -> int | None:
    """Return an RFC 3339 time as seconds since 1970; None if there is none."""
    if not text:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


def rfc3339(time: int) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def token_secret(secret: Object) -> TokenSecret:
    """Return a Secret without its values."""
    meta = secret["metadata"]
    return TokenSecret(
        ref=SecretRef(meta["namespace"], meta["name"]),
        keys=frozenset(secret.get("data") or {}),
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        owners=tuple(f"{owner.get('kind')}/{owner.get('name')}" for owner in meta.get("ownerReferences") or ()),
        writers=tuple(
            DataWriter(entry.get("manager", ""), unix_time(entry.get("time")), keys)
            for entry in meta.get("managedFields") or ()
            if (keys := _owned_keys(entry))
        ),
        immutable=bool(secret.get("immutable")),
        created=unix_time(meta.get("creationTimestamp")),
    )


def _owned_keys(entry: Object) -> frozenset[str]:
    """Return the data keys that an entry of managedFields names; server-side apply names those of `stringData` so."""
    owned = entry.get("fieldsV1") or {}
    fields = (*(owned.get("f:data") or ()), *(owned.get("f:stringData") or ()))
    return frozenset(name.removeprefix("f:") for name in fields if name.startswith("f:"))
