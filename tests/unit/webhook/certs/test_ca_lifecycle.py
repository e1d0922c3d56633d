from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from injector.config.shapes import KeyAlgorithm
from injector.webhook.certs import ca_lifecycle
from injector.webhook.certs.authority import Authority, issue_leaf, make_authority
from injector.webhook.certs.ca_lifecycle import CaStep, Phase
from injector.webhook.certs.keyring import Keyring, RotationDelays
from tests.http.certificates import DAY, NOW

SETTLE = timedelta(minutes=5)
DELAYS = RotationDelays(settle_time=SETTLE, leaf_lifetime=DAY)
FIRST, SECOND, THIRD = (make_authority(KeyAlgorithm.ECDSA_P256, 300 * DAY, NOW) for _ in range(3))
STEADY = Keyring(signing=FIRST, delays=DELAYS)
PUBLISHING = dataclasses.replace(STEADY, next_ca=SECOND)
SETTLING = dataclasses.replace(PUBLISHING, published=NOW)
RETIRING = Keyring(signing=SECOND, delays=DELAYS, previous=(FIRST.anchor,), promoted=NOW)
LONG_AFTER = NOW + 301 * DAY


def due(ring: Keyring, days: float = 0.0, *, published: bool = False, requested: bool = False) -> CaStep | None:
    return ca_lifecycle.due(ring, published=published, requested=requested, now=NOW + days * DAY, delays=DELAYS)


def test_phase_follows_from_the_keyring() -> None:
    rings = (None, STEADY, PUBLISHING, SETTLING, RETIRING)
    assert [ca_lifecycle.phase(ring) for ring in rings] == list(Phase)


def test_no_step_is_due_in_the_first_two_thirds_of_a_ca() -> None:
    assert (due(STEADY), due(STEADY, 199.9), due(STEADY, 200)) == (None, None, CaStep.ADD)


def test_request_creates_one_next_ca_immediately() -> None:
    assert due(STEADY, requested=True) is CaStep.ADD
    for ring in (PUBLISHING, SETTLING, RETIRING):
        assert due(ring, requested=True, published=ring is not PUBLISHING) is None


def test_next_ca_signs_after_every_bundle_had_it_for_the_wait() -> None:
    assert due(PUBLISHING) is None
    assert due(PUBLISHING, published=True) is CaStep.SEEN
    assert due(SETTLING, published=True) is None
    assert due(SETTLING, SETTLE / DAY, published=True) is CaStep.PROMOTE


def test_bundle_without_the_next_ca_restarts_the_wait() -> None:
    assert due(SETTLING, 1, published=False) is CaStep.WITHDRAW


def test_previous_ca_is_trusted_until_its_last_leaf_expires() -> None:
    until = 1 + SETTLE / DAY
    assert due(RETIRING, until - 0.001) is None
    assert due(RETIRING, until) is CaStep.PRUNE


def test_the_longer_wait_of_two_versions_holds() -> None:
    patient = dataclasses.replace(RETIRING, delays=RotationDelays(SETTLE, 10 * DAY))
    assert (due(patient, 9), due(patient, 10.1)) == (None, CaStep.PRUNE)


def test_previous_cas_without_a_time_stay_until_they_expire() -> None:
    timeless = dataclasses.replace(RETIRING, promoted=None)
    assert due(timeless, 100) is None
    assert ca_lifecycle.retire_at(timeless, DELAYS) == FIRST.anchor.expires


def test_expired_ca_is_replaced_by_the_next_or_a_new_one() -> None:
    fresh = make_authority(KeyAlgorithm.ECDSA_P256, 300 * DAY, LONG_AFTER)
    assert due(STEADY, 301) is CaStep.REPLACE
    assert due(dataclasses.replace(STEADY, next_ca=fresh), 301) is CaStep.PROMOTE
    assert due(PUBLISHING, 301) is CaStep.ADD  # the next one has expired, too: create another first


def test_a_whole_rotation() -> None:
    ring = ca_lifecycle.advance(None, CaStep.CREATE, now=NOW, delays=DELAYS, made=FIRST)
    assert ring == STEADY
    ring = ca_lifecycle.advance(ring, CaStep.ADD, now=NOW, delays=DELAYS, made=SECOND)
    assert ring == PUBLISHING
    assert ring.trusted == (FIRST.anchor, SECOND.anchor)
    ring = ca_lifecycle.advance(ring, CaStep.SEEN, now=NOW, delays=DELAYS)
    assert ring == SETTLING
    assert ca_lifecycle.advance(ring, CaStep.WITHDRAW, now=NOW, delays=DELAYS) == PUBLISHING
    ring = ca_lifecycle.advance(ring, CaStep.PROMOTE, now=NOW, delays=DELAYS)
    assert ring == RETIRING
    assert ring.trusted == (SECOND.anchor, FIRST.anchor)
    assert ca_lifecycle.advance(ring, CaStep.PRUNE, now=NOW, delays=DELAYS) == Keyring(signing=SECOND, delays=DELAYS)


def test_ca_in_bundles_stays_trusted_without_the_secret() -> None:
    registered = (FIRST.anchor, SECOND.anchor, FIRST.anchor)
    made = ca_lifecycle.advance(None, CaStep.CREATE, now=NOW, delays=DELAYS, made=THIRD, registered=registered)
    assert made == Keyring(signing=THIRD, delays=DELAYS, previous=(FIRST.anchor, SECOND.anchor), promoted=NOW)
    restored = ca_lifecycle.advance(PUBLISHING, CaStep.RESTORE, now=NOW, delays=DELAYS, registered=registered)
    assert restored == PUBLISHING
    late = ca_lifecycle.advance(None, CaStep.REPLACE, now=LONG_AFTER, delays=DELAYS, made=THIRD, registered=registered)
    assert late.previous == ()


@pytest.mark.parametrize(
    ("ring", "step"), [(None, CaStep.CREATE), (STEADY, CaStep.ADD), (STEADY, CaStep.REPLACE), (STEADY, CaStep.PROMOTE)]
)
def test_step_without_its_input_is_an_internal_error(ring: Keyring | None, step: CaStep) -> None:
    with pytest.raises(ValueError, match=r"needs a CA|no next CA to promote"):
        ca_lifecycle.advance(ring, step, now=NOW, delays=DELAYS)


def leaf_wanted(signer: Authority | None, ring: Keyring, *trusted: Authority, hours: float = 1.0) -> bool:
    leaf = None if signer is None else issue_leaf(signer, ("a",), KeyAlgorithm.ECDSA_P256, DAY, NOW)
    anchors = [each.anchor for each in trusted]
    return ca_lifecycle.needs_leaf(
        leaf, ring, trusts=lambda anchor: anchor in anchors, now=NOW + timedelta(hours=hours), delays=DELAYS
    )


def test_replica_signs_without_a_leaf_and_after_two_thirds() -> None:
    assert leaf_wanted(None, STEADY)
    assert not leaf_wanted(FIRST, STEADY, FIRST)
    assert leaf_wanted(FIRST, STEADY, FIRST, hours=16)
    # An emptied bundle is not a reason to sign again with the same CA.
    assert not leaf_wanted(FIRST, STEADY)


def test_replica_changes_to_the_new_ca_after_the_wait() -> None:
    assert not leaf_wanted(FIRST, RETIRING, FIRST, SECOND, hours=0.05)
    assert leaf_wanted(FIRST, RETIRING, FIRST, SECOND, hours=0.1)


def test_replica_keeps_a_trusted_leaf_until_the_new_ca_is_trusted() -> None:
    assert not leaf_wanted(FIRST, RETIRING, FIRST, hours=20)
    assert leaf_wanted(FIRST, RETIRING, FIRST, hours=22)


def test_replica_replaces_an_untrusted_leaf_immediately() -> None:
    assert leaf_wanted(FIRST, RETIRING, SECOND, hours=0)
    assert leaf_wanted(FIRST, RETIRING, hours=0)


def test_outlook_has_start_and_end_of_a_rotation() -> None:
    signs = NOW + SETTLE
    ends = signs + DAY + SETTLE
    for ring in (STEADY, PUBLISHING, SETTLING):
        assert ca_lifecycle.outlook(ring, NOW) == ca_lifecycle.Outlook(signs, ends)
    assert ca_lifecycle.outlook(RETIRING, NOW) == ca_lifecycle.Outlook(NOW, NOW + DAY + SETTLE)
