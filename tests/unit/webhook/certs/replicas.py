"""Replicas that are driven one call at a time (`tests.fake_cluster.client`), and the objects that they share."""

from __future__ import annotations

import copy
import random
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from injector.config.settings import Settings
from injector.kube.errors import ForbiddenError
from injector.kube.metrics import KubeMetrics
from injector.kube.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS
from injector.webhook.certs import keyring, registration
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.certs.objects import OwnObjects
from injector.webhook.certs.pair import server_context
from injector.webhook.certs.self_managed import SelfManaged
from injector.webhook.metrics import RequestMetrics
from tests.fake_cluster.client import Outcome, SteppedApi, Stop
from tests.fake_cluster.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from injector.kube.errors import KubeError
    from injector.kube.resources import Resource
    from injector.kube.watch import ObjectWatch
    from injector.webhook.certs.keyring import Keyring
    from injector.webhook.certs.registration import Registration

Object = dict[str, Any]
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
LEAF: Final = timedelta(hours=24)
SETTLE: Final = timedelta(minutes=5)
CA: Final = timedelta(days=30)
# The second mutating configuration; the other objects are the only ones of their kind.
SECOND: Final = "second"
Slot: TypeAlias = "Resource | str"
CONFIGURATIONS: Final[tuple[Slot, ...]] = (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
KEYS: Final[dict[Slot, tuple[str, str, str]]] = {
    SECRETS: (SECRETS.plural, "dapr", "ca"),
    **{resource: (resource.plural, "", "hooks") for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)},
    SECOND: (MUTATING_WEBHOOKS.plural, "", "hooks-2"),
}
SERVICES: Final = ("dapr-token-injector", "dapr-token-injector-2")  # of group 1 and of group 2


@dataclass(frozen=True)
class Written:
    """A registered bundle: the time of its write, its CAs, and the last expiry of them."""

    since: float
    trusted: frozenset[str]
    ends: datetime


class SharedCluster:
    """The objects and the clock that all replicas share; the time is in seconds since BEGINNING.

    With `second`, there are two entries.
    """

    def __init__(self, *, second: bool = False) -> None:
        self.seconds = 0.0
        self.store = Store(patched=self._patched)
        self.configurations = (*CONFIGURATIONS, SECOND) if second else CONFIGURATIONS
        # All bundles that replicas wrote, by configuration.
        self.bundles: dict[Slot, list[Written]] = {slot: [] for slot in self.configurations}
        self.unreadable: set[Slot] = set()  # permission to read these is missing
        # For example a missing permission.
        self.problem: Callable[[str, Resource], KubeError | None] = lambda _verb, _resource: None
        self.put(SECRETS, {"metadata": {"name": "ca", "namespace": "dapr", "uid": "s"}, "data": {}})
        for slot in self.configurations:
            self.register(slot)

    @property
    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.seconds)

    def register(self, slot: Slot) -> None:
        """Create a configuration without bundles, as an installation does."""
        names, service = _ENTRIES[slot]
        webhooks = [
            {
                "name": f"{name}.dapr-token-injector.svc",
                "clientConfig": {"service": {"name": service, "namespace": "dapr"}},
            }
            for name in names
        ]
        plural, _, name = KEYS[slot]
        self.put(slot, {"metadata": {"name": name, "uid": f"{plural}-{name}-{self.seconds}"}, "webhooks": webhooks})

    def get(self, slot: Slot) -> Object | None:
        """A copy of an object."""
        return copy.deepcopy(self.store.objects.get(KEYS[slot]))

    def put(self, slot: Slot, item: Object) -> None:
        """Store an object under a new version."""
        self.store.put(KEYS[slot][0], copy.deepcopy(item))

    def delete(self, slot: Slot) -> None:
        """Remove an object; API servers use its last bundle for a while, and then none."""
        self.store.remove(*KEYS[slot])
        if slot in self.bundles:
            self.bundles[slot].append(Written(self.seconds, frozenset(), BEGINNING))

    def change(self, slot: Slot, **fields: object) -> None:
        """Set fields of an object, as another controller could."""
        self.put(slot, {**self.existing(slot), **fields})

    def existing(self, slot: Slot) -> Object:
        """A copy of an object, which must exist."""
        found = self.get(slot)
        assert found is not None
        return found

    def problem_of(self, verb: str, resource: Resource) -> KubeError | None:
        """The error of a call; `problem` can change while replicas run."""
        return self.problem(verb, resource)

    def ring(self) -> Keyring | None:
        return keyring.read(self.existing(SECRETS))

    def registration(self, slot: Slot) -> Registration:
        return registration.read(self.existing(slot))

    def blank(self, slot: Slot) -> None:
        """Remove the bundles, as another controller could."""
        self.set_bundles(slot, None)

    def set_bundles(self, slot: Slot, bundle: str | None) -> None:
        """Set the bundle of each entry, as another controller could."""
        webhooks = self.existing(slot)["webhooks"]
        for entry in webhooks:
            entry["clientConfig"] |= {"caBundle": bundle}
        self.change(slot, webhooks=webhooks)

    def _patched(self, written: Object) -> None:
        slot = next(one for one in self.configurations if self.store.objects.get(KEYS[one]) is written)
        anchors = registration.read(written).entries[0].anchors
        self.bundles[slot].append(
            Written(self.seconds, frozenset(a.fingerprint for a in anchors), max(a.expires for a in anchors))
        )


_ENTRIES: Final[dict[Slot, tuple[tuple[str, ...], str]]] = {
    MUTATING_WEBHOOKS: (("inject", "default"), SERVICES[0]),
    VALIDATING_WEBHOOKS: (("warn",), SERVICES[0]),
    SECOND: (("inject-2", "default-2"), SERVICES[1]),
}


async def _call_directly(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what the function returns
    return function(*arguments)


class Interleaved:
    """Runs functions concurrently without an event loop: all start, and each call that ends resumes its function."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def __call__(self, parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        running: list[Coroutine[Any, Outcome, None]] = [_awaited(work) for work in parts.values()]
        running = [each for each in running if _proceeds(each, None)]
        try:
            while running:
                outcome = await Stop()
                chosen = self._rng.choice(running)
                if not _proceeds(chosen, outcome):
                    running.remove(chosen)
        finally:
            for each in running:
                each.close()


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _proceeds(work: Coroutine[Any, Any, None], outcome: Outcome | None) -> bool:
    try:
        work.send(outcome)
    except StopIteration:
        return False
    return True


async def one_after_another(parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Run functions one after another, in a fixed order."""
    for work in parts.values():
        await work()


SETTINGS: Final = Settings(
    namespace="dapr", leaf_lifetime=LEAF, ca_lifetime=CA, ca_settle_time=SETTLE, ca_secret_name="ca"
)


class Replica:
    """One replica: the real code, with fake API calls. With two entries, each second replica is of group 2."""

    def __init__(self, cluster: SharedCluster, number: int, *, interleaved: bool = False) -> None:
        self.cluster = cluster
        self.number = number
        self._has_second = SECOND in cluster.configurations
        self._group = number % 2 if self._has_second else 0
        # The configurations with the entries that call it.
        self.own: tuple[Slot, ...] = (SECOND,) if self._group else CONFIGURATIONS
        # Deterministic.
        self._together = Interleaved(random.Random(number)) if interleaved else one_after_another  # noqa: S311
        self.restart()

    def restart(self) -> None:
        """Discard all state, like a killed process."""
        self.api = SteppedApi(self.cluster.store, self.cluster.problem_of)
        self.objects = OwnObjects(
            self.api,
            namespace="dapr",
            secret_name="ca",
            configuration_name="hooks",
            second_configuration_name="hooks-2" if self._has_second else "",
            changed=lambda: None,
            failed=lambda _: None,
        )
        self.metrics = CertificateMetrics()
        self.kube = KubeMetrics()
        self.context: ssl.SSLContext = server_context(ssl.TLSVersion.TLSv1_3)
        self.managed = SelfManaged(
            SETTINGS.model_copy(update={"service_name": SERVICES[self._group]}),
            lambda *_: None,  # type: ignore[arg-type] # tests call `turn`, never `run`
            context=self.context,
            metrics=self.metrics,
            kube=self.kube,
            requests=RequestMetrics(),
            now=lambda: self.cluster.now,
            clock=lambda: self.cluster.seconds,
            rng=random.Random(self.number),  # noqa: S311 - the same again and again
            off_loop=_call_directly,
        )
        self._turn: Coroutine[Any, Outcome, None] | None = None

    def refresh(self, slot: Slot) -> None:
        """Bring one copy up to date, as a watch does."""
        copied = self._copy(slot)
        if slot in self.cluster.unreadable:
            copied._report("read", ForbiddenError(f"get {copied.what}"))
        else:
            copied.saw(self.cluster.get(slot))

    def _copy(self, slot: Slot) -> ObjectWatch:
        copies = (self.objects.secret, *self.objects.configurations)
        return next(one for one in copies if (one.resource.plural, one.namespace or "", one.name) == KEYS[slot])

    def proceed(self, outcome: Outcome = Outcome.ANSWERED) -> bool:
        """Start a turn, or end its current call and continue to the next; return False when the turn is over."""
        try:
            if self._turn is None:
                self._turn = self.managed.turn(self.objects, self._together)
                self._turn.send(None)  # type: ignore[arg-type] # the start of any coroutine
            else:
                self._turn.send(outcome)
        except StopIteration:
            self._turn = None
        return self._turn is not None

    def turn(self) -> None:
        """Update all copies and run a whole turn."""
        for slot in (SECRETS, *self.cluster.configurations):
            self.refresh(slot)
        while self.proceed():
            pass

    def close(self) -> None:
        """Cancel a running turn."""
        if self._turn is not None:
            self._turn.close()
            self._turn = None

    @property
    def issuer(self) -> str | None:
        """The CA of the served certificate; None without a valid one."""
        leaf = self.managed._leaf
        if leaf is None or not self.managed.ready or leaf.pair.expires <= self.cluster.now:
            return None
        return leaf.issuer.fingerprint


def run_until_done(cluster: SharedCluster, replicas: list[Replica], *, is_done: Callable[[], bool]) -> None:
    """Advance the clock without faults until `is_done`; up to two rotations may be running or due."""
    for replica in replicas:
        replica.close()
    for _ in range(100):
        cluster.seconds += 4 * 3600
        for _ in range(2):
            for replica in replicas:
                replica.turn()
        if is_done():
            return
