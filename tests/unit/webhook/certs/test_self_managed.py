"""The certificate loop: cases that the properties in tests/property do not cover."""

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
from injector.webhook.certs import ca_lifecycle
from injector.webhook.certs.ca_lifecycle import Phase
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.certs.objects import OwnObjects
from injector.webhook.certs.pair import server_context
from injector.webhook.certs.self_managed import SelfManaged
from injector.webhook.health import Health, certificate_check
from injector.webhook.metrics import RequestMetrics
from tests.fake_cluster.client import Outcome, StoreApi, call_of
from tests.unit.kube.manual_clock import run_with_manual_clock
from tests.unit.webhook.certs.replicas import BEGINNING, LEAF, SETTINGS, Replica, SharedCluster, one_after_another

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from injector.kube.resources import Resource
    from injector.kube.transport import Request

MUTATING = "mutatingwebhookconfigurations/hooks"


def started(count: int = 1) -> tuple[SharedCluster, list[Replica]]:
    """A shared cluster with ready replicas."""
    cluster = SharedCluster()
    replicas = [Replica(cluster, number) for number in range(count)]
    for _ in range(3):
        for replica in replicas:
            replica.turn()
    return cluster, replicas


def test_replica_becomes_ready_step_by_step() -> None:
    cluster, (replica,) = started()
    ready, checks = Health({"certificate": certificate_check(replica.managed)}).ready()
    assert ready
    assert checks["certificate"] == {
        "ok": True,
        "expires": (BEGINNING + LEAF).isoformat(),
        "seconds_left": 86_400,
        "phase": "steady",
        "trusted": True,
    }
    assert replica.metrics.ca_expiry == cluster.ring().signing.anchor.expires.timestamp()  # type: ignore[union-attr] # there is one


def test_replica_without_a_ca_is_not_ready_with_a_reason() -> None:
    cluster = SharedCluster()
    cluster.delete(SECRETS)
    replica = Replica(cluster, 0)
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
def test_replica_is_ready_without_the_validating_configuration(
    webhooks: list[Any] | None,
) -> None:
    cluster = SharedCluster()
    if webhooks is None:
        cluster.delete(VALIDATING_WEBHOOKS)
    else:
        cluster.change(VALIDATING_WEBHOOKS, webhooks=webhooks)
    before = cluster.get(VALIDATING_WEBHOOKS)
    replica = Replica(cluster, 0)
    for _ in range(3):
        replica.turn()

    assert (replica.managed.ready, replica.managed.facts()) == (True, {"phase": "steady", "trusted": True})
    ask_for_rotation(cluster)
    for _ in range(40):
        cluster.seconds += 3600
        replica.turn()
    assert replica.metrics.ca_steps["prune"] == 1
    assert cluster.get(VALIDATING_WEBHOOKS) == before


@pytest.mark.parametrize("webhooks", [None, [], [{"name": "other.example.com", "clientConfig": {}}]])
def test_replica_without_a_mutating_entry_is_not_ready(webhooks: list[Any] | None) -> None:
    cluster = SharedCluster()
    whole = cluster.existing(MUTATING_WEBHOOKS)
    cluster.change(MUTATING_WEBHOOKS, webhooks=webhooks)
    replica = Replica(cluster, 0)
    for _ in range(3):
        replica.turn()

    assert not replica.managed.ready
    words = "mutatingwebhookconfigurations/hooks has no entry with a name *.dapr-token-injector.svc"
    assert words in replica.managed.problems.values()

    cluster.put(MUTATING_WEBHOOKS, whole)
    for _ in range(3):
        replica.turn()
    assert (replica.managed.ready, replica.managed.problems) == (True, {})


def test_replicas_that_fill_the_secret_concurrently_share_one_ca() -> None:
    cluster = SharedCluster()
    replicas = [Replica(cluster, number) for number in range(2)]
    for replica in replicas:
        for resource in (SECRETS, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            replica.refresh(resource)
    while [replica for replica in replicas if replica.proceed()]:
        pass
    for _ in range(3):
        for replica in replicas:
            replica.turn()
    assert [replica.metrics.ca_steps["create"] for replica in replicas].count(1) == 1
    assert len({replica.issuer for replica in replicas}) == 1


def test_new_replica_leaves_an_emptied_secret_to_older_replicas() -> None:
    cluster, (old,) = started()
    before = cluster.ring()
    new = Replica(cluster, 1)
    cluster.change(SECRETS, data={})
    new.turn()
    assert cluster.ring() is None
    old.turn()
    assert cluster.ring() == before
    assert old.metrics.ca_steps["restore"] == 1


def test_new_replica_fills_an_emptied_secret_after_a_delay() -> None:
    cluster, (old,) = started()
    before = old.issuer
    old.close()
    new = Replica(cluster, 1)
    cluster.change(SECRETS, data={})
    new.turn()
    cluster.seconds += 4
    for _ in range(3):
        new.turn()
    ring = cluster.ring()
    assert ring is not None
    assert [anchor.fingerprint for anchor in ring.previous] == [before]
    assert new.issuer == ring.signing.anchor.fingerprint


def test_replica_without_its_secret_only_adds_to_a_bundle() -> None:
    cluster, replicas = started(2)
    cluster.delete(SECRETS)
    cluster.blank(MUTATING_WEBHOOKS)
    for replica in replicas:
        replica.turn()
        replica.turn()
    registered = cluster.registration(MUTATING_WEBHOOKS)
    assert all(entry.anchors for entry in registered.entries)
    assert sum(replica.metrics.ca_bundle_writes["healed"] for replica in replicas) == 1
    assert all(replica.managed.trusted for replica in replicas)


def test_bundle_that_changes_when_a_replica_is_ready_counts_as_healed() -> None:
    """A turn looks at the bundles while the Secret is still being read: here, before."""
    cluster, _ = started()
    new = Replica(cluster, 1)
    for slot in (SECRETS, *cluster.configurations):
        new.refresh(slot)

    async def bundles_first(parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        secret, leaf, *bundles = parts.items()
        await one_after_another(dict([*bundles, secret, leaf]))

    asyncio.run(new.managed.turn(new.objects, bundles_first))
    assert new.managed.ready
    cluster.blank(MUTATING_WEBHOOKS)
    new.turn()
    assert new.metrics.ca_bundle_writes == {"healed": 1, "published": 0}


def test_missing_patch_permission_is_reported_and_the_rest_continues() -> None:
    cluster, (replica,) = started()
    denied = ForbiddenError("patch mutatingwebhookconfigurations/hooks")
    cluster.problem = lambda verb, resource: denied if (verb, resource) == ("patch", MUTATING_WEBHOOKS) else None
    cluster.blank(MUTATING_WEBHOOKS)
    cluster.blank(VALIDATING_WEBHOOKS)
    replica.turn()
    assert replica.managed.problems == {
        MUTATING: str(denied),
        f"caBundle of {MUTATING}": f"the caBundle of {MUTATING} does not trust the active certificate",
    }
    assert cluster.registration(VALIDATING_WEBHOOKS).entries[0].anchors
    assert replica.managed.ready  # it was trusted once: without it no replica would be in an EndpointSlice
    cluster.problem = lambda _verb, _resource: None
    replica.turn()
    assert replica.managed.problems != {}  # requested again after a delay
    cluster.seconds += 31
    replica.turn()
    assert replica.managed.problems == {}


def test_api_server_clock_is_used() -> None:
    cluster, (replica,) = started()
    issuer = replica.issuer
    # This replica's clock is a hundred years ahead, and that of the API server is right.
    replica.managed._local_now = lambda: cluster.now + timedelta(days=36_500)
    replica.api.skew_seconds = -36_500 * 86_400.0
    for _ in range(3):
        replica.turn()
    assert (replica.issuer, replica.metrics.ca_steps["replace"]) == (issuer, 0)
    assert replica.kube.clock_skew == replica.api.skew_seconds


def test_lost_answer_makes_no_second_ca() -> None:
    cluster = SharedCluster()
    replica = Replica(cluster, 0)
    for resource in (SECRETS, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        replica.refresh(resource)
    replica.proceed()
    replica.proceed()  # the Secret is read
    replica.proceed(Outcome.UNHEARD)  # written, but the answer was lost
    written = cluster.ring()
    assert written is not None
    while replica.proceed():
        pass
    cluster.seconds += 60
    for _ in range(3):
        replica.turn()
    assert cluster.ring() == written
    assert replica.issuer == written.signing.anchor.fingerprint


def test_requested_rotation_happens_once() -> None:
    cluster, replicas = started(2)
    secret = cluster.existing(SECRETS)
    secret["metadata"]["annotations"] = {names.ROTATE_CA: "now", "other": "stays"}
    cluster.put(SECRETS, secret)
    for _ in range(40):
        cluster.seconds += 3600
        for replica in replicas:
            replica.turn()
    assert cluster.existing(SECRETS)["metadata"]["annotations"] == {"other": "stays"}
    for step in ("add", "seen", "promote", "prune"):
        assert sum(replica.metrics.ca_steps[step] for replica in replicas) == 1


def ask_for_rotation(cluster: SharedCluster) -> None:
    secret = cluster.existing(SECRETS)
    secret["metadata"]["annotations"] = {names.ROTATE_CA: "now"}
    cluster.put(SECRETS, secret)


def test_ca_outside_every_bundle_never_signs() -> None:
    cluster, (replica,) = started()
    before = replica.issuer
    denied = ForbiddenError("patch mutatingwebhookconfigurations/hooks")
    cluster.problem = lambda verb, _: denied if verb == "patch" else None
    ask_for_rotation(cluster)
    for _ in range(40):
        cluster.seconds += 3600
        replica.turn()
    ring = cluster.ring()
    assert ring is not None
    assert (ca_lifecycle.phase(ring), replica.issuer) == (Phase.PUBLISHING, before)


def test_bundle_that_loses_the_next_ca_restarts_the_wait() -> None:
    cluster, (replica,) = started()
    ask_for_rotation(cluster)
    for _ in range(3):
        replica.turn()
    cluster.seconds += 299
    cluster.blank(MUTATING_WEBHOOKS)
    for _ in range(3):
        replica.turn()
    assert replica.metrics.ca_steps["withdraw"] == 1
    cluster.seconds += 200
    replica.turn()
    assert replica.metrics.ca_steps["promote"] == 0
    cluster.seconds += 200
    replica.turn()
    assert replica.metrics.ca_steps["promote"] == 1


def test_replica_with_an_outdated_copy_signs_with_the_current_ca() -> None:
    cluster, (busy, late) = started(2)
    before = busy.issuer
    ask_for_rotation(cluster)
    for _ in range(40):
        cluster.seconds += 3600
        busy.turn()
    assert late.managed.pair is not None
    while late.proceed():  # its copies are outdated
        pass
    assert late.managed._leaf is not None
    assert late.managed._leaf.issuer.fingerprint == busy.issuer != before


def test_late_replica_cannot_replace_a_newer_bundle() -> None:
    cluster, (busy, late) = started(2)
    before = dict(late.metrics.ca_bundle_writes)
    cluster.blank(MUTATING_WEBHOOKS)
    for resource in (SECRETS, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        late.refresh(resource)
    for _ in range(3):
        late.proceed()  # it has read the configuration and the Secret, and is about to write
    ask_for_rotation(cluster)
    busy.turn()
    busy.turn()
    ring = cluster.ring()
    assert ring is not None
    assert ring.next_ca is not None
    assert cluster.registration(MUTATING_WEBHOOKS).is_exactly(ring.trusted)
    while late.proceed():
        pass
    assert cluster.registration(MUTATING_WEBHOOKS).is_exactly(ring.trusted)
    assert late.metrics.ca_bundle_writes == before


# --- `run` ---


async def _call_directly(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what the function returns
    return function(*arguments)


class Hanging(StoreApi):
    """Some calls get no answer from some moment on, and end when the client gives them up."""

    def __init__(self, cluster: SharedCluster, hangs: set[tuple[str, Resource]]) -> None:
        super().__init__(cluster.store, cluster.problem_of)
        self.hangs = hangs

    async def send(self, request: Request) -> dict[str, Any]:
        if call_of(request) in self.hangs:
            await asyncio.sleep(request.timeout_seconds)
            raise UnavailableError(request.operation)
        return await super().send(request)


SHORT = SETTINGS.model_copy(update={"leaf_lifetime": timedelta(seconds=60)})


def run_for(
    seconds: float,
    cluster: SharedCluster,
    failures: list[Exception],
    *,
    api: StoreApi | None = None,
    story: Callable[[OwnObjects], Awaitable[None]] | None = None,
) -> SelfManaged:
    """Run a replica for some seconds; the first connections fail as listed. `story` changes the cluster."""

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
                api or StoreApi(cluster.store, cluster.problem_of),
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
            off_loop=_call_directly,
        )
        task = asyncio.create_task(managed.run())
        await asyncio.sleep(seconds)
        if story is not None:
            await story(opened[-1])
        managed.wake()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return managed

    return run_with_manual_clock(work())


@pytest.mark.parametrize(
    "hangs",
    [{("get", SECRETS)}, {("update", SECRETS)}, {("get", SECRETS), ("update", SECRETS)}],
    ids=["reads of the Secret hang", "its writes hang", "both hang"],
)
def test_bundle_is_repaired_while_secret_calls_hang(hangs: set[tuple[str, Resource]]) -> None:
    cluster = SharedCluster()
    api = Hanging(cluster, set())

    async def story(objects: OwnObjects) -> None:
        api.hangs |= hangs
        ask_for_rotation(cluster)  # a step of the Secret is due, too, and takes half a minute to fail
        objects.secret.saw(cluster.get(SECRETS))
        await asyncio.sleep(0.5)
        for resource, reflector in zip((MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS), objects.configurations, strict=True):
            cluster.blank(resource)
            reflector.saw(cluster.get(resource))
        await asyncio.sleep(4.9)
        assert [
            bool(cluster.registration(each).entries[0].anchors) for each in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        ] == [
            True,
            True,
        ]

    assert run_for(2, cluster, [], api=api, story=story).ready


def test_leaf_is_renewed_while_bundles_are_unreadable() -> None:
    cluster = SharedCluster()
    api = Hanging(cluster, set())

    async def story(objects: OwnObjects) -> None:
        api.hangs |= {("get", MUTATING_WEBHOOKS), ("get", VALIDATING_WEBHOOKS)}
        for resource, reflector in zip((MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS), objects.configurations, strict=True):
            cluster.blank(resource)
            reflector.saw(cluster.get(resource))
        await asyncio.sleep(5)

    # Two thirds of its minute pass while the reads hang.
    managed = run_for(38, cluster, [], api=api, story=story)
    assert managed.pair is not None
    assert managed.pair.expires >= BEGINNING + timedelta(seconds=100)


def test_replica_is_ready_soon_after_its_start() -> None:
    managed = run_for(2, SharedCluster(), [])
    assert managed.ready
    assert managed.problems == {}


def test_replica_renews_its_leaf_on_schedule() -> None:
    managed = run_for(45, SharedCluster(), [])
    assert managed.pair is not None
    assert managed.pair.expires == BEGINNING + timedelta(seconds=100)


def test_unreachable_cluster_is_reported_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "injector")
    managed = run_for(
        100, SharedCluster(), [KubeconfigError("reach the cluster"), KubeconfigError("reach the cluster")]
    )
    assert managed.ready
    assert managed.problems == {}
    logged = [record for record in caplog.records if "cannot reach the cluster" in str(getattr(record, "fields", ""))]
    assert [record.levelno for record in logged] == [logging.ERROR, logging.INFO]


def test_internal_error_is_logged_without_its_text_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    managed = run_for(100, SharedCluster(), [RuntimeError("secret-marker")])
    assert managed.ready
    assert "secret-marker" not in "".join(str(vars(record)) for record in caplog.records)
    assert managed._requests.errors["internal"] == 1
