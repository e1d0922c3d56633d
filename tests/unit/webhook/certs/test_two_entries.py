"""Two groups of replicas, each behind the entries of a MutatingWebhookConfiguration of its own."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from injector.core import names
from injector.kube.resources import MUTATING_WEBHOOKS, SECRETS
from injector.webhook.certs import ca_lifecycle
from injector.webhook.certs.ca_lifecycle import Phase
from tests.fake_cluster.store import Refusal
from tests.http.certificates import Issuer
from tests.unit.webhook.certs.replicas import SECOND, SERVICES, SETTLE, Replica, SharedCluster

if TYPE_CHECKING:
    from injector.webhook.certs.keyring import Keyring
    from tests.unit.webhook.certs.replicas import Slot

FIRST_NAME = "mutatingwebhookconfigurations/hooks"
SECOND_NAME = "mutatingwebhookconfigurations/hooks-2"
FOREIGN = base64.b64encode(Issuer().pem).decode()


def turns(*replicas: Replica, count: int = 3) -> None:
    for _ in range(count):
        for replica in replicas:
            replica.turn()


def groups(cluster: SharedCluster | None = None) -> tuple[SharedCluster, Replica, Replica]:
    """A cluster with a replica of each group, after their first turns."""
    cluster = cluster or SharedCluster(second=True)
    one, two = Replica(cluster, 0), Replica(cluster, 1)
    turns(one, two)
    return cluster, one, two


def ask_for_rotation(cluster: SharedCluster) -> None:
    secret = cluster.existing(SECRETS)
    secret["metadata"]["annotations"] = {names.ROTATE_CA: "now"}
    cluster.put(SECRETS, secret)


def ring(cluster: SharedCluster) -> Keyring:
    found = cluster.ring()
    assert found is not None
    return found


def phase(cluster: SharedCluster) -> Phase:
    return ca_lifecycle.phase(cluster.ring())


def is_in_sync(cluster: SharedCluster) -> bool:
    return all(cluster.registration(slot).is_exactly(ring(cluster).trusted) for slot in cluster.configurations)


def test_both_groups_become_ready_with_one_ca() -> None:
    cluster, one, two = groups()
    assert is_in_sync(cluster)
    for replica in (one, two):
        assert (replica.managed.ready, replica.managed.problems) == (True, {})
        assert set(replica.metrics.configurations_trusted.items()) == {
            ("mutating", 1), ("second-mutating", 1), ("validating", 1)
        }  # fmt: skip
    assert [replica.managed.pair.names[0] for replica in (one, two) if replica.managed.pair] == [
        f"{service}.dapr.svc" for service in SERVICES
    ]


def deny_writes(cluster: SharedCluster) -> None:
    """Take the permission to write into the second configuration away."""
    cluster.store.refusals.append(Refusal("PATCH .*/hooks-2", 403, "forbidden", "Forbidden"))


@pytest.mark.parametrize("fault", ["missing", "foreign", "unreadable"])
def test_group_is_ready_without_the_configuration_of_the_other(fault: str) -> None:
    cluster = SharedCluster(second=True)
    if fault == "missing":
        cluster.delete(SECOND)
    elif fault == "foreign":
        cluster.set_bundles(SECOND, FOREIGN)
        deny_writes(cluster)
    else:
        cluster.unreadable.add(SECOND)
    _, one, two = groups(cluster)
    assert (one.managed.ready, two.managed.ready) == (True, False)
    assert one.metrics.ca_bundle_trusted == 1
    assert one.metrics.configurations_trusted == {"mutating": 1, "second-mutating": 0, "validating": 1}
    assert all(SECOND_NAME in problem for problem in one.managed.problems.values())
    assert one.managed.problems


def test_second_group_is_ready_without_the_first_configuration() -> None:
    cluster = SharedCluster(second=True)
    cluster.delete(MUTATING_WEBHOOKS)
    _, one, two = groups(cluster)
    assert (one.managed.ready, two.managed.ready) == (False, True)
    assert f"{FIRST_NAME} does not exist" in two.managed.problems.values()
    assert f"no entry of {FIRST_NAME}, {SECOND_NAME} calls dapr-token-injector.dapr.svc" in (
        one.managed.problems.values()
    )


def test_second_configuration_that_is_created_late_makes_its_group_ready() -> None:
    cluster = SharedCluster(second=True)
    cluster.delete(SECOND)
    _, one, two = groups(cluster)
    assert (one.managed.ready, two.managed.ready) == (True, False)
    cluster.register(SECOND)
    turns(one, two)
    assert is_in_sync(cluster)
    assert two.managed.ready
    assert (one.managed.problems, two.managed.problems) == ({}, {})


def point(cluster: SharedCluster, slot: Slot, config: dict[str, object]) -> None:
    """Make all entries of a configuration call something else."""
    webhooks = cluster.existing(slot)["webhooks"]
    cluster.change(slot, webhooks=[{**entry, "clientConfig": config} for entry in webhooks])


@pytest.mark.parametrize(
    "service",
    [{"name": "other", "namespace": "dapr"}, {"name": SERVICES[1], "namespace": "other"}, {"name": SERVICES[1]}],
)
def test_entries_of_a_foreign_service_make_no_replica_ready(service: dict[str, str]) -> None:
    cluster = SharedCluster(second=True)
    point(cluster, SECOND, {"service": service})
    _, one, two = groups(cluster)
    assert (one.managed.ready, two.managed.ready) == (True, False)
    words = f"no entry of {FIRST_NAME}, {SECOND_NAME} calls dapr-token-injector-2.dapr.svc"
    assert list(two.managed.problems.values()) == [words]
    assert is_in_sync(cluster)  # they are still entries of this webhook


def test_entries_by_url_count_for_every_group() -> None:
    cluster = SharedCluster(second=True)
    point(cluster, MUTATING_WEBHOOKS, {"url": "https://127.0.0.1/mutate"})
    cluster.delete(SECOND)
    _, one, two = groups(cluster)
    assert one.managed.ready
    assert two.managed.ready


def test_replica_is_not_ready_before_every_configuration_was_read() -> None:
    cluster, *_ = groups()
    for slot in (MUTATING_WEBHOOKS, SECOND):
        bundle = cluster.existing(slot)["webhooks"][0]["clientConfig"]["caBundle"]
        point(cluster, slot, {"url": "https://127.0.0.1/mutate", "caBundle": bundle})
    cluster.blank(SECOND)
    new = Replica(cluster, 2)
    for _ in range(3):
        for slot in (SECRETS, *cluster.configurations[:2]):
            new.refresh(slot)
        while new.proceed():
            pass
    assert (new.managed.pair is not None, new.managed.ready) == (True, False)
    turns(new)
    assert is_in_sync(cluster)
    assert (new.managed.pair is not None, new.managed.ready) == (True, True)


def test_every_wiped_bundle_is_repaired_by_either_group() -> None:
    for survivor in (0, 1):
        cluster, *replicas = groups()
        for slot in cluster.configurations:
            cluster.blank(slot)
        turns(replicas[survivor])
        assert is_in_sync(cluster)
        assert replicas[survivor].metrics.ca_bundle_writes["healed"] == len(cluster.configurations)


def test_wiped_bundle_of_the_other_group_does_not_touch_readiness() -> None:
    cluster, one, two = groups()
    deny_writes(cluster)
    cluster.blank(SECOND)
    turns(one, two)
    assert (one.managed.trusted, two.managed.trusted) == (True, False)
    assert two.managed.ready  # it was trusted once
    words = f"the caBundle of {SECOND_NAME} does not trust the active certificate"
    assert words in one.managed.problems.values()
    assert words in two.managed.problems.values()


# --- rotation ---


def rotate(cluster: SharedCluster, *replicas: Replica, hours: int = 40) -> None:
    for _ in range(hours):
        cluster.seconds += 3600
        turns(*replicas, count=1)


def test_rotation_waits_for_the_entries_of_both_groups() -> None:
    cluster, one, two = groups()
    before = one.issuer
    deny_writes(cluster)
    ask_for_rotation(cluster)
    rotate(cluster, one, two)
    assert (phase(cluster), one.issuer, two.issuer) == (Phase.PUBLISHING, before, before)

    cluster.store.refusals.clear()
    rotate(cluster, one, two)
    assert phase(cluster) is Phase.STEADY
    assert one.issuer == two.issuer != before
    assert is_in_sync(cluster)


@pytest.mark.parametrize("slot", [MUTATING_WEBHOOKS, SECOND])
def test_missing_configuration_does_not_block_a_rotation(slot: Slot) -> None:
    cluster, one, two = groups()
    before, old = one.issuer, cluster.existing(slot)["webhooks"][0]["clientConfig"]["caBundle"]
    cluster.delete(slot)
    ask_for_rotation(cluster)
    rotate(cluster, one, two)
    assert phase(cluster) is Phase.STEADY
    assert one.issuer == two.issuer != before

    # Created again, as new or from a backup with the CA that no longer signs.
    for bundle in (None, old):
        if cluster.get(slot) is not None:
            cluster.delete(slot)
        cluster.register(slot)
        cluster.set_bundles(slot, bundle)
        turns(one, two)
        assert is_in_sync(cluster)
        assert (one.managed.trusted, two.managed.trusted) == (True, True)


def test_rotation_without_any_configuration_waits() -> None:
    cluster, one, two = groups()
    for slot in (MUTATING_WEBHOOKS, SECOND):
        cluster.delete(slot)
    ask_for_rotation(cluster)
    rotate(cluster, one, two)
    assert phase(cluster) is Phase.PUBLISHING


def test_deletion_while_the_ca_is_published_ends_the_wait() -> None:
    cluster, one, two = groups()
    deny_writes(cluster)
    ask_for_rotation(cluster)
    turns(one, two)
    assert phase(cluster) is Phase.PUBLISHING
    cluster.delete(SECOND)
    turns(one, two)
    assert phase(cluster) is Phase.SETTLING
    cluster.seconds += SETTLE.total_seconds()
    turns(one, two)
    assert phase(cluster) is Phase.RETIRING


def test_configuration_created_while_settling_gets_the_next_ca_first() -> None:
    cluster, one, two = groups()
    cluster.delete(SECOND)
    ask_for_rotation(cluster)
    turns(one, two)
    assert phase(cluster) is Phase.SETTLING
    next_ca = ring(cluster).next_ca
    assert next_ca is not None

    cluster.seconds += SETTLE.total_seconds() - 1
    cluster.register(SECOND)
    turns(one, two)
    assert one.metrics.ca_steps["withdraw"] + two.metrics.ca_steps["withdraw"] == 1
    assert cluster.registration(SECOND).trusts(next_ca.anchor)
    cluster.seconds += SETTLE.total_seconds() - 1  # the wait started again
    turns(one, two)
    assert phase(cluster) is Phase.SETTLING
    cluster.seconds += 1
    turns(one, two)
    assert phase(cluster) is Phase.RETIRING


def test_unreadable_configuration_blocks_a_rotation_until_it_can_be_read() -> None:
    cluster = SharedCluster(second=True)
    cluster.unreadable.add(SECOND)
    _, one, two = groups(cluster)
    ask_for_rotation(cluster)
    rotate(cluster, one, two)
    assert (one.managed.ready, two.managed.ready, phase(cluster)) == (True, False, Phase.PUBLISHING)

    cluster.unreadable.clear()
    rotate(cluster, one, two)
    assert (two.managed.ready, phase(cluster)) == (True, Phase.STEADY)
    assert (one.managed.problems, two.managed.problems) == ({}, {})
