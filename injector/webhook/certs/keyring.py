"""The content of the CA Secret as a value: the signing, the next and the previous CAs, and the times of the changes.

The Secret is the only state that replicas share. It contains everything that a decision needs, so a restart loses
nothing, and there is no leader. It is installed empty and filled with optimistic locking.

| Key of the Secret | Content |
| --- | --- |
| `ca.crt`, `ca.key` | the signing CA |
| `next.crt`, `next.key` | the next CA, which signs after every API server trusts it |
| `previous.crt` | CAs that no longer sign, but are trusted until all leaves that they signed have expired |
| `state.json` | when `next` was seen in every bundle, when `ca` began to sign, and the configured delays |
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from injector.core import names
from injector.core.errors import InjectorError
from injector.webhook.certs.authority import Anchor, Authority, parse_anchors, parse_authority
from injector.webhook.certs.pair import CertificateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.kube.resources import Object


class ForeignSecretError(InjectorError):
    """The Secret has unknown or unreadable data, so it is not modified. The message quotes no value."""

    reason = "foreign-secret"


@dataclass(frozen=True, slots=True)
class RotationDelays:
    """The delays of a CA rotation: until API servers have read a bundle, and until leaves have expired."""

    settle_time: timedelta
    leaf_lifetime: timedelta

    def at_least(self, other: RotationDelays) -> RotationDelays:
        """Return the longer value of each delay: replicas of two versions may have different settings."""
        return RotationDelays(max(self.settle_time, other.settle_time), max(self.leaf_lifetime, other.leaf_lifetime))


@dataclass(frozen=True, slots=True)
class Keyring:
    """The CAs of an installation."""

    signing: Authority
    delays: RotationDelays
    next_ca: Authority | None = None
    previous: tuple[Anchor, ...] = ()
    published: datetime | None = None  # when every bundle was first seen to contain `next_ca`
    promoted: datetime | None = None  # when `signing` replaced `previous`

    @property
    def trusted(self) -> tuple[Anchor, ...]:
        """Return the exact content of each bundle."""
        next_ca = () if self.next_ca is None else (self.next_ca.anchor,)
        return (self.signing.anchor, *next_ca, *self.previous)


class _StateFile(msgspec.Struct, frozen=True, rename="camel"):
    """`state.json`."""

    settle_seconds: float
    leaf_lifetime_seconds: float
    published: datetime | None = None
    promoted: datetime | None = None


_CA: Final = ("ca.crt", "ca.key")
_NEXT: Final = ("next.crt", "next.key")
_PREVIOUS: Final = "previous.crt"
_STATE: Final = "state.json"
_OURS: Final = frozenset({*_CA, *_NEXT, _PREVIOUS, _STATE})


def read(secret: Mapping[str, Any]) -> Keyring | None:
    """Return the keyring in a Secret; None if the Secret is still empty.

    Raises:
        ForeignSecretError: It has other data.
    """
    content = _content(secret)
    if not any(content.values()):
        return None
    if not any(content.get(key) for key in _OURS):
        raise ForeignSecretError("it only has keys that the injector does not write")
    signing = _authority(content, _CA)
    if signing is None:
        raise ForeignSecretError(f"it has no {_CA[0]}")
    state = _state(content.get(_STATE, b""))
    previous = content.get(_PREVIOUS, b"")
    try:
        retired = parse_anchors(previous) if previous else ()
    except CertificateError as error:
        raise ForeignSecretError(f"{_PREVIOUS} {error}") from None
    return Keyring(
        signing=signing,
        next_ca=_authority(content, _NEXT),
        previous=retired,
        delays=RotationDelays(timedelta(seconds=state.settle_seconds), timedelta(seconds=state.leaf_lifetime_seconds)),
        published=state.published,
        promoted=state.promoted,
    )


def write(secret: Mapping[str, Any], ring: Keyring) -> Object:
    """Return the Secret with `ring`. All other keys and metadata stay, including a request to rotate."""
    state = _StateFile(
        settle_seconds=ring.delays.settle_time.total_seconds(),
        leaf_lifetime_seconds=ring.delays.leaf_lifetime.total_seconds(),
        published=ring.published,
        promoted=ring.promoted,
    )
    content = {
        _CA[0]: ring.signing.anchor.pem,
        _CA[1]: ring.signing.key,
        _STATE: msgspec.json.encode(state),
    }
    if ring.next_ca is not None:
        content |= {_NEXT[0]: ring.next_ca.anchor.pem, _NEXT[1]: ring.next_ca.key}
    if ring.previous:
        content[_PREVIOUS] = b"".join(anchor.pem for anchor in ring.previous)
    kept = {key: value for key, value in (secret.get("data") or {}).items() if key not in _OURS}
    return {**secret, "data": kept | {key: base64.b64encode(value).decode() for key, value in content.items()}}


def rotation_request(secret: Mapping[str, Any]) -> str:
    """Return the annotation that requests a new CA; empty if it is not set."""
    annotations = secret.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(names.ROTATE_CA, ""))


def without_request(secret: Mapping[str, Any]) -> Object:
    """Return the Secret without the request for a new CA."""
    metadata = dict(secret["metadata"])
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {key: value for key, value in annotations.items() if key != names.ROTATE_CA}
    return {**secret, "metadata": metadata}


def _content(secret: Mapping[str, Any]) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in (secret.get("data") or {}).items()}
    except (binascii.Error, ValueError, TypeError):
        raise ForeignSecretError("one of its values is not base64") from None


def _authority(content: Mapping[str, bytes], keys: tuple[str, str]) -> Authority | None:
    certificate, key = (content.get(each, b"") for each in keys)
    if not certificate and not key:
        return None
    try:
        return parse_authority(certificate, key)
    except CertificateError as error:
        raise ForeignSecretError(f"{keys[0]} with {keys[1]} {error}") from None


def _state(content: bytes) -> _StateFile:
    try:
        state = msgspec.json.decode(content, type=_StateFile)
        return _StateFile(
            settle_seconds=_bounded(state.settle_seconds),
            leaf_lifetime_seconds=_bounded(state.leaf_lifetime_seconds),
            published=state.published and state.published.astimezone(UTC),
            promoted=state.promoted and state.promoted.astimezone(UTC),
        )
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        raise ForeignSecretError(f"{_STATE} cannot be read") from None


def _bounded(seconds: float) -> float:
    if not 0 <= seconds <= _TEN_YEARS:
        raise ValueError("out of bounds")
    return seconds


_TEN_YEARS: Final = 10 * 366 * 86400.0
