"""Properties of self-managed certificates, with the real replicas interleaved call by call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from injector.core import names
from injector.kube.resources import MUTATING_WEBHOOKS, SECRETS
from injector.webhook.certs import ca_lifecycle
from injector.webhook.certs.ca_lifecycle import Phase
from tests.fake_cluster.client import Outcome
from tests.unit.webhook.certs.replicas import (
    CONFIGURATIONS,
    KEYS,
    SECOND,
    SETTLE,
    Replica,
    SharedCluster,
    run_until_done,
)

if TYPE_CHECKING:
    from hypothesis.stateful import MultipleResults

    from tests.unit.webhook.certs.replicas import Slot

EVERY_CONFIGURATION = (*CONFIGURATIONS, SECOND)
# Seconds: within a call, between two looks, and over each of the waits.
PAUSES = (0.0, 1.0, 60.0, 301.0, 3600.0, 9 * 3600.0, 25 * 3600.0, 12 * 86_400.0)


class Rotation(RuleBasedStateMachine):
    """Replicas that start, continue, crash and see changes late; lost calls; another client that empties bundles.

    With two entries it also deletes a mutating configuration and creates it again, with or without its last bundle.
    """

    replicas = Bundle("replicas")

    @initialize(target=replicas, running=st.integers(0, 2), second=st.booleans())
    def begin(self, running: int, *, second: bool) -> MultipleResults[Replica]:
        self.cluster = SharedCluster(second=second)
        self.deleted: dict[Slot, list[Any]] = {}
        self.members = [Replica(self.cluster, number, interleaved=True) for number in range(running)]
        for _ in range(3):
            for replica in self.members:
                replica.turn()
        return multiple(*self.members)

    @rule(target=replicas)
    def start(self) -> Replica:
        if len(self.members) >= 3:
            return self.members[-1]
        replica = Replica(self.cluster, len(self.members), interleaved=True)
        self.members.append(replica)
        return replica

    @rule(replica=replicas, outcome=st.sampled_from(Outcome))
    def proceed(self, replica: Replica, outcome: Outcome) -> None:
        replica.proceed(outcome)

    @rule(replica=replicas, slot=st.sampled_from((SECRETS, *EVERY_CONFIGURATION)))
    def refresh(self, replica: Replica, slot: Slot) -> None:
        if slot == SECRETS or slot in self.cluster.configurations:
            replica.refresh(slot)

    @rule(replica=replicas)
    def take_a_turn(self, replica: Replica) -> None:
        replica.turn()

    @rule(seconds=st.sampled_from(PAUSES))
    def let_all_take_their_turns(self, seconds: float) -> None:
        self.cluster.seconds += seconds
        for replica in self.members:
            replica.turn()

    @rule(replica=replicas)
    def crash(self, replica: Replica) -> None:
        replica.close()
        replica.restart()

    @rule(seconds=st.sampled_from(PAUSES))
    def pass_time(self, seconds: float) -> None:
        self.cluster.seconds += seconds

    @rule(slot=st.sampled_from(EVERY_CONFIGURATION))
    def blank(self, slot: Slot) -> None:
        if self.cluster.get(slot) is not None:
            self.cluster.blank(slot)

    @rule(slot=st.sampled_from((MUTATING_WEBHOOKS, SECOND)), keeps_bundle=st.booleans())
    def delete_or_create_again(self, slot: Slot, *, keeps_bundle: bool) -> None:
        if SECOND not in self.cluster.configurations:
            return
        found = self.cluster.get(slot)
        if found is not None:
            self.cluster.delete(slot)
            self.deleted[slot] = found["webhooks"]
            return
        self.cluster.register(slot)
        if keeps_bundle:
            self.cluster.change(slot, webhooks=self.deleted[slot])

    @rule()
    def ask(self) -> None:
        secret = self.cluster.existing(SECRETS)
        secret["metadata"]["annotations"] = {names.ROTATE_CA: "now"}
        self.cluster.put(SECRETS, secret)

    @invariant()
    def every_leaf_is_trusted_by_every_bundle_that_an_api_server_may_hold(self) -> None:
        since = self.cluster.seconds - SETTLE.total_seconds()
        for replica in self.members:
            if replica.issuer is None:
                continue
            for slot in replica.own:
                history = self.cluster.bundles[slot]
                # An API server can have the last bundle from before that moment, and any later one.
                first = max((at for at, written in enumerate(history) if written.since <= since), default=0)
                for written in history[first:]:
                    # A bundle whose CAs all expired while no replica ran trusts nothing.
                    if written.ends > self.cluster.now:
                        assert replica.issuer in written.trusted, (replica.number, KEYS[slot], written.since)

    @invariant()
    def an_authority_is_followed_by_one_at_most(self) -> None:
        ring = self.cluster.ring()
        assert ring is None or len(ring.trusted) <= 2

    def teardown(self) -> None:
        if not hasattr(self, "cluster") or not self.members:
            return
        for slot in self.cluster.configurations:
            if self.cluster.get(slot) is None:
                self.cluster.register(slot)
        run_until_done(
            self.cluster,
            self.members,
            is_done=lambda: ca_lifecycle.phase(self.cluster.ring()) is Phase.STEADY and self._agree(),
        )
        ring = self.cluster.ring()
        assert ring is not None
        assert ca_lifecycle.phase(ring) is Phase.STEADY
        assert self._agree()
        assert [replica.managed.problems for replica in self.members] == [{}] * len(self.members)

    def _agree(self) -> bool:
        """Whether bundles and leaves match the Secret."""
        ring = self.cluster.ring()
        return (
            ring is not None
            and all(self.cluster.registration(slot).is_exactly(ring.trusted) for slot in self.cluster.configurations)
            and all(replica.issuer == ring.signing.anchor.fingerprint for replica in self.members)
        )


TestRotation = Rotation.TestCase
TestRotation.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
