"""Carries out a plan: restarts workloads batch by batch and waits until each runs the current token.

All state is in the cluster: if a run ends half-way, the next one observes, plans and continues.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from injector.core.rollout import (
    DELETED,
    Action,
    PlannedAction,
    Progress,
    State,
    batches,
    initial_progress,
    progress_of,
    revision_of,
)
from injector.kube.errors import NotFoundError, UnavailableError
from injector.kube.resources import SECRETS
from injector.rotation import decode
from injector.rotation.observe import RESOURCES, observe
from injector.tokens.decode import token_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from injector.core.ownership import SecretKey
    from injector.core.rollout import Ref, SecretRevision
    from injector.kube.client import Api
    from injector.rotation.admission import Admission
    from injector.rotation.observe import Owners


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Limits of a rollout: workloads of a namespace at once; seconds to wait for each batch, and between two looks."""

    max_concurrent: int = 2
    timeout: float = 600.0
    interval: float = 1.0


class SupersededError(Exception):
    """Another process rotated the Secret in the meantime, and its run restarts the workloads."""

    def __init__(self, key: SecretKey) -> None:
        super().__init__(f"Secret {key.secret} was rotated again by another process; stopping this rotation")


class Roller:
    """Restarts the workloads of one run; `progress` is where each of them is."""

    def __init__(
        self,
        api: Api,
        revisions: Mapping[SecretKey, SecretRevision],
        admissions: Mapping[Ref, Admission],
        pace: Pace,
        report: Callable[[Mapping[Ref, Progress]], None],
        owners: Owners,
    ) -> None:
        self.progress: dict[Ref, Progress] = {}
        self._api = api
        self._owners = owners  # the owner of a Pod never changes; its state is read at each look
        self._revisions = revisions
        self._admissions = admissions
        self._pace = pace
        self._report = report

    async def roll(self, actions: Sequence[PlannedAction], *, wait: bool) -> None:
        """Restart the workloads of a plan; after a failure no further batch begins.

        Raises:
            SupersededError: A Secret holds another token by now.
            KubeError: The API server refuses.
        """
        self.progress = initial_progress(actions)
        for batch in batches(actions, max_concurrent=self._pace.max_concurrent):
            await self._check_secrets({key for action in batch for key in action.keys})
            for action in batch:
                await self._start(action, wait=wait)
            if wait and not await self._wait(batch):
                self._halt(actions)
                return

    async def _start(self, action: PlannedAction, *, wait: bool) -> None:
        try:
            if action.action is Action.RESTART:
                await restart(self._api, action)
        except NotFoundError:  # deleted since it was planned: nothing of it is left to restart
            self._set(Progress(ref=action.ref, state=State.READY, message=DELETED))
            return
        state = State.RESTARTING if wait else State.STARTED
        self._set(replace(self.progress[action.ref], state=state, message=action.note))

    def _halt(self, actions: Sequence[PlannedAction]) -> None:
        for action in actions:
            if self.progress[action.ref].state is State.PLANNED:
                self._set(
                    replace(self.progress[action.ref], state=State.NOT_STARTED, message="an earlier workload failed")
                )

    async def _wait(self, batch: Sequence[PlannedAction]) -> bool:
        """Whether every workload of a batch became ready; a Pod without a token ends the wait at once."""
        deadline = time.monotonic() + self._pace.timeout
        waiting = list(batch)
        while waiting:
            await self._look(waiting, is_late=time.monotonic() >= deadline)
            if any(self.progress[action.ref].state is State.NOT_INJECTED for action in batch):
                return False
            waiting = [action for action in waiting if self.progress[action.ref].state is State.RESTARTING]
            if waiting:
                await asyncio.sleep(self._pace.interval)
        return all(self.progress[action.ref].state is State.READY for action in batch)

    async def _look(self, batch: Sequence[PlannedAction], *, is_late: bool) -> None:
        """Take one look at the workloads of a batch."""
        keys = {key for action in batch for key in action.keys}
        try:
            await self._check_secrets(keys)
            seen = await observe(self._api, keys, self._owners)
            workloads = {action.ref: await self._owners.read(action.ref) for action in batch}
        except UnavailableError:
            if is_late:
                raise
            return  # an API server that is away for a moment ends no rotation
        for action in batch:
            found = workloads[action.ref]
            admission = self._admissions.get(action.ref)
            progress = progress_of(
                action,
                None if found is None else decode.workload(found),
                [pod for pod in seen.pods if pod.workload == action.ref and not pod.is_ending],
                {key: self._revisions[key] for key in action.keys},
                {} if admission is None else admission.expected,
            )
            if is_late and progress.state is State.RESTARTING:
                trouble = f": {progress.message}" if progress.message else ""
                message = f"not ready within {self._pace.timeout:g} s{trouble}"
                progress = replace(progress, state=State.FAILED, message=message)
            self._set(progress)

    async def _check_secrets(self, keys: Iterable[SecretKey]) -> None:
        for key in sorted(keys):
            found = await self._api.get(SECRETS, key.name, key.namespace)
            if revision_of(token_secret(found), key.key).id != self._revisions[key].id:
                raise SupersededError(key)

    def _set(self, progress: Progress) -> None:
        self.progress[progress.ref] = progress
        self._report(self.progress)


async def restart(api: Api, action: PlannedAction, *, dry_run: bool = False) -> None:
    """Annotate a workload's template, so that its controller replaces its Pods by its own rules.

    A merge patch: other annotations, and those of other rotations at the same time, are kept.
    """
    body: Final = {"spec": {"template": {"metadata": {"annotations": dict(action.marks)}}}}
    await api.patch(RESOURCES[action.ref.kind], action.ref.name, body, action.ref.namespace, dry_run=dry_run)
