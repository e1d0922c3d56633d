"""Decodes Secrets of the API server without their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.ownership import DataWriter, SecretRef, TokenSecret
from injector.times import unix_time

if TYPE_CHECKING:
    from injector.kube.resources import Object

# Annotations that we write about a token.
TOKEN_FACTS: Final = (names.TOKEN_ID, names.TOKEN_ISSUED, names.TOKEN_EXPIRES)


def token_secret(secret: Object) -> TokenSecret:
    """Return a Secret without its values; without the annotations about its token if a key has another writer."""
    meta = secret["metadata"]
    annotations = dict(meta.get("annotations") or {})
    if not _facts_hold(meta):
        annotations = {name: value for name, value in annotations.items() if name not in TOKEN_FACTS}
    return TokenSecret(
        ref=SecretRef(meta["namespace"], meta["name"]),
        keys=frozenset(secret.get("data") or {}),
        labels=dict(meta.get("labels") or {}),
        annotations=annotations,
        owners=tuple(f"{owner.get('kind')}/{owner.get('name')}" for owner in meta.get("ownerReferences") or ()),
        writers=tuple(
            DataWriter(entry.get("manager", ""), unix_time(entry.get("time")), keys)
            for entry in meta.get("managedFields") or ()
            if (keys := _owned_keys(entry))
        ),
        immutable=bool(secret.get("immutable")),
        created=unix_time(meta.get("creationTimestamp")),
    )


def _facts_hold(meta: Object) -> bool:
    """Return whether the annotations about a token are those of the value: one manager owns both.

    Another tool that writes the value takes its key over, and leaves our annotations. Without managed fields of a key
    nothing shows that.
    https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
    """
    writers = [entry for entry in meta.get("managedFields") or () if _owned_keys(entry)]
    return not writers or any(map(_owns_facts, writers))


def _owns_facts(entry: Object) -> bool:
    fields = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations") or {}
    return any(f"f:{name}" in fields for name in TOKEN_FACTS)


def _owned_keys(entry: Object) -> frozenset[str]:
    """Return the data keys that an entry of managedFields names; server-side apply names those of `stringData` so."""
    owned = entry.get("fieldsV1") or {}
    fields = (*(owned.get("f:data") or ()), *(owned.get("f:stringData") or ()))
    return frozenset(name.removeprefix("f:") for name in fields if name.startswith("f:"))
