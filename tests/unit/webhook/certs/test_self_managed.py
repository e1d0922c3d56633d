"""The shell: what the laws of tests/property do not ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from injector.core import names
from injector.kube.errors import ForbiddenError, KubeconfigError, KubeError, UnavailableError
from injector.kube.metrics import KubeMetrics
from injector.kube.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS
from injector.webhook.certs import rotation
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.certs.objects import OwnObjects
from injector.webhook.certs.pair import server_context
from injector.webhook.certs.rotation import Phase
from injector.webhook.certs.self_managed import SelfManaged
from injector.webhook.health import Health, certificate_check
from injector.webhook.metrics import RequestMetrics
from tests.fake_cluster.client import Outcome, StoreApi, call_of
from tests.unit.kube.warped import run_warped
from tests.unit.webhook.certs.world import BEGINNING, LEAF, SETTINGS, Replica, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from injector.kube.resources import Resource
    from injector.kube.transport import Request


def started(count: int = 1) -> tuple[World, list[Replica]]:
    """A world with replicas that have come to rest."""
    world = World()
    replicas = [Replica(world, number) for number in range(count)]
    for _ in range(3):
        for replica in replicas:
            replica.turn()
    return world, replicas


def test_one_turn_after_another_makes_a_replica_ready() -> None:
    world, (replica,) = started()
    ready, checks = Health({"certificate": certificate_check(replica.managed)}).ready()
    assert ready
    assert checks["certificate"] == {
        "ok": True,
        "expires": (BEGINNING + LEAF).isoformat(),
        "seconds_left": 86_400,
        "phase": "steady",
        "trusted": True,
    }
    assert replica.metrics.ca_expiry == world.ring().signing.anchor.expires.timestamp()  # type: ignore[union-attr] # there is one


def test_before_there_is_an_authority_a_replica_is_not_ready_and_says_why() -> None:
    world = World()
    world.delete(SECRETS)
    replica = Replica(world, 0)
    replica.turn()
    ready, checks = Health({"certificate": certificate_check(replica.managed)}).ready()
    assert not ready
    assert checks["certificate"] == {
        "ok": False,
        "phase": "none",
        "trusted": False,
        "problems": ["secrets/ca in namespace dapr does not exist"],
    }


@pytest.mark.parametrize("webhooks", [None, [], [{"name": "other.example.com", "clientConfig": {}}]])
def test_a_configuration_that_only_warns_may_be_missing_or_without_an_entry_of_ours(
    webhooks: list[Any] | None,
) -> None:
    world = World()
    if webhooks is None:
        world.delete(VALIDATING_WEBHOOKS)
    else:
        world.change(VALIDATING_WEBHOOKS, webhooks=webhooks)
    before = world.get(VALIDATING_WEBHOOKS)
    replica = Replica(world, 0)
    for _ in range(3):
        replica.turn()

    assert (replica.managed.ready, replica.managed.facts()) == (True, {"phase": "steady", "trusted": True})
    ask_for_rotation(world)
    for _ in range(40):
        world.seconds += 3600
        replica.turn()
    assert replica.metrics.ca_steps["prune"] == 1
    assert world.get(VALIDATING_WEBHOOKS) == before


@pytest.mark.parametrize("webhooks", [None, [], [{"name": "other.example.com", "clientConfig": {}}]])
def test_without_an_entry_that_mutates_a_replica_is_not_ready_and_says_why(webhooks: list[Any] | None) -> None:
    world = World()
    whole = world.existing(MUTATING_WEBHOOKS)
    world.change(MUTATING_WEBHOOKS, webhooks=webhooks)
    replica = Replica(world, 0)
    for _ in range(3):
        replica.turn()

    assert not replica.managed.ready
    words = "mutatingwebhookconfigurations/hooks has no entry with a name *.dapr-token-injector.svc"
    assert words in replica.managed.problems.values()

    world.put(MUTATING_WEBHOOKS, whole)
    for _ in range(3):
        replica.turn()
    assert (replica.managed.ready, replica.managed.problems) == (True, {})


def test_two_replicas_that_fill_the_secret_at_once_end_with_one_authority() -> None:
    world = World()
    replicas = [Replica(world, number) for number in range(2)]
    for replica in replicas:
        for resource in (SECRETS, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            replica.hear(resource)
    while [replica for replica in replicas if replica.go_on()]:
        pass
    for _ in range(3):
        for replica in replicas:
            replica.turn()
    assert [replica.metrics.ca_steps["create"] for replica in replicas].count(1) == 1
    assert len({replica.issuer for replica in replicas}) == 1


def test_a_replica_without_memory_leaves_an_emptied_secret_to_those_who_have_one() -> None:
    world, (old,) = started()
    before = world.ring()
    new = Replica(world, 1)
    world.change(SECRETS, data={})
    new.turn()
    assert world.ring() is None
    old.turn()
    assert world.ring() == before
    assert old.metrics.ca_steps["restore"] == 1


def test_a_replica_without_memory_fills_an_emptied_secret_when_nobody_else_does() -> None:
    world, (old,) = started()
    before = old.issuer
    old.close()
    new = Replica(world, 1)
    world.change(SECRETS, data={})
    new.turn()
    world.seconds += 4
    for _ in range(3):
        new.turn()
    ring = world.ring()
    assert ring is not None
    assert [anchor.fingerprint for anchor in ring.previous] == [before]
    assert new.issuer == ring.signing.anchor.fingerprint


def test_without_its_secret_a_replica_adds_itself_to_a_bundle_and_takes_nobody_out() -> None:
    world, replicas = started(2)
    world.delete(SECRETS)
    world.blank(MUTATING_WEBHOOKS)
    for replica in replicas:
        replica.turn()
        replica.turn()
    registered = world.registration(MUTATING_WEBHOOKS)
    assert all(entry.anchors for entry in registered.entries)
    assert sum(replica.metrics.ca_bundle_writes["healed"] for replica in replicas) == 1
    assert all(replica.managed.trusted for replica in replicas)


def test_a_missing_right_to_patch_is_told_and_the_rest_goes_on() -> None:
    world, (replica,) = started()
    denied = ForbiddenError("patch mutatingwebhookconfigurations/hooks")
    world.problem = lambda verb, resource: denied if (verb, resource) == ("patch", MUTATING_WEBHOOKS) else None
    world.blank(MUTATING_WEBHOOKS)
    world.blank(VALIDATING_WEBHOOKS)
    replica.turn()
    assert replica.managed.problems == {
        "mutatingwebhookconfigurations/hooks": str(denied),
        "caBundle": "the registered caBundle does not trust the active certificate",
    }
    assert world.registration(VALIDATING_WEBHOOKS).entries[0].anchors
    assert replica.managed.ready  # it was trusted once: out of every EndpointSlice nobody could serve at all
    world.problem = lambda _verb, _resource: None
    replica.turn()
    assert replica.managed.problems != {}  # asked for again after a while only
    world.seconds += 31
    replica.turn()
    assert replica.managed.problems == {}


def test_the_api_servers_clock_counts() -> None:
    world, (replica,) = started()
    issuer = replica.issuer
    # This replica's clock is a hundred years ahead, and that of the API server is right.
    replica.managed._local_now = lambda: world.now + timedelta(days=36_500)
    replica.api.skew_seconds = -36_500 * 86_400.0
    for _ in range(3):
        replica.turn()
    assert (replica.issuer, replica.metrics.ca_steps["replace"]) == (issuer, 0)
    assert replica.kube.clock_skew == replica.api.skew_seconds


def test_an_answer_that_was_lost_is_no_second_authority() -> None:
    world = World()
    replica = Replica(world, 0)
    for resource in (SECRETS, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        replica.hear(resource)
    replica.go_on()
    replica.go_on()  # the Secret is read
    replica.go_on(Outcome.UNHEARD)  # and written, but nobody said so
    written = world.ring()
    assert written is not None
    while replica.go_on():
        pass
    world.seconds += 60
    for _ in range(3):
        replica.turn()
    assert world.ring() == written
    assert replica.issuer == written.signing.anchor.fingerprint


def test_a_rotation_that_is_asked_for_happens_once() -> None:
    world, replicas = started(2)
    secret = world.existing(SECRETS)
    secret["metadata"]["annotations"] = {names.ROTATE_CA: "now", "other": "stays"}
    world.put(SECRETS, secret)
    for _ in range(40):
        world.seconds += 3600
        for replica in replicas:
            replica.turn()
    assert world.existing(SECRETS)["metadata"]["annotations"] == {"other": "stays"}
    for step in ("add", "seen", "promote", "prune"):
        assert sum(replica.metrics.ca_steps[step] for replica in replicas) == 1


def ask_for_rotation(world: World) -> None:
    secret = world.existing(SECRETS)
    secret["metadata"]["annotations"] = {names.ROTATE_CA: "now"}
    world.put(SECRETS, secret)


def test_an_authority_that_no_bundle_holds_never_signs() -> None:
    world, (replica,) = started()
    before = replica.issuer
    denied = ForbiddenError("patch mutatingwebhookconfigurations/hooks")
    world.problem = lambda verb, _: denied if verb == "patch" else None
    ask_for_rotation(world)
    for _ in range(40):
        world.seconds += 3600
        replica.turn()
    ring = world.ring()
    assert ring is not None
    assert (rotation.phase(ring), replica.issuer) == (Phase.PUBLISHING, before)


def test_a_bundle_that_loses_the_next_authority_starts_the_wait_anew() -> None:
    world, (replica,) = started()
    ask_for_rotation(world)
    for _ in range(3):
        replica.turn()
    world.seconds += 299
    world.blank(MUTATING_WEBHOOKS)
    for _ in range(3):
        replica.turn()
    assert replica.metrics.ca_steps["withdraw"] == 1
    world.seconds += 200
    replica.turn()
    assert replica.metrics.ca_steps["promote"] == 0
    world.seconds += 200
    replica.turn()
    assert replica.metrics.ca_steps["promote"] == 1


def test_a_replica_with_an_old_copy_signs_with_what_the_secret_says_now() -> None:
    world, (busy, late) = started(2)
    before = busy.issuer
    ask_for_rotation(world)
    for _ in range(40):
        world.seconds += 3600
        busy.turn()
    assert late.managed.pair is not None
    while late.go_on():  # it has heard of nothing since
        pass
    assert late.managed._leaf is not None
    assert late.managed._leaf.issuer.fingerprint == busy.issuer != before


def test_a_replica_that_is_late_cannot_put_an_older_bundle_in_place_of_a_newer_one() -> None:
    world, (busy, late) = started(2)
    before = dict(late.metrics.ca_bundle_writes)
    world.blank(MUTATING_WEBHOOKS)
    for resource in (SECRETS, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        late.hear(resource)
    for _ in range(3):
        late.go_on()  # it has read the configuration and the Secret, and is about to write
    ask_for_rotation(world)
    busy.turn()
    busy.turn()
    ring = world.ring()
    assert ring is not None
    assert ring.next_ca is not None
    assert world.registration(MUTATING_WEBHOOKS).is_exactly(ring.trusted)
    while late.go_on():
        pass
    assert world.registration(MUTATING_WEBHOOKS).is_exactly(ring.trusted)
    assert late.metrics.ca_bundle_writes == before


# --- `run` ---


async def _at_once(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what the function returns
    return function(*arguments)


class Hanging(StoreApi):
    """Some calls get no answer from some moment on, and end when the client gives them up."""

    def __init__(self, world: World, hangs: set[tuple[str, Resource]]) -> None:
        super().__init__(world.store, world.problem_of)
        self.hangs = hangs

    async def send(self, request: Request) -> dict[str, Any]:
        if call_of(request) in self.hangs:
            await asyncio.sleep(request.timeout_seconds)
            raise UnavailableError(request.operation)
        return await super().send(request)


SHORT = SETTINGS.model_copy(update={"leaf_lifetime": timedelta(seconds=60)})


def run_for(
    seconds: float,
    world: World,
    failures: list[Exception],
    *,
    api: StoreApi | None = None,
    story: Callable[[OwnObjects], Awaitable[None]] | None = None,
) -> SelfManaged:
    """Run a replica for so long; the first ways to the cluster fail as listed. `story` is what happens then."""

    async def work() -> SelfManaged:
        loop = asyncio.get_running_loop()
        opened: list[OwnObjects] = []

        @contextlib.asynccontextmanager
        async def connect(
            changed: Callable[[], None], failed: Callable[[KubeError], None]
        ) -> AsyncIterator[OwnObjects]:
            if failures:
                raise failures.pop(0)
            objects = OwnObjects(
                api or StoreApi(world.store, world.problem_of),
                namespace="dapr",
                secret_name="ca",
                configuration_name="hooks",
                changed=changed,
                failed=failed,
            )
            opened.append(objects)
            yield objects

        managed = SelfManaged(
            SHORT,
            connect,
            context=server_context(ssl.TLSVersion.TLSv1_3),
            metrics=CertificateMetrics(),
            kube=KubeMetrics(loop.time),
            requests=RequestMetrics(),
            now=lambda: BEGINNING + timedelta(seconds=loop.time()),
            clock=loop.time,
            rng=random.Random(1),  # noqa: S311 - the same again and again
            off_loop=_at_once,
        )
        task = asyncio.create_task(managed.run())
        await asyncio.sleep(seconds)
        if story is not None:
            await story(opened[-1])
        managed.wake()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return managed

    return run_warped(work())


@pytest.mark.parametrize(
    "hangs",
    [{("get", SECRETS)}, {("update", SECRETS)}, {("get", SECRETS), ("update", SECRETS)}],
    ids=["reads of the Secret hang", "its writes hang", "both hang"],
)
def test_a_bundle_is_healed_at_once_whatever_hangs_of_the_secret(hangs: set[tuple[str, Resource]]) -> None:
    world = World()
    api = Hanging(world, set())

    async def story(objects: OwnObjects) -> None:
        api.hangs |= hangs
        ask_for_rotation(world)  # a step of the Secret is due, too, and takes half a minute to fail
        objects.secret.saw(world.get(SECRETS))
        await asyncio.sleep(0.5)
        for resource, reflector in zip((MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS), objects.configurations, strict=True):
            world.blank(resource)
            reflector.saw(world.get(resource))
        await asyncio.sleep(4.9)
        assert [
            bool(world.registration(each).entries[0].anchors) for each in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        ] == [
            True,
            True,
        ]

    assert run_for(2, world, [], api=api, story=story).ready


def test_a_leaf_is_renewed_while_bundles_cannot_be_read() -> None:
    world = World()
    api = Hanging(world, set())

    async def story(objects: OwnObjects) -> None:
        api.hangs |= {("get", MUTATING_WEBHOOKS), ("get", VALIDATING_WEBHOOKS)}
        for resource, reflector in zip((MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS), objects.configurations, strict=True):
            world.blank(resource)
            reflector.saw(world.get(resource))
        await asyncio.sleep(5)

    # Two thirds of its minute pass while the reads hang.
    managed = run_for(38, world, [], api=api, story=story)
    assert managed.pair is not None
    assert managed.pair.expires >= BEGINNING + timedelta(seconds=100)


def test_a_replica_is_ready_a_moment_after_its_start() -> None:
    managed = run_for(2, World(), [])
    assert managed.ready
    assert managed.problems == {}


def test_a_replica_renews_by_itself() -> None:
    managed = run_for(45, World(), [])
    assert managed.pair is not None
    assert managed.pair.expires == BEGINNING + timedelta(seconds=100)


def test_a_cluster_that_cannot_be_reached_yet_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "injector")
    managed = run_for(100, World(), [KubeconfigError("reach the cluster"), KubeconfigError("reach the cluster")])
    assert managed.ready
    assert managed.problems == {}
    told = [record for record in caplog.records if "cannot reach the cluster" in str(getattr(record, "fields", ""))]
    assert [record.levelno for record in told] == [logging.ERROR, logging.INFO]


def test_a_fault_of_ours_is_told_without_its_words_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    managed = run_for(100, World(), [RuntimeError("secret-marker")])
    assert managed.ready
    assert "secret-marker" not in "".join(str(vars(record)) for record in caplog.records)
    assert managed._requests.errors["internal"] == 1
