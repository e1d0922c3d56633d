"""Self-managed certificates: the loop around `ca_lifecycle`. Every replica runs it; there is no leader.

Each turn compares the copies of the objects and does the work that is due: a step of the CA rotation, a new leaf, an
update of a caBundle. The copies only show that work may be due; before a change the current objects are read. The
Secret is replaced only if its version has not changed. The Secret is read before a leaf is signed. A bundle is applied
in this order: read the configuration, read the Secret, then apply the CAs of the Secret if the configuration has not
changed. So bundles follow the history of the Secret and never go back to an earlier state, regardless of how many
replicas do this at the same time and how outdated their copies are.

Times are those of the API server's clock, because the API server checks certificates. Each time that is due is checked
a second time after the Secret was read, when that clock is known.

The tasks of a turn do not wait for each other, because a call may hang: a Secret that cannot be read or written must
not block the repair of a bundle. In urgent cases, calls have a short timeout and are repeated.

A failed operation is logged, counted and retried later. The active pair stays in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from injector.frames import frames
from injector.kube.backoff import Backoff
from injector.kube.errors import ConflictError, KubeError
from injector.kube.resources import REQUEST_TIMEOUT_SECONDS
from injector.telemetry.logs import LOGGER
from injector.webhook.certs import ca_lifecycle, keyring, registration
from injector.webhook.certs.authority import issue_leaf, make_authority
from injector.webhook.certs.ca_lifecycle import CaStep, Phase
from injector.webhook.certs.concurrent_tasks import ConcurrentTasks
from injector.webhook.certs.keyring import ForeignSecretError, Keyring, RotationDelays
from injector.webhook.certs.metrics import HEALED, LOADED, PUBLISHED
from injector.webhook.certs.pair import load, utc_now
from injector.webhook.certs.trust import Trust
from injector.webhook.metrics import INTERNAL_ERROR

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from injector.config.settings import Settings
    from injector.kube.metrics import KubeMetrics
    from injector.kube.resources import Object
    from injector.kube.watch import ObjectWatch
    from injector.webhook.certs.authority import Anchor, Leaf
    from injector.webhook.certs.metrics import CertificateMetrics
    from injector.webhook.certs.objects import OwnObjects
    from injector.webhook.certs.pair import Now, ServingPair
    from injector.webhook.certs.registration import Registration
    from injector.webhook.metrics import RequestMetrics

    Connect: TypeAlias = Callable[
        [Callable[[], None], Callable[[KubeError], None]], AbstractAsyncContextManager[OwnObjects]
    ]
    OffLoop: TypeAlias = Callable[..., Awaitable[Any]]
    Parts: TypeAlias = Mapping[str, Callable[[], Awaitable[None]]]
    Together: TypeAlias = Callable[[Parts], Awaitable[None]]

logger = logging.getLogger(f"{LOGGER}.certs")

# Seconds between two turns without events. The clock is checked this often, so that no renewal is missed after the
# machine was suspended or its clock was set.
_LOOK: Final = 1.0
# Replicas that see the same change start their work at random times within this number of seconds.
_JITTER: Final = 0.1
# Timeout in seconds of the first call while the active certificate is not trusted or about to expire.
_URGENT_TIMEOUT_SECONDS: Final = 1.5
# Seconds that a new replica waits for others that may have the previous content of an emptied Secret in memory.
_WITNESS_SECONDS: Final = 3.0


class SelfManaged:
    """The serving pair of a replica, and its share of managing the installation's CA."""

    def __init__(  # noqa: PLR0913 - collaborators, all passed by name
        self,
        settings: Settings,
        connect: Connect,
        *,
        context: ssl.SSLContext,
        metrics: CertificateMetrics,
        kube: KubeMetrics,
        requests: RequestMetrics,
        now: Now = utc_now,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        off_loop: OffLoop = asyncio.to_thread,
    ) -> None:
        self.ready = False  # whether all entries that call this replica have ever trusted the leaf
        self.trusted = False  # whether they trust the leaf now
        self._settings = settings
        self._connect = connect
        self._context = context
        self._metrics = metrics
        self._kube = kube
        self._requests = requests
        self._local_now = now
        self._skew = timedelta(0)
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads requests, not used for security
        self._off_loop = off_loop
        self._delays = RotationDelays(settings.ca_settle_time, settings.leaf_lifetime)
        self._names = (
            f"{settings.service_name}.{settings.namespace}.svc",
            f"{settings.service_name}.{settings.namespace}.svc.cluster.local",
            *settings.certificate_names,
        )
        self._trust = Trust(self._names)
        self._wake = asyncio.Event()
        self._leaf: Leaf | None = None
        self._remembered: Keyring | None = None  # the keyring that was read last
        # Data of the Secret, and its result.
        self._read: tuple[object, Keyring | ForeignSecretError | None] = (None, None)
        self._is_fallback = False  # whether the leaf was signed without reading the Secret
        # When the Secret was first seen without a keyring, in seconds of `clock`.
        self._empty_since: float | None = None
        self._in_sync: dict[str, frozenset[str]] = {}  # correct CAs last seen in each configuration
        self._attempts: dict[str, _Attempt] = {}
        self.problems: dict[str, str] = {}  # current problems by topic

    @property
    def pair(self) -> ServingPair | None:
        """The active pair; None before there is a CA."""
        return None if self._leaf is None else self._leaf.pair

    def now(self) -> datetime:
        """Return the time of the API server's clock; the local time while it is not known."""
        return self._local_now() + self._skew

    def facts(self) -> dict[str, object]:
        """Return the phase of the CA rotation and the current problems, for /readyz."""
        facts: dict[str, object] = {"phase": ca_lifecycle.phase(self._remembered).value, "trusted": self.trusted}
        return facts | ({"problems": list(self.problems.values())} if self.problems else {})

    def wake(self) -> None:
        """Start the next turn soon."""
        self._wake.set()

    async def run(self) -> None:
        """Keep the pair up to date until cancelled. Errors are logged, and the work is retried."""
        backoff = Backoff(self._rng)
        while True:
            try:
                async with self._connect(self._wake.set, self._failed) as objects:
                    self._report("cluster", "")
                    await self._keep(objects)
            except KubeError as error:
                self._failed(error)
                self._report("cluster", str(error))
                await asyncio.sleep(backoff.delay_seconds(error))
            except Exception as error:  # noqa: BLE001 - an internal error must not stop the server; logged without values
                fields = {"exception": type(error).__qualname__, "frames": frames(error.__traceback__)}
                logger.error("internal error in certificate management", extra={"fields": fields})  # noqa: TRY400 - no message
                self._requests.failed(INTERNAL_ERROR)
                await asyncio.sleep(backoff.delay_seconds())

    async def _keep(self, objects: OwnObjects) -> None:
        self._kube.watch((objects.secret, *objects.configurations))
        watching = asyncio.create_task(objects.run())
        try:
            async with ConcurrentTasks(_LOOK) as together:
                while not watching.done():
                    self._wake.clear()
                    await self.turn(objects, together)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pause()):
                            await self._wake.wait()
                    if self._wake.is_set() and self.ready:
                        await asyncio.sleep(self._rng.uniform(0.0, _JITTER))
            watching.result()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _set_clock(self, objects: OwnObjects) -> None:
        self._skew = timedelta(seconds=objects.skew_seconds)
        self._kube.clock_skew = objects.skew_seconds

    def _pause(self) -> float:
        """Return the seconds until work may be due that no event announces."""
        now = self._clock()
        waiting = (attempt.not_before - now for attempt in self._attempts.values() if attempt.not_before > now)
        return min(_LOOK, *waiting, _LOOK)

    async def turn(self, objects: OwnObjects, together: Together) -> None:
        """Do the work that is due; `together` runs the tasks by name."""
        self._set_clock(objects)
        await together(self._parts(objects))
        self._update_status(objects)

    def _parts(self, objects: OwnObjects) -> Parts:
        """Return the tasks of a turn, in the order that makes a new installation ready fastest."""

        async def secret() -> None:
            await self._attempt("secret", lambda: self._tend_secret(objects))

        async def leaf() -> None:
            await self._attempt("leaf", lambda: self._tend_leaf(objects))
            await self._sign_fallback(objects)

        async def bundle(copy: ObjectWatch) -> None:
            await self._attempt(copy.what, lambda: self._tend_bundle(objects, copy))

        bundles = {copy.what: functools.partial(bundle, copy) for copy in objects.configurations}
        return {"secret": secret, "leaf": leaf, **bundles}

    # --- the Secret ---

    async def _tend_secret(self, objects: OwnObjects) -> None:
        if self._step(objects) is None:
            return
        await objects.read(objects.secret)
        self._set_clock(objects)
        secret, step = objects.secret.object, self._step(objects)
        if secret is None or step is None:
            return
        ring = self._ring(secret)
        now, made = self.now(), None
        if step.needs_authority:
            made = await self._off_loop(make_authority, self._settings.key_algorithm, self._settings.ca_lifetime, now)
        changed = ca_lifecycle.advance(
            self._remembered if step is CaStep.RESTORE else ring if isinstance(ring, Keyring) else None,
            step,
            now=now,
            delays=self._delays,
            made=made,
            registered=self._trust.anchors(objects),
        )
        written = keyring.write(secret, changed)
        await objects.replace_secret(keyring.without_request(written) if step.needs_authority else written)
        self._metrics.ca_steps[step.value] += 1
        fields = {
            "step": step.value,
            "phase": ca_lifecycle.phase(changed).value,
            "ca": changed.signing.anchor.fingerprint,
            "expires": changed.signing.anchor.expires.isoformat(),
        }
        logger.info("CA changed", extra={"fields": fields})

    def _step(self, objects: OwnObjects) -> CaStep | None:
        secret = objects.secret.object
        ring = self._ring(secret)
        if secret is None or isinstance(ring, ForeignSecretError) or secret.get("immutable"):
            return None
        if ring is not None:
            next_ca = ring.next_ca
            return ca_lifecycle.due(
                ring,
                published=next_ca is not None and self._trust.is_published(objects, next_ca.anchor),
                requested=bool(keyring.rotation_request(secret)),
                now=self.now(),
                delays=self._delays,
            )
        if not all(copy.known or copy.problem for copy in objects.configurations):
            return None  # a new keyring must trust the CAs in the current bundles
        if self._remembered is not None:
            return CaStep.RESTORE
        return CaStep.CREATE if self._may_create(objects) else None

    def _may_create(self, objects: OwnObjects) -> bool:
        """Whether no other replica can restore an emptied Secret; one that can does so at once."""
        now = self._clock()
        if self._empty_since is None:
            self._empty_since = now
        is_registered = any(anchor.expires > self.now() for anchor in self._trust.anchors(objects))
        return not is_registered or now >= self._empty_since + _WITNESS_SECONDS

    def _ring(self, secret: Object | None) -> Keyring | ForeignSecretError | None:
        """Return the content of a Secret, and keep a keyring in memory."""
        if secret is None:
            return None
        # Checking an RSA key takes tens of milliseconds, so the same content is read only once.
        content = secret.get("data") or {}
        if self._read[0] != content:
            try:
                ring = keyring.read(secret)
            except ForeignSecretError as error:
                self._read, self._empty_since = (content, error), None
            else:
                self._read = (content, ring)
                if ring is not None:
                    self._remembered, self._empty_since = ring, None
        return self._read[1]

    async def _confirmed(
        self, objects: OwnObjects, *, within_seconds: float = REQUEST_TIMEOUT_SECONDS
    ) -> Keyring | None:
        """Return the current keyring of the Secret; None if it has none.

        Raises:
            KubeError: The Secret cannot be read.
        """
        ring = self._ring(await objects.read(objects.secret, timeout_seconds=within_seconds))
        self._set_clock(objects)
        return ring if isinstance(ring, Keyring) else None

    # --- the leaf ---

    async def _tend_leaf(self, objects: OwnObjects) -> None:
        if self._remembered is None or not (self._is_fallback or self._needs_leaf(objects, self._remembered)):
            return
        is_ending = self._leaf is not None and self._leaf.is_ending(self.now())
        try:
            ring = await self._confirmed(
                objects, within_seconds=_URGENT_TIMEOUT_SECONDS if is_ending else REQUEST_TIMEOUT_SECONDS
            )
        except KubeError:
            if self._leaf is None and self._needs_leaf(objects, self._remembered):
                await self._sign(self._remembered)  # the keyring was read shortly before
            raise
        self._is_fallback = False
        if ring is not None and self._needs_leaf(objects, ring):
            await self._sign(ring)

    async def _sign_fallback(self, objects: OwnObjects) -> None:
        """Sign with the CA in memory before the leaf expires, although the Secret cannot be read.

        Another replica may have retired this CA in the meantime. But the reason why the Secret cannot be read for so
        long (a missing permission or Secret, a network policy) most likely affects all replicas, so that none has.
        """
        ring, leaf = self._remembered, self._leaf
        if ring is not None and leaf is not None and leaf.is_ending(self.now()) and self._needs_leaf(objects, ring):
            logger.warning("certificate is signed without reading the Secret")
            self._is_fallback = True
            await self._sign(ring)

    def _needs_leaf(self, objects: OwnObjects, ring: Keyring) -> bool:
        now = self.now()
        return ring.signing.anchor.expires > now and ca_lifecycle.needs_leaf(
            self._leaf,
            ring,
            trusts=lambda anchor: self._trust.is_trusted(objects, anchor),
            now=now,
            delays=self._delays,
        )

    async def _sign(self, ring: Keyring) -> None:
        settings = self._settings
        leaf: Leaf = await self._off_loop(
            issue_leaf, ring.signing, self._names, settings.key_algorithm, settings.leaf_lifetime, self.now()
        )
        load(self._context, leaf.pair)
        self._leaf = leaf
        self._metrics.reloads[LOADED] += 1
        self._metrics.certificate_expiry = leaf.pair.expires.timestamp()
        fields = {
            "expires": leaf.pair.expires.isoformat(),
            "names": list(leaf.pair.names),
            "ca": leaf.issuer.fingerprint,
        }
        logger.info("certificate signed", extra={"fields": fields})

    # --- the bundles ---

    async def _tend_bundle(self, objects: OwnObjects, copy: ObjectWatch) -> None:
        if copy.object is None or self._remembered is None:
            return
        ring = self._ring(objects.secret.object)
        seen = self._trust.registration(copy, copy.object)
        if isinstance(ring, Keyring) and self._note_in_sync(copy, seen, ring):
            return
        is_cut_off = self._is_cut_off(seen)
        if not isinstance(ring, Keyring) and not is_cut_off:
            return
        # The timeout grows with each failure, in case that the API server is only slow. If the Secret cannot be read,
        # its CAs are taken from memory.
        urgent = min(
            _URGENT_TIMEOUT_SECONDS * 2.0 ** min(self._attempts[copy.what].backoff.failures, 16),
            REQUEST_TIMEOUT_SECONDS,
        )
        within = urgent if is_cut_off else REQUEST_TIMEOUT_SECONDS
        # The order of the calls matters: see the docstring of this module.
        found = await objects.read(copy, timeout_seconds=within)
        if found is None:
            return
        seen, problem = self._trust.registration(copy, found), None
        try:
            confirmed = await self._confirmed(
                objects, within_seconds=_URGENT_TIMEOUT_SECONDS if is_cut_off else REQUEST_TIMEOUT_SECONDS
            )
        except KubeError as error:
            confirmed, problem = None, error
        wanted: tuple[Anchor, ...] = ()
        if confirmed is not None:
            wanted = () if seen.is_exactly(confirmed.trusted) else confirmed.trusted
        elif self._is_cut_off(seen):
            now = self.now()
            others = (anchor for entry in seen.entries for anchor in entry.anchors if anchor.expires > now)
            wanted = _union(self._remembered.trusted, others)
        if wanted:
            await objects.apply_bundle(copy, registration.body(seen, wanted), timeout_seconds=within)
            self._wrote(copy, wanted)
        if problem is not None:
            raise problem

    def _note_in_sync(self, copy: ObjectWatch, seen: Registration, ring: Keyring) -> bool:
        """Note whether every entry has the CAs of the keyring; then a later change is that of another client."""
        is_in_sync = seen.is_exactly(ring.trusted)
        if is_in_sync:
            self._in_sync[copy.what] = _fingerprints(ring.trusted)
        return is_in_sync

    def _is_cut_off(self, seen: Registration) -> bool:
        """Whether an entry does not trust the leaf; then the CAs in memory are added, even if there is no Secret."""
        return self._leaf is not None and not all(entry.trusts(self._leaf.issuer) for entry in seen.entries)

    def _wrote(self, copy: ObjectWatch, wanted: tuple[Anchor, ...]) -> None:
        fingerprints = _fingerprints(wanted)
        cause = HEALED if self._in_sync.get(copy.what) == fingerprints else PUBLISHED
        self._in_sync[copy.what] = fingerprints
        self._metrics.ca_bundle_writes[cause] += 1
        fields = {"configuration": copy.what, "cause": cause, "certificates": len(wanted)}
        logger.info("caBundle written", extra={"fields": fields})

    # --- problems ---

    def _update_status(self, objects: OwnObjects) -> None:
        """Update readiness, metrics and the list of problems."""
        ring = self._ring(objects.secret.object)
        secret, issuer = objects.secret, None if self._leaf is None else self._leaf.issuer
        is_missing = secret.known and secret.object is None
        self._report(
            f"copy of {secret.what}", str(secret.problem or (f"{secret.what} does not exist" if is_missing else ""))
        )
        foreign = f"{objects.secret.what} is not modified: {ring}" if isinstance(ring, ForeignSecretError) else ""
        if (objects.secret.object or {}).get("immutable"):
            foreign = f"{objects.secret.what} is immutable, so no CA can be stored in it; delete it and create it again"
        self._report("CA", foreign)
        phase = ca_lifecycle.phase(ring if isinstance(ring, Keyring) else self._remembered)
        for each in Phase:
            self._metrics.ca_phase[each.value] = int(each is phase)
        if self._remembered is not None:
            self._metrics.ca_expiry = self._remembered.signing.anchor.expires.timestamp()
        self.trusted = issuer is not None and self._trust.is_trusted(objects, issuer)
        self._metrics.ca_bundle_trusted = int(self.trusted)
        for copy in objects.configurations:
            # Again, before the replica is ready: the first turn may have looked at a bundle before it had the Secret.
            if copy.object is not None and isinstance(ring, Keyring):
                self._note_in_sync(copy, self._trust.registration(copy, copy.object), ring)
        for role, copy in objects.roles.items():
            unread, distrust = self._trust.problems(objects, copy, issuer)
            self._report(f"copy of {copy.what}", unread)
            self._report(f"caBundle of {copy.what}", distrust)
            self._metrics.configurations_trusted[role] = int(issuer is not None and not unread and not distrust)
        self._report("Service", self._trust.missing_entry(objects))
        self.ready = self.ready or self.trusted

    def _report(self, part: str, problem: str) -> None:
        """Log when a problem begins or ends."""
        before = self.problems.get(part, "")
        if problem == before:
            return
        if problem:
            self.problems[part] = problem
            logger.error("certificates need attention", extra={"fields": {"problem": problem}})
        else:
            del self.problems[part]
            logger.info("certificate problem resolved", extra={"fields": {"was": before}})

    def _failed(self, error: KubeError) -> None:
        self._kube.failed(error.reason)

    async def _attempt(self, part: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task of a turn. After each failure it waits longer; other tasks do not wait for it."""
        attempt = self._attempts.setdefault(part, _Attempt(Backoff(self._rng)))
        if self._clock() < attempt.not_before:
            return
        try:
            await work()
        except ConflictError as error:
            # Another client was faster, which is expected with several replicas. The watch will report its change.
            self._failed(error)
            attempt.not_before = self._clock() + self._rng.uniform(0.0, _JITTER)
        except KubeError as error:
            self._failed(error)
            self._report(part, str(error))
            attempt.not_before = self._clock() + attempt.backoff.delay_seconds(error)
        else:
            attempt.backoff.succeeded()
            self._report(part, "")


@dataclass(slots=True)
class _Attempt:
    backoff: Backoff
    not_before: float = 0.0


def _fingerprints(anchors: Iterable[Anchor]) -> frozenset[str]:
    return frozenset(anchor.fingerprint for anchor in anchors)


def _union(anchors: Iterable[Anchor], others: Iterable[Anchor]) -> tuple[Anchor, ...]:
    found = {anchor.fingerprint: anchor for anchor in (*anchors, *others)}
    return tuple(found.values())
