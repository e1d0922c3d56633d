"""Carries a plan out: restarts workloads wave by wave and waits until each runs the current token.

All state is in the cluster, so whatever ends this half-way, the next run observes, plans and goes on.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core.rollout import ADVICE, Action, Age, Ref, Step, Version, age_of, annotation_for, version_of, waves
from injector.kube.errors import NotFoundError, UnavailableError
from injector.kube.resources import SECRETS
from injector.tokens import observing, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from injector.core.ownership import SecretRef
    from injector.core.rollout import Holder, Workload
    from injector.kube.client import Api
    from injector.tokens.observing import Observed, Owners


class State(StrEnum):
    """Where a workload is."""

    NOTHING = "up-to-date"
    PLANNED = "planned"
    RESTARTING = "restarting"
    STARTED = "started"  # and not waited for
    READY = "ready"
    HELD = "held"
    FAILED = "failed"
    NOT_STARTED = "not-started"
    LEFT = "left"  # no restart was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One workload: where it is and why; `stale` names Pods that run an old value."""

    ref: Ref
    state: State
    told: str = ""
    stale: tuple[str, ...] = ()

    @property
    def is_left(self) -> bool:
        """Whether something of it stays on the old token."""
        return self.state in _LEFT or (self.state is State.READY and bool(self.stale))


_LEFT: Final = frozenset({State.PLANNED, State.HELD, State.FAILED, State.NOT_STARTED, State.LEFT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast: workloads of a namespace at once, and seconds to wait for each wave and between two looks."""

    at_once: int = 2
    timeout: float = 600.0
    interval: float = 1.0


class SupersededError(Exception):
    """Somebody rotated the Secret again meanwhile; that run carries on."""

    def __init__(self, secret: SecretRef) -> None:
        super().__init__(
            f"Secret {secret} was given another token meanwhile; that rotation goes on, this one ends here"
        )


def at_first(steps: Iterable[Step], *, restart: bool = True) -> dict[Ref, Progress]:
    """Where each workload of a plan is before anything is done, and without `restart` for good."""
    progress = {step.ref: _at_first(step) for step in steps}
    if restart:
        return progress
    return {ref: replace(one, state=State.LEFT) if one.state is State.PLANNED else one for ref, one in progress.items()}


def _at_first(step: Step) -> Progress:
    match step.action:
        case Action.HOLD:
            told = f"{step.hold}: {ADVICE[step.hold]}" if step.hold is not None else ""
            return Progress(ref=step.ref, state=State.HELD, told=told, stale=step.held)
        case Action.NOTHING:
            return Progress(ref=step.ref, state=State.NOTHING)
        case Action.RESTART | Action.WAIT:
            return Progress(ref=step.ref, state=State.PLANNED, told=step.note, stale=step.stale)


class Roller:
    """Rolls the workloads of one run."""

    def __init__(
        self,
        api: Api,
        keys: Mapping[SecretRef, str],
        versions: Mapping[SecretRef, Version],
        pace: Pace,
        tell: Callable[[Mapping[Ref, Progress]], None],
        owners: Owners,
    ) -> None:
        self.progress: dict[Ref, Progress] = {}
        self._api = api
        self._owners = owners  # whose a Pod is does not change; what its owner is like is asked at each look
        self._keys = keys
        self._versions = versions
        self._pace = pace
        self._tell = tell

    async def roll(self, steps: Sequence[Step], *, wait: bool) -> None:
        """Restart what is to be restarted; after a failure no further wave begins.

        Raises:
            SupersededError: A Secret holds another token by now.
            KubeError: The API server refuses.
        """
        self.progress = at_first(steps)
        for wave in waves(steps, at_once=self._pace.at_once):
            await self._check_secrets({secret for step in wave for secret in step.secrets})
            for step in wave:
                await self._start(step, wait=wait)
            if wait and not await self._wait(wave):
                self._halt(steps)
                return

    async def _start(self, step: Step, *, wait: bool) -> None:
        try:
            if step.action is Action.RESTART:
                await restart(self._api, step, self._versions)
        except NotFoundError:  # deleted since it was planned: nothing of it is left to restart
            self._set(step, State.READY, _GONE, ())
            return
        self._set(step, State.RESTARTING if wait else State.STARTED, step.note)

    def _halt(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if self.progress[step.ref].state is State.PLANNED:
                self._set(step, State.NOT_STARTED, "an earlier one failed")

    async def _wait(self, wave: Sequence[Step]) -> bool:
        """Whether every workload of a wave came to run the current token, ready."""
        deadline = time.monotonic() + self._pace.timeout
        open_steps = list(wave)
        while open_steps:
            open_steps = await self._look(open_steps, is_late=time.monotonic() >= deadline)
            if open_steps:
                await asyncio.sleep(self._pace.interval)
        return all(self.progress[step.ref].state is State.READY for step in wave)

    async def _look(self, wave: Sequence[Step], *, is_late: bool) -> list[Step]:
        """One look at a wave; the steps that are not done."""
        try:
            await self._check_secrets({secret for step in wave for secret in step.secrets})
            keys = {secret: key for secret, key in self._keys.items() if any(secret in step.secrets for step in wave)}
            seen = await observing.observe(self._api, keys, self._owners)
            workloads = {step.ref: await observing.look(self._api, step.ref) for step in wave}
        except UnavailableError:
            if is_late:
                raise
            return list(wave)  # an API server that is away for a moment ends no rotation
        return [
            step
            for step in wave
            if not self._judge(step, workloads[step.ref], self._stale(step.ref, seen), is_late=is_late)
        ]

    def _judge(self, step: Step, workload: Workload | None, stale: Sequence[Holder], *, is_late: bool) -> bool:
        """Take note of where a workload is; whether that is its end."""
        if workload is None:
            return self._set(step, State.READY, _GONE, ())
        names_left = tuple(pod.name for pod in stale)
        moving = [pod.name for pod in stale if pod.position is None or pod.position >= workload.partition]
        if not moving and workload.is_settled:
            told = f"partition: {ADVICE[step.hold]}" if step.hold is not None and names_left else ""
            return self._set(step, State.READY, told, names_left)
        if workload.hold is not None:
            return self._set(step, State.FAILED, f"{workload.hold} meanwhile: {ADVICE[workload.hold]}", names_left)
        wanted = {annotation_for(secret.name): self._versions[secret].id for secret in step.secrets}
        is_marked = all(workload.restarted_for.get(key) == id_ for key, id_ in wanted.items())
        if step.action is Action.RESTART and workload.is_settled and not is_marked:
            # Whoever owns the template took the annotation off, and the rollout went back to the old Pods.
            return self._set(step, State.FAILED, "somebody took our annotation off its template", names_left)
        if workload.failure:
            return self._set(step, State.FAILED, workload.failure, names_left)
        if is_late:
            told = f"not ready within {self._pace.timeout:g} s" + (f": {workload.trouble}" if workload.trouble else "")
            return self._set(step, State.FAILED, told, names_left)
        self._set(step, State.RESTARTING, workload.trouble or step.note, names_left)
        return False

    def _stale(self, ref: Ref, seen: Observed) -> list[Holder]:
        return [
            pod
            for pod in seen.holders
            if pod.workload == ref
            and not pod.is_ending
            and any(age_of(pod, secret, self._versions[secret]) in _OLD for secret in self._versions)
        ]

    async def _check_secrets(self, secrets: Iterable[SecretRef]) -> None:
        for secret in secrets:
            found = await self._api.get(SECRETS, secret.name, secret.namespace)
            if version_of(reading.token_secret(found), self._keys[secret]).id != self._versions[secret].id:
                raise SupersededError(secret)

    def _set(self, step: Step, state: State, told: str = "", stale: tuple[str, ...] | None = None) -> bool:
        before = self.progress[step.ref]
        self.progress[step.ref] = replace(
            before, state=state, told=told, stale=before.stale if stale is None else stale
        )
        self._tell(self.progress)
        return True


_GONE: Final = "it is gone"
_OLD: Final = frozenset({Age.STALE, Age.UNKNOWN})


async def restart(api: Api, step: Step, versions: Mapping[SecretRef, Version], *, dry_run: bool = False) -> None:
    """Annotate a workload's template, so that its own controller replaces its Pods by its own rules.

    A merge patch: other annotations, and those of other rotations at the same time, stay.
    """
    annotations = {annotation_for(secret.name): versions[secret].id for secret in step.secrets}
    body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    await api.patch(observing.RESOURCES[step.ref.kind], step.ref.name, body, step.ref.namespace, dry_run=dry_run)
