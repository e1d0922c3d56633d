"""Rotates and revokes: checks everything, tries every write as a dry run, writes the Secrets, restarts what uses them.

Nothing is written before every check has passed. Each Secret is replaced under the resource version that was read. All
state is in the cluster: a run that ended half-way is continued with `resume`.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from injector.core.ownership import SecretKey, SecretRef, managed_by
from injector.core.rollout import Action, Progress, initial_progress, plan
from injector.core.token_state import (
    SecretRevision,
    TokenState,
    in_state,
    not_surely_current,
    revision_of,
    without_token,
)
from injector.kube.errors import NotFoundError
from injector.kube.resources import SECRETS
from injector.rotation import admission
from injector.rotation.observe import Observed, Owners, observe
from injector.rotation.roller import Pace, Roller, record, restart
from injector.tokens import manifests, minting
from injector.tokens.decode import token_secret
from injector.words import counted

if TYPE_CHECKING:
    from injector.core.ownership import SecretManager, TokenSecret
    from injector.core.rollout import PlannedAction
    from injector.core.token_state import PodUsage, Ref
    from injector.kube.client import Api
    from injector.kube.watch import Clock
    from injector.rotation.admission import AdmissionCheck
    from injector.rotation.roller import Sleep
    from injector.tokens.minting import MintedToken

# Makes a token for each Secret; called once, after every check.
Mint: TypeAlias = Callable[["Api", Sequence[SecretRef]], Awaitable[Mapping[SecretRef, "MintedToken"]]]


class RotationProblem(Enum):
    """Why a rotation cannot begin."""

    MISSING = "missing"
    NO_SECRETS = "no-secrets"
    NO_KEY = "no-key"
    UNKNOWN_CHANGE = "unknown-change"
    IMMUTABLE = "immutable"
    MANAGED = "managed"


class RotationError(Exception):
    """The rotation cannot begin: nothing was written. `owner`: the tool that manages the Secret."""

    def __init__(
        self, problem: RotationProblem, message: str, ref: SecretRef | None = None, owner: SecretManager | None = None
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.ref = ref
        self.owner = owner


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationOptions:
    """What to do. `propagation_delay`: seconds between the write of the Secrets and the first restart.

    `skip_missing`, `skip_foreign`: leave out Secrets that do not exist, and those that another tool manages.
    """

    secrets: tuple[SecretRef, ...]
    key: str
    pace: Pace
    propagation_delay: float = 2.0
    restart: bool = False
    wait: bool = True
    revoke: bool = False
    resume: bool = False
    force: bool = False
    skip_missing: bool = False
    skip_foreign: bool = False
    dry_run: bool = False
    include_uncertain: bool = False
    skip_admission_check: bool = False

    @property
    def restarts_uncertain(self) -> bool:
        """Whether uncertain Pods are restarted; a revoked token may be in none."""
        return self.include_uncertain or self.revoke


class RotationListener(Protocol):
    """Receives the events of a rotation."""

    def left_out(self, ref: SecretRef, owner: SecretManager) -> None:
        """`skip_foreign` leaves a Secret out."""

    def missing(self, missing: Sequence[SecretRef]) -> None:
        """`skip_missing` leaves out these Secrets."""

    def overrides_owner(self, ref: SecretRef, owner: SecretManager, changes: Sequence[str]) -> None:
        """`force` writes a Secret that another tool manages; `changes` are its labels and annotations that change."""

    def wrote(self, ref: SecretRef, token_id: str, left: int) -> None:
        """A Secret was written and has another token; `left` Secrets are still to be written."""

    def progressed(self, progress: Progress) -> None:
        """The progress of one workload changed."""

    def still_held(self, pods: Sequence[PodUsage]) -> None:
        """These Pods hold the previous token; called again when they change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationOutcome:
    """How a rotation ended.

    `secrets`: the ids of the tokens. `skipped`: Secrets of another tool, which were left out. `is_blocked`: a check
    failed, and nothing was written. Pods, including those that are ending: `outdated` hold a previous token,
    `uncertain` may hold one, `missing` request a token and have none.
    """

    secrets: Mapping[SecretRef, str | None]
    progress: Mapping[Ref, Progress]
    skipped: tuple[SecretRef, ...] = ()
    is_blocked: bool = False
    outdated: tuple[PodUsage, ...] = ()
    uncertain: tuple[PodUsage, ...] = ()
    missing: tuple[PodUsage, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every observed Pod certainly runs the current token."""
        has_pods = self.outdated or self.uncertain or self.missing
        return not (self.is_blocked or has_pods or any(one.is_unfinished for one in self.progress.values()))


@dataclass(frozen=True, slots=True, repr=False)
class _Found:
    """A Secret as it was read; `object` contains its values."""

    secret: TokenSecret
    object: dict[str, Any]


class Rotator:
    """One rotation."""

    def __init__(
        self,
        api: Api,
        options: RotationOptions,
        listener: RotationListener,
        mint: Mint,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._api = api
        self._options = options
        self._listener = listener
        self._mint = mint
        self._clock = clock
        self._sleep = sleep
        self._owners = Owners(api)
        self._keys: tuple[SecretKey, ...] = ()
        self._skipped: list[SecretRef] = []

    async def run(self) -> RotationOutcome:
        """Check, write, restart and wait, according to the options.

        Raises:
            RotationError: Nothing was written; the message says why.
            SupersededError: Another process rotated a Secret in the meantime.
            KubeError: The API server rejects a request or does not answer.
        """
        options = self._options
        found = await self._read()
        self._keys = tuple(SecretKey.of(ref, options.key) for ref in found)
        revisions = self._revisions(found) if options.resume else _after_the_write(self._keys)
        if not options.resume:
            self._check_owners(found)
            await self._try_writes(found)
        seen = await self._observe()
        actions = self._plan(revisions, seen)
        admissions: Mapping[Ref, AdmissionCheck] = {}
        if options.restart:
            await self._try_restarts(actions)
            admissions = await self._admissions(actions, seen)
            problems = _problems(actions, admissions)
            if problems:
                progress = {**initial_progress(actions), **problems}
                return replace(self._outcome(found, progress), is_blocked=True)
        if options.dry_run:
            return self._outcome(found, initial_progress(actions, restart=options.restart))
        self._owners.remember_running(() if options.resume else seen.pods)
        await self._record(actions)
        now = found if options.resume else await self._write(found)
        return await self._restart(now, admissions)

    # --- before anything is written ---

    async def _read(self) -> dict[SecretRef, _Found]:
        found: dict[SecretRef, _Found] = {}
        missing = []
        for ref in self._options.secrets:
            try:
                read = await self._api.get(SECRETS, ref.name, ref.namespace)
            except NotFoundError:
                missing.append(ref)
                continue
            secret = token_secret(read)
            owner = managed_by(secret, self._options.key) if self._options.skip_foreign else None
            if owner is not None:
                self._skipped.append(ref)
                self._listener.left_out(ref, owner)
                continue
            found[ref] = _Found(secret, read)
            self._check(secret)
        if missing and not self._options.skip_missing:
            ref = missing[0]
            raise RotationError(RotationProblem.MISSING, f"Secret {ref} does not exist", ref)
        if not found:
            wanted = sorted({ref.name for ref in self._options.secrets})
            why = "all are managed by another tool" if self._skipped else f"no namespace has {' or '.join(wanted)}"
            raise RotationError(RotationProblem.NO_SECRETS, f"no Secret to rotate: {why}")
        if missing:
            self._listener.missing(missing)
        return found

    def _check(self, secret: TokenSecret) -> None:
        key = self._options.key
        if key not in secret.keys:
            other = counted(len(secret.keys), "other key")
            message = f"Secret {secret.ref} has no key {key} but {other}"
            raise RotationError(RotationProblem.NO_KEY, message, secret.ref)
        if self._options.resume:
            if revision_of(secret, key).id is None:
                message = f"Secret {secret.ref} does not show when its data changed (no managed fields)"
                raise RotationError(RotationProblem.UNKNOWN_CHANGE, message, secret.ref)
        elif secret.immutable:
            message = f"Secret {secret.ref} is immutable; create one with another name and use that"
            raise RotationError(RotationProblem.IMMUTABLE, message, secret.ref)

    def _check_owners(self, found: Mapping[SecretRef, _Found]) -> None:
        for ref, one in found.items():
            owner = managed_by(one.secret, self._options.key)
            if owner is None:
                continue
            if not self._options.force:
                message = f"Secret {ref} is managed by {owner.name} ({owner.sign})"
                raise RotationError(RotationProblem.MANAGED, message, ref, owner)
            after = manifests.updated_secret(one.object, self._options.key, minting.PLACEHOLDER)
            self._listener.overrides_owner(ref, owner, _changes(one.object["metadata"], after["metadata"]))

    async def _try_writes(self, found: Mapping[SecretRef, _Found]) -> None:
        """Try every write of a Secret as a dry run: missing permissions and denials show before the first write."""
        for ref, one in found.items():
            body = manifests.updated_secret(one.object, self._options.key, minting.PLACEHOLDER)
            await self._api.replace(SECRETS, body, ref.namespace, dry_run=True, before=one.object)

    async def _try_restarts(self, actions: Sequence[PlannedAction]) -> None:
        for action in actions:
            if action.action is Action.RESTART:
                await restart(self._api, action, dry_run=True)

    async def _admissions(self, actions: Sequence[PlannedAction], seen: Observed) -> Mapping[Ref, AdmissionCheck]:
        if self._options.skip_admission_check:
            return admission.assumed(actions, seen.pods)
        return await admission.check(self._api, actions, seen, self._owners)

    def _revisions(self, found: Mapping[SecretRef, _Found]) -> dict[SecretKey, SecretRevision]:
        key = self._options.key
        return {SecretKey.of(ref, key): revision_of(one.secret, key) for ref, one in found.items()}

    def _plan(self, revisions: Mapping[SecretKey, SecretRevision], seen: Observed) -> tuple[PlannedAction, ...]:
        return plan(revisions, seen.workloads, seen.pods, include_uncertain=self._options.restarts_uncertain)

    # --- writing ---

    async def _record(self, actions: Iterable[PlannedAction]) -> None:
        """Record default Secrets, before the Secrets change: controllers copy it to what a user may roll back to."""
        if self._options.restart:
            for action in actions:
                await record(self._api, action)

    async def _write(self, found: Mapping[SecretRef, _Found]) -> dict[SecretRef, _Found]:
        now: dict[SecretRef, _Found] = {}
        for ref, token in (await self._mint(self._api, tuple(found))).items():
            before = found[ref].object
            body = manifests.updated_secret(before, self._options.key, token)
            answer = await self._api.replace(SECRETS, body, ref.namespace, before=before)
            now[ref] = _Found(token_secret(answer), {})
            self._listener.wrote(ref, token.id, len(found) - len(now))
        return now

    async def _restart(
        self, now: Mapping[SecretRef, _Found], admissions: Mapping[Ref, AdmissionCheck]
    ) -> RotationOutcome:
        options = self._options
        revisions = self._revisions(now)
        if options.restart and not options.resume:
            await self._sleep(options.propagation_delay)
        seen = await self._observe()
        actions = self._plan(revisions, seen)
        if not options.restart:
            progress = {ref: one for ref, one in initial_progress(actions, restart=False).items() if one.is_unfinished}
            return self._outcome(now, progress, seen)
        late = [action for action in actions if action.ref not in admissions]
        await self._record(late)
        admissions = {**admissions, **await self._admissions(late, seen)}
        problems = _problems(late, admissions)
        roller = Roller(
            self._api,
            revisions,
            admissions,
            options.pace,
            self._listener.progressed,
            self._owners,
            clock=self._clock,
            sleep=self._sleep,
        )
        await roller.roll(seen.without(problems), functools.partial(self._plan, revisions), wait=options.wait)
        progress = {**roller.progress, **problems}
        if options.revoke:
            return self._outcome(now, progress, await self._wait_until_gone(revisions, progress))
        last = await self._observe()
        if options.wait:  # an owner that is gone may have left its Pods, and Pods that are ending are replaced
            last = replace(last, pods=tuple(pod for pod in last.pods if not pod.is_ending))
        return self._outcome(now, progress, last)

    async def _observe(self) -> Observed:
        return await observe(self._api, self._keys, self._owners)

    def _outcome(
        self, now: Mapping[SecretRef, _Found], progress: Mapping[Ref, Progress], seen: Observed | None = None
    ) -> RotationOutcome:
        secrets = {ref: one.secret.token_id for ref, one in sorted(now.items())}
        outcome = RotationOutcome(secrets=secrets, progress=progress, skipped=tuple(self._skipped))
        if seen is None:
            return outcome
        revisions = self._revisions(now)
        return replace(
            outcome,
            outdated=in_state(TokenState.OUTDATED, revisions, seen.pods),
            uncertain=in_state(TokenState.UNCERTAIN, revisions, seen.pods),
            missing=without_token(revisions.keys(), seen.pods),
        )

    async def _wait_until_gone(
        self, revisions: Mapping[SecretKey, SecretRevision], restarted: Mapping[Ref, Progress]
    ) -> Observed:
        """Wait until no Pod may hold a previous token or is open, as long as some are ending or being replaced."""
        deadline = self._clock() + self._options.pace.timeout
        reported: tuple[PodUsage, ...] = ()
        stale = set(restarted)
        while True:
            self._owners.forget(stale)
            seen = await self._observe()
            left = not_surely_current(revisions, seen.pods)
            holding = (
                *in_state(TokenState.OUTDATED, revisions, left),
                *in_state(TokenState.UNCERTAIN, revisions, left),
            )
            stale = {pod.workload for pod in left}
            if holding and _pod_names(holding) != _pod_names(reported):
                self._listener.still_held(holding)
                reported = holding
            actions = plan(revisions, seen.workloads, left, include_uncertain=True)
            is_moving = any(pod.is_ending for pod in left) or any(one.action is Action.WAIT for one in actions)
            if not left or not is_moving or self._clock() >= deadline:
                return seen
            await self._sleep(self._options.pace.interval)


# Later than any Pod's start, and before the last year that a time can have.
_FAR: Final = 1 << 37


def _after_the_write(keys: Sequence[SecretKey]) -> dict[SecretKey, SecretRevision]:
    """Return the revisions after the Secrets are written: every Pod that runs now is outdated."""
    return {key: SecretRevision(id=minting.PLACEHOLDER.id, changed=_FAR) for key in keys}


def _problems(actions: Sequence[PlannedAction], admissions: Mapping[Ref, AdmissionCheck]) -> dict[Ref, Progress]:
    """Return the progress of the workloads whose new Pods would or may have no token."""
    progress = initial_progress(actions)
    return {
        ref: replace(one, state=admissions[ref].state, message=admissions[ref].problem)
        for ref, one in progress.items()
        if ref in admissions and admissions[ref].problem
    }


def _pod_names(pods: Sequence[PodUsage]) -> list[tuple[str, str]]:
    return [(pod.namespace, pod.name) for pod in pods]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the labels and annotations that change, as lines of a diff without values."""
    lines = []
    for part in ("labels", "annotations"):
        old, new = before.get(part) or {}, after[part]
        lines += [f"- {part}: {key}" for key in sorted(set(old) - set(new))]
        lines += [f"+ {part}: {key}" for key in sorted(new) if old.get(key) != new[key]]
    return lines
