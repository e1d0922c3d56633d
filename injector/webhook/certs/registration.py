"""The injector's entries in a webhook configuration, and the smallest body for setting their caBundles.

The injector's entries are recognised by their names, which never change. The body has their names and caBundles only,
so that server-side apply owns one field per entry. It has the object's uid and resourceVersion. So a deleted
configuration is not created again, and a configuration that changed since it was read must first be read again.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from injector.core import names
from injector.webhook.certs.authority import Anchor, known_anchors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from injector.kube.resources import Object


@dataclass(frozen=True, slots=True)
class WebhookEntry:
    """An entry (webhook) of a configuration, and the CAs in its caBundle."""

    name: str
    service: str  # DNS name of the Service that is called, `<name>.<namespace>.svc`; empty if a URL is
    anchors: tuple[Anchor, ...]  # CAs of the injector
    pure: bool  # whether the bundle is readable and contains no other CA

    def trusts(self, anchor: Anchor) -> bool:
        """Whether the entry trusts leaves of this CA."""
        return any(each.fingerprint == anchor.fingerprint for each in self.anchors)

    def is_exactly(self, anchors: Iterable[Anchor]) -> bool:
        """Whether the bundle contains exactly these CAs."""
        return self.pure and {each.fingerprint for each in self.anchors} == {each.fingerprint for each in anchors}


@dataclass(frozen=True, slots=True)
class Registration:
    """A webhook configuration, with the fields that certificates need."""

    uid: str
    version: str  # metadata.resourceVersion
    entries: tuple[WebhookEntry, ...]

    def trusts(self, anchor: Anchor) -> bool:
        """Whether all entries trust this CA; true without entries, because the API server then never calls."""
        return all(entry.trusts(anchor) for entry in self.entries)

    def is_exactly(self, anchors: Iterable[Anchor]) -> bool:
        """Whether the bundle of each entry contains exactly these CAs."""
        wanted = tuple(anchors)
        return all(entry.is_exactly(wanted) for entry in self.entries)


def read(configuration: Mapping[str, Any]) -> Registration:
    """Return the registration in a webhook configuration."""
    metadata = configuration["metadata"]
    entries = (entry for entry in configuration.get("webhooks") or () if names.is_own_entry(str(entry.get("name", ""))))
    return Registration(str(metadata["uid"]), str(metadata["resourceVersion"]), tuple(map(_entry, entries)))


def body(registration: Registration, anchors: Iterable[Anchor]) -> Object:
    """Return the body to apply so that each entry trusts exactly these CAs."""
    bundle = base64.b64encode(b"".join(anchor.pem for anchor in anchors)).decode()
    return {
        "metadata": {"uid": registration.uid, "resourceVersion": registration.version},
        "webhooks": [{"name": entry.name, "clientConfig": {"caBundle": bundle}} for entry in registration.entries],
    }


def _entry(entry: Mapping[str, Any]) -> WebhookEntry:
    config = entry.get("clientConfig") or {}
    service, text = config.get("service"), str(config.get("caBundle") or "")
    try:
        anchors, pure = known_anchors(base64.b64decode(text, validate=True)) if text else ((), False)
    except (binascii.Error, ValueError):
        anchors, pure = (), False
    host = f"{service.get('name')}.{service.get('namespace')}.svc" if service else ""
    return WebhookEntry(str(entry["name"]), host, anchors, pure)
