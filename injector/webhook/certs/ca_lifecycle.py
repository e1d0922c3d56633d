"""The lifecycle of a CA, as pure functions: from the current state to the next step.

                 ┌──────────── two thirds of its life, or requested ───────────┐
                 │                                                             ▼
    (empty) ─CREATE─▶ steady ◀──PRUNE── retiring ◀──PROMOTE── settling ◀──SEEN── publishing
                        all leaves of the        every API server      every bundle contains
                        previous CA expired      has read it           the next CA

The next CA is trusted before it signs. The previous CA is trusted until all leaves that it signed have expired. So at
any time, each bundle that an API server may still use trusts each leaf. A step stores its time in the Secret; there is
no other state.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from injector.webhook.certs.keyring import Keyring, RotationDelays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from injector.webhook.certs.authority import Anchor, Authority, Leaf

Trusts: TypeAlias = "Callable[[Anchor], bool]"


class Phase(StrEnum):
    """Phase of the CA lifecycle."""

    NONE = "none"  # no CA yet, or the CA cannot be read
    STEADY = "steady"  # one CA signs, and no other is trusted
    PUBLISHING = "publishing"  # the next CA is being written to the bundles
    SETTLING = "settling"  # all bundles contain the next CA; API servers are reading them
    RETIRING = "retiring"  # the new CA signs; the previous one is trusted until its last leaf has expired


class CaStep(StrEnum):
    """A change of the CA Secret."""

    CREATE = "create"  # create the first CA
    RESTORE = "restore"  # write the CA of a replica's memory to a Secret that was emptied
    REPLACE = "replace"  # replace a CA that has already expired
    ADD = "add"  # create the next CA, which is trusted from now on
    SEEN = "seen"  # record that every bundle contains the next CA
    WITHDRAW = "withdraw"  # a bundle no longer contains the next CA: start the wait again
    PROMOTE = "promote"  # make the next CA the signing CA
    PRUNE = "prune"  # remove the previous CA

    @property
    def needs_authority(self) -> bool:
        """Whether the step needs a new CA."""
        return self in {CaStep.CREATE, CaStep.REPLACE, CaStep.ADD}


def phase(ring: Keyring | None) -> Phase:
    """Return the phase of a keyring."""
    if ring is None:
        return Phase.NONE
    if ring.next_ca is not None:
        return Phase.PUBLISHING if ring.published is None else Phase.SETTLING
    return Phase.RETIRING if ring.previous else Phase.STEADY


def due(ring: Keyring, *, published: bool, requested: bool, now: datetime, delays: RotationDelays) -> CaStep | None:
    """Return the step that is due; None if no step is due.

    Args:
        ring: The keyring in the Secret.
        published: Whether every bundle of the injector was seen to trust the next CA, of each group of replicas.
        requested: Whether a user has requested a new CA.
        now: The current time.
        delays: The settings of this replica; longer delays in the Secret take precedence.
    """
    delays = delays.at_least(ring.delays)
    if ring.next_ca is not None and ring.next_ca.anchor.expires <= now:
        return CaStep.ADD
    if ring.signing.anchor.expires <= now:
        return CaStep.REPLACE if ring.next_ca is None else CaStep.PROMOTE
    if ring.next_ca is not None:
        if not published:
            return None if ring.published is None else CaStep.WITHDRAW
        if ring.published is None:
            return CaStep.SEEN
        return CaStep.PROMOTE if now >= ring.published + delays.settle_time else None
    if ring.previous:
        return CaStep.PRUNE if now >= retire_at(ring, delays) else None
    return CaStep.ADD if requested or now >= rotate_at(ring) else None


def rotate_at(ring: Keyring) -> datetime:
    """Return when the next CA is due without a request: after two thirds of the signing CA's lifetime."""
    anchor = ring.signing.anchor
    return anchor.issued + (anchor.expires - anchor.issued) * 2 / 3


def retire_at(ring: Keyring, delays: RotationDelays) -> datetime:
    """Return when all leaves that the previous CAs signed have expired.

    A replica reads the Secret before it signs, so no replica signs with a CA long after its replacement. The settle
    time covers a read that was in progress, and differences between clocks.
    """
    last = max(anchor.expires for anchor in ring.previous)
    if ring.promoted is None:
        return last
    return min(last, ring.promoted + delays.leaf_lifetime + delays.settle_time)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The earliest times at which the new CA signs, and at which the previous CA is removed."""

    signs: datetime
    ends: datetime


def outlook(ring: Keyring, now: datetime) -> Outlook:
    """Return the outlook of the current rotation, or of one that is requested now."""
    delays = ring.delays
    if ring.previous and ring.next_ca is None:
        return Outlook(ring.promoted or now, max(now, retire_at(ring, delays)))
    signs = max(now, (ring.published or now) + delays.settle_time)
    return Outlook(signs, signs + delays.leaf_lifetime + delays.settle_time)


def advance(
    ring: Keyring | None,
    step: CaStep,
    *,
    now: datetime,
    delays: RotationDelays,
    made: Authority | None = None,
    registered: Iterable[Anchor] = (),
) -> Keyring:
    """Return the keyring after a step.

    Args:
        ring: The keyring in the Secret; for RESTORE the one in memory, for CREATE None.
        step: The step that is due.
        now: The current time.
        delays: As for `due`.
        made: The new CA, for the steps that need one.
        registered: CAs of the injector in the current bundles. An emptied Secret no longer contains them, but replicas
            may still serve leaves that they signed.
    """
    if step in {CaStep.CREATE, CaStep.REPLACE} or ring is None:
        if made is None:
            raise ValueError(f"{step} needs a CA")
        fresh = Keyring(signing=made, delays=delays)
        return _trusting(fresh, registered, now)
    if step is CaStep.RESTORE:
        return _trusting(ring, registered, now)
    if step is CaStep.ADD:
        if made is None:
            raise ValueError(f"{step} needs a CA")
        return dataclasses.replace(ring, next_ca=made, published=None, delays=delays)
    if step is CaStep.SEEN:
        return dataclasses.replace(ring, published=now)
    if step is CaStep.WITHDRAW:
        return dataclasses.replace(ring, published=None)
    if step is CaStep.PROMOTE:
        if ring.next_ca is None:
            raise ValueError("there is no next CA to promote")
        return dataclasses.replace(
            ring,
            signing=ring.next_ca,
            next_ca=None,
            previous=(ring.signing.anchor, *ring.previous),
            published=None,
            promoted=now,
            delays=delays.at_least(ring.delays),
        )
    return dataclasses.replace(ring, previous=(), promoted=None)


def _trusting(ring: Keyring, registered: Iterable[Anchor], now: datetime) -> Keyring:
    """Return the keyring with the CAs in the current bundles added to the trusted ones."""
    known = {anchor.fingerprint for anchor in ring.trusted}
    others = {anchor.fingerprint: anchor for anchor in registered if anchor.expires > now}
    added = tuple(anchor for fingerprint, anchor in others.items() if fingerprint not in known)
    if not added:
        return ring
    return dataclasses.replace(ring, previous=(*ring.previous, *added), promoted=now)


def needs_leaf(leaf: Leaf | None, ring: Keyring, *, trusts: Trusts, now: datetime, delays: RotationDelays) -> bool:
    """Return whether a replica must now sign a new leaf with the signing CA.

    Args:
        leaf: The leaf that the replica serves.
        ring: The keyring in the Secret.
        trusts: Whether every bundle with which API servers call this replica was seen to trust a CA.
        now: The current time.
        delays: As for `due`.
    """
    if leaf is None:
        return True
    if trusts(leaf.issuer) and not trusts(ring.signing.anchor):
        return leaf.is_ending(now)
    if leaf.is_due(now) or not trusts(leaf.issuer):
        return leaf.issuer != ring.signing.anchor or leaf.is_due(now)
    if leaf.issuer == ring.signing.anchor:
        return False
    # The CA of the leaf is still trusted, so the replacement can wait. The settle time lets API servers read the new CA
    # also if it did not come by promotion, but because the Secret was emptied.
    return ring.promoted is None or now >= ring.promoted + delays.at_least(ring.delays).settle_time
