"""The life of an authority, as pure decisions: from what is known now to the next step.

                 ┌──────────── two thirds of its life, or asked for ───────────┐
                 │                                                             ▼
    (empty) ─CREATE─▶ steady ◀──PRUNE── retiring ◀──PROMOTE── settling ◀──SEEN── publishing
                        no leaf of the old       every API server      every bundle holds
                        one can live             must know it          the next one

The next authority is trusted before it signs, and the old one is trusted until nothing that it signed can live. So at
every moment every leaf is trusted by every bundle that an API server may still hold. Times are written into the Secret
at the step that they count from; nothing is remembered elsewhere.
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
    """Where an authority's life is."""

    NONE = "none"  # no authority yet, or none that we can read
    STEADY = "steady"  # one signs, and nothing else is trusted
    PUBLISHING = "publishing"  # the next one is on its way into the bundles
    SETTLING = "settling"  # it is in all of them; API servers take notice
    RETIRING = "retiring"  # it signs; the old one is trusted until its last leaf has ended


class Step(StrEnum):
    """A change of the Secret."""

    CREATE = "create"  # the first authority
    RESTORE = "restore"  # somebody emptied the Secret; what a replica remembers goes back into it
    REPLACE = "replace"  # the authority ran out unnoticed: nothing of it is worth keeping
    ADD = "add"  # the next authority begins to be trusted
    SEEN = "seen"  # every bundle holds it
    WITHDRAW = "withdraw"  # a bundle lost it again: the wait begins anew
    PROMOTE = "promote"  # it signs
    PRUNE = "prune"  # the old one is trusted no more

    @property
    def needs_authority(self) -> bool:
        """Whether a new authority has to be made for it."""
        return self in {Step.CREATE, Step.REPLACE, Step.ADD}


def phase(ring: Keyring | None) -> Phase:
    """Where this keyring is in its life."""
    if ring is None:
        return Phase.NONE
    if ring.following is not None:
        return Phase.PUBLISHING if ring.published is None else Phase.SETTLING
    return Phase.RETIRING if ring.previous else Phase.STEADY


def due(ring: Keyring, *, published: bool, requested: bool, now: datetime, delays: RotationDelays) -> Step | None:
    """The step that is due; None when there is none yet.

    Args:
        ring: What the Secret holds.
        published: Every bundle of ours is seen to trust the next authority.
        requested: Somebody asked for a new authority.
        now: The time.
        delays: What this replica was told; the Secret's are kept, too, when they are longer.
    """
    delays = delays.at_least(ring.delays)
    if ring.following is not None and ring.following.anchor.expires <= now:
        return Step.ADD
    if ring.signing.anchor.expires <= now:
        return Step.REPLACE if ring.following is None else Step.PROMOTE
    if ring.following is not None:
        if not published:
            return None if ring.published is None else Step.WITHDRAW
        if ring.published is None:
            return Step.SEEN
        return Step.PROMOTE if now >= ring.published + delays.settle else None
    if ring.previous:
        return Step.PRUNE if now >= pruned_at(ring, delays) else None
    return Step.ADD if requested or now >= rotated_at(ring) else None


def rotated_at(ring: Keyring) -> datetime:
    """When the next authority is due by itself: at two thirds of the signing one's life."""
    anchor = ring.signing.anchor
    return anchor.issued + (anchor.expires - anchor.issued) * 2 / 3


def pruned_at(ring: Keyring, delays: RotationDelays) -> datetime:
    """When nothing that the previous authorities signed can live any more.

    A replica reads the Secret before it signs, so nobody signs with an authority long after it was replaced; the time
    to settle covers a read that was under way, and clocks that differ.
    """
    last = max(anchor.expires for anchor in ring.previous)
    if ring.promoted is None:
        return last
    return min(last, ring.promoted + delays.leaf_lifetime + delays.settle)


@dataclass(frozen=True, slots=True)
class Outlook:
    """When the new authority signs, and when the one before is trusted no more; at the earliest."""

    signs: datetime
    ends: datetime


def outlook(ring: Keyring, now: datetime) -> Outlook:
    """What will become of the rotation that is under way, or of one that is asked for now."""
    delays = ring.delays
    if ring.previous and ring.following is None:
        return Outlook(ring.promoted or now, max(now, pruned_at(ring, delays)))
    signs = max(now, (ring.published or now) + delays.settle)
    return Outlook(signs, signs + delays.leaf_lifetime + delays.settle)


def advance(
    ring: Keyring | None,
    step: Step,
    *,
    now: datetime,
    delays: RotationDelays,
    made: Authority | None = None,
    registered: Iterable[Anchor] = (),
) -> Keyring:
    """The keyring after a step.

    Args:
        ring: What the Secret holds; for RESTORE what is remembered, for CREATE nothing.
        step: What is due.
        now: The time.
        delays: As `due` has them.
        made: The new authority, for the steps that need one.
        registered: Authorities of ours that bundles hold now. A Secret that was emptied forgets them, but replicas
            may still serve what they signed.
    """
    if step in {Step.CREATE, Step.REPLACE} or ring is None:
        if made is None:
            raise ValueError(f"{step} needs an authority")
        fresh = Keyring(signing=made, delays=delays)
        return _trusting(fresh, registered, now)
    if step is Step.RESTORE:
        return _trusting(ring, registered, now)
    if step is Step.ADD:
        if made is None:
            raise ValueError(f"{step} needs an authority")
        return dataclasses.replace(ring, following=made, published=None, delays=delays)
    if step is Step.SEEN:
        return dataclasses.replace(ring, published=now)
    if step is Step.WITHDRAW:
        return dataclasses.replace(ring, published=None)
    if step is Step.PROMOTE:
        if ring.following is None:
            raise ValueError("there is nothing to promote")
        return dataclasses.replace(
            ring,
            signing=ring.following,
            following=None,
            previous=(ring.signing.anchor, *ring.previous),
            published=None,
            promoted=now,
            delays=delays.at_least(ring.delays),
        )
    return dataclasses.replace(ring, previous=(), promoted=None)


def _trusting(ring: Keyring, registered: Iterable[Anchor], now: datetime) -> Keyring:
    """The same, trusting also what bundles hold already."""
    known = {anchor.fingerprint for anchor in ring.trusted}
    others = {anchor.fingerprint: anchor for anchor in registered if anchor.expires > now}
    added = tuple(anchor for fingerprint, anchor in others.items() if fingerprint not in known)
    if not added:
        return ring
    return dataclasses.replace(ring, previous=(*ring.previous, *added), promoted=now)


def needs_leaf(leaf: Leaf | None, ring: Keyring, *, trusts: Trusts, now: datetime, delays: RotationDelays) -> bool:
    """Whether a replica has to sign a new leaf for itself now, with the authority that signs.

    Args:
        leaf: What it serves.
        ring: What the Secret holds.
        trusts: Whether every bundle of ours is seen to trust an authority.
        now: The time.
        delays: As `due` has them.
    """
    if leaf is None:
        return True
    if trusts(leaf.issuer) and not trusts(ring.signing.anchor):
        return leaf.is_ending(now)
    if leaf.is_due(now) or not trusts(leaf.issuer):
        return leaf.issuer != ring.signing.anchor or leaf.is_due(now)
    if leaf.issuer == ring.signing.anchor:
        return False
    # Nobody is in a hurry to leave an authority that is still trusted. Waiting once more lets API servers take notice
    # also where the new one did not come by promotion: after somebody emptied the Secret.
    return ring.promoted is None or now >= ring.promoted + delays.at_least(ring.delays).settle
