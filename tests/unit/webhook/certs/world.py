"""An API server of dictionaries and replicas that are driven one call at a time.

Every call stops before it takes effect, and goes on when the test says how: with its effect and its answer, without
either, or with its effect and without its answer. So any interleaving of any number of replicas can be had, again and
again the same, without a clock and without an event loop.
"""

from __future__ import annotations

import copy
import itertools
import random
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from injector.config.settings import Settings
from injector.kube.errors import ConflictError, KubeError, NotFoundError, UnavailableError
from injector.kube.metrics import KubeMetrics
from injector.kube.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Resource
from injector.webhook.certs import keyring, registration
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.certs.objects import OwnObjects
from injector.webhook.certs.pair import server_context
from injector.webhook.certs.self_managed import SelfManaged
from injector.webhook.metrics import RequestMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping

    from injector.kube.watch import ObjectWatch
    from injector.webhook.certs.keyring import Keyring
    from injector.webhook.certs.registration import Registration

Object = dict[str, Any]
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
LEAF: Final = timedelta(hours=24)
SETTLE: Final = timedelta(minutes=5)
CA: Final = timedelta(days=30)
CONFIGURATIONS: Final = (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)


class Outcome(Enum):
    """How a call ends."""

    ANSWERED = auto()
    LOST = auto()  # it never arrived
    UNHEARD = auto()  # it took effect, and its answer was lost


class _Stop:
    """Waits for the test to say how a call ends."""

    def __await__(self) -> Generator[None, Outcome, Outcome]:
        return (yield)


@dataclass(frozen=True)
class Written:
    """A bundle: since when it is registered, which authorities it has, and when the last of them ends."""

    since: float
    trusted: frozenset[str]
    ends: datetime


@dataclass
class World:
    """The objects, and the time that everybody shares, in seconds since BEGINNING."""

    seconds: float = 0.0
    objects: dict[Resource, Object] = field(default_factory=dict)
    # Every bundle that was ours, by configuration.
    bundles: dict[Resource, list[Written]] = field(default_factory=dict)
    problem: Callable[[str, Resource], KubeError | None] = lambda _verb, _resource: None  # rights that are missing
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.put(SECRETS, {"metadata": {"name": "ca", "namespace": "dapr", "uid": "s"}, "data": {}})
        entries = {
            MUTATING_WEBHOOKS: ("inject.dapr-token-injector.svc", "default.dapr-token-injector.svc"),
            VALIDATING_WEBHOOKS: ("warn.dapr-token-injector.svc",),
        }
        for resource, names in entries.items():
            self.bundles[resource] = []
            webhooks = [{"name": name, "clientConfig": {}} for name in names]
            self.put(resource, {"metadata": {"name": "hooks", "uid": resource.plural}, "webhooks": webhooks})

    @property
    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.seconds)

    def put(self, resource: Resource, item: Object) -> Object:
        """Store an object under a new version."""
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[resource] = stored
        return copy.deepcopy(stored)

    def ring(self) -> Keyring | None:
        return keyring.read(self.objects[SECRETS])

    def registration(self, resource: Resource) -> Registration:
        return registration.read(self.objects[resource])

    def blank(self, resource: Resource) -> None:
        """What somebody else may do."""
        item = copy.deepcopy(self.objects[resource])
        for entry in item["webhooks"]:
            entry["clientConfig"] = {}
        self.put(resource, item)


@dataclass
class Api:
    """The calls of one replica."""

    world: World
    skew_seconds: float = 0.0

    async def get(
        self, resource: Resource, name: str, _namespace: str | None = None, *, timeout_seconds: float = 30.0
    ) -> Object:
        assert timeout_seconds > 0

        def read() -> Object:
            if resource not in self.world.objects:
                raise NotFoundError(f"get {resource.plural}/{name}")
            return copy.deepcopy(self.world.objects[resource])

        return await self._call("get", resource, read)

    async def replace(self, resource: Resource, body: Object, _namespace: str | None = None) -> Object:
        def write() -> Object:
            self._check("update", resource, body)
            return self.world.put(resource, body)

        return await self._call("update", resource, write)

    async def apply(
        self,
        resource: Resource,
        _name: str,
        body: Object,
        _namespace: str | None = None,
        *,
        manager: str = "",
        timeout_seconds: float = 30.0,
    ) -> Object:
        assert timeout_seconds > 0
        assert manager == "dapr-token-injector-ca-bundle"

        def write() -> Object:
            self._check("patch", resource, body)
            item = copy.deepcopy(self.world.objects[resource])
            bundles = {entry["name"]: entry["clientConfig"]["caBundle"] for entry in body["webhooks"]}
            for entry in item["webhooks"]:
                entry["clientConfig"]["caBundle"] = bundles[entry["name"]]
            if item == self.world.objects[resource]:
                return item
            written = self.world.put(resource, item)
            anchors = registration.read(written).entries[0].anchors
            self.world.bundles[resource].append(
                Written(self.world.seconds, frozenset(a.fingerprint for a in anchors), max(a.expires for a in anchors))
            )
            return written

        return await self._call("patch", resource, write)

    def watch(
        self, resource: Resource, _namespace: str | None = None, *, resource_version: str, field_selector: str = ""
    ) -> AsyncGenerator[Object, None]:
        raise AssertionError(f"the test brings copies up to date: {resource}, {resource_version}, {field_selector}")

    def _check(self, verb: str, resource: Resource, body: Object) -> None:
        found = self.world.objects.get(resource)
        if found is None:
            raise ConflictError(f"{verb} {resource.plural}")
        for key in ("uid", "resourceVersion"):
            if body["metadata"][key] != found["metadata"][key]:
                raise ConflictError(f"{verb} {resource.plural}")

    async def _call(self, verb: str, resource: Resource, effect: Callable[[], Object]) -> Object:
        outcome = await _Stop()
        if outcome is Outcome.LOST:
            raise UnavailableError(f"{verb} {resource.plural}")
        problem = self.world.problem(verb, resource)
        if problem is not None:
            raise problem
        answer = effect()
        if outcome is Outcome.UNHEARD:
            raise UnavailableError(f"{verb} {resource.plural}")
        return answer


async def _at_once(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - what the function returns
    return function(*arguments)


class Interleaved:
    """Runs parts as tasks do, without an event loop: all begin, and whichever call ends lets its own part go on."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def __call__(self, parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        running: list[Coroutine[Any, Outcome, None]] = [_awaited(work) for work in parts.values()]
        running = [each for each in running if _goes_on(each, None)]
        try:
            while running:
                outcome = await _Stop()
                chosen = self._rng.choice(running)
                if not _goes_on(chosen, outcome):
                    running.remove(chosen)
        finally:
            for each in running:
                each.close()


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _goes_on(work: Coroutine[Any, Any, None], outcome: Outcome | None) -> bool:
    try:
        work.send(outcome)
    except StopIteration:
        return False
    return True


async def one_after_another(parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Each part when the one before has ended: the order that a test can rely on."""
    for work in parts.values():
        await work()


SETTINGS: Final = Settings(
    namespace="dapr", leaf_lifetime=LEAF, ca_lifetime=CA, ca_settle_time=SETTLE, ca_secret_name="ca"
)


class Replica:
    """One process: the real one, up to the calls that it makes."""

    def __init__(self, world: World, number: int, *, interleaved: bool = False) -> None:
        self.world = world
        self.number = number
        # The same again and again.
        self._together = Interleaved(random.Random(number)) if interleaved else one_after_another  # noqa: S311
        self.restart()

    def restart(self) -> None:
        """Forget everything, as a process that is killed."""
        self.api = Api(self.world)
        self.objects = OwnObjects(
            self.api,
            namespace="dapr",
            secret_name="ca",
            configuration_name="hooks",
            changed=lambda: None,
            failed=lambda _: None,
        )
        self.metrics = CertificateMetrics()
        self.kube = KubeMetrics()
        self.context: ssl.SSLContext = server_context(ssl.TLSVersion.TLSv1_3)
        self.managed = SelfManaged(
            SETTINGS,
            lambda *_: None,  # type: ignore[arg-type] # turns are taken one by one here, never by `run`
            context=self.context,
            metrics=self.metrics,
            kube=self.kube,
            requests=RequestMetrics(),
            now=lambda: self.world.now,
            clock=lambda: self.world.seconds,
            rng=random.Random(self.number),  # noqa: S311 - the same again and again
            off_loop=_at_once,
        )
        self._turn: Coroutine[Any, Outcome, None] | None = None

    def hear(self, resource: Resource) -> None:
        """Bring one copy up to date, as a watch does."""
        item = self.world.objects.get(resource)
        self._copy(resource).saw(copy.deepcopy(item))

    def _copy(self, resource: Resource) -> ObjectWatch:
        copies = (self.objects.secret, *self.objects.configurations)
        return next(each for each in copies if each.resource is resource)

    def go_on(self, outcome: Outcome = Outcome.ANSWERED) -> bool:
        """Begin a turn, or end the call that it waits for and go on to the next; False when the turn is over."""
        try:
            if self._turn is None:
                self._turn = self.managed.turn(self.objects, self._together)
                self._turn.send(None)  # type: ignore[arg-type] # how every coroutine begins
            else:
                self._turn.send(outcome)
        except StopIteration:
            self._turn = None
        return self._turn is not None

    def turn(self) -> None:
        """Hear of everything, and take a whole turn."""
        for resource in (SECRETS, *CONFIGURATIONS):
            self.hear(resource)
        while self.go_on():
            pass

    def close(self) -> None:
        """End a turn that is under way."""
        if self._turn is not None:
            self._turn.close()
            self._turn = None

    @property
    def issuer(self) -> str | None:
        """Who signed what it serves; None when nothing valid is served to anybody."""
        leaf = self.managed._leaf
        if leaf is None or not self.managed.ready or leaf.pair.expires <= self.world.now:
            return None
        return leaf.issuer.fingerprint


def settle(world: World, replicas: list[Replica], *, is_settled: Callable[[], bool]) -> None:
    """Let time pass without faults until all is well; two rotations may be under way, or due."""
    for replica in replicas:
        replica.close()
    for _ in range(100):
        world.seconds += 4 * 3600
        for _ in range(2):
            for replica in replicas:
                replica.turn()
        if is_settled():
            return
