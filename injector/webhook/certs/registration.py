"""What a webhook configuration holds of ours, and the smallest body that sets its bundles.

Only our own entries count, by their names, which never change. The body names them and nothing else of them, so that
server-side apply owns one field per entry. It carries the object's uid and version: a configuration that was deleted is
not made anew, and one that changed since it was read is read again first.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from injector.webhook.certs.authority import Anchor, known_anchors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Object = dict[str, Any]

# Entries are called `<purpose>.dapr-token-injector.svc`.
OURS: Final = ".dapr-token-injector.svc"


@dataclass(frozen=True, slots=True)
class Entry:
    """One webhook of a configuration and whom it trusts."""

    name: str
    anchors: tuple[Anchor, ...]  # authorities of ours
    pure: bool  # nothing else is in the bundle, and all of it can be read

    def trusts(self, anchor: Anchor) -> bool:
        """Whether a leaf of this authority is accepted."""
        return any(each.fingerprint == anchor.fingerprint for each in self.anchors)

    def is_exactly(self, anchors: Iterable[Anchor]) -> bool:
        """Whether the bundle is these authorities and no other."""
        return self.pure and {each.fingerprint for each in self.anchors} == {each.fingerprint for each in anchors}


@dataclass(frozen=True, slots=True)
class Registration:
    """A webhook configuration, as far as it is about certificates."""

    uid: str
    version: str  # metadata.resourceVersion
    entries: tuple[Entry, ...]

    def trusts(self, anchor: Anchor) -> bool:
        """Whether every entry does; where there is none, nobody calls and nobody has to."""
        return all(entry.trusts(anchor) for entry in self.entries)

    def is_exactly(self, anchors: Iterable[Anchor]) -> bool:
        """Whether every entry's bundle is these authorities and no other."""
        wanted = tuple(anchors)
        return all(entry.is_exactly(wanted) for entry in self.entries)


def read(configuration: Mapping[str, Any]) -> Registration:
    """The registration in a webhook configuration."""
    metadata = configuration["metadata"]
    entries = (entry for entry in configuration.get("webhooks") or () if str(entry.get("name", "")).endswith(OURS))
    return Registration(str(metadata["uid"]), str(metadata["resourceVersion"]), tuple(map(_entry, entries)))


def body(registration: Registration, anchors: Iterable[Anchor]) -> Object:
    """What to apply so that every entry trusts these authorities and no other."""
    bundle = base64.b64encode(b"".join(anchor.pem for anchor in anchors)).decode()
    return {
        "metadata": {"uid": registration.uid, "resourceVersion": registration.version},
        "webhooks": [{"name": entry.name, "clientConfig": {"caBundle": bundle}} for entry in registration.entries],
    }


def _entry(entry: Mapping[str, Any]) -> Entry:
    text = str((entry.get("clientConfig") or {}).get("caBundle") or "")
    try:
        anchors, pure = known_anchors(base64.b64decode(text, validate=True)) if text else ((), False)
    except (binascii.Error, ValueError):
        anchors, pure = (), False
    return Entry(str(entry["name"]), anchors, pure)
