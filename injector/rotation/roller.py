"""Carries out a plan: restarts workloads within a budget and waits until each runs the current token.

All state is in the cluster: if a run ends half-way, the next one observes, plans and continues.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from injector.core.rollout import (
    DELETED,
    Action,
    PlannedAction,
    Progress,
    RestartBudget,
    State,
    initial_progress,
    next_actions,
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
    from injector.core.rollout import PodUsage, Ref, SecretRevision, Workload
    from injector.kube.client import Api
    from injector.rotation.admission import Admission
    from injector.rotation.observe import Observed, Owners

    Plan: TypeAlias = Callable[[Observed], Sequence[PlannedAction]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Limits of a rollout: workloads of a namespace at once; seconds to wait for each, and between two looks."""

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
        report: Callable[[Progress], None],
        owners: Owners,
    ) -> None:
        self.progress: dict[Ref, Progress] = {}
        self._api = api
        self._owners = owners  # the owner of a Pod never changes; its state is read at each look
        self._revisions = revisions
        self._admissions = admissions
        self._pace = pace
        self._report = report
        self._begun: dict[Ref, _Begun] = {}

    async def roll(self, seen: Observed, plan: Plan, *, wait: bool) -> None:
        """Restart the workloads that `plan` restarts; after a failure no further restart begins.

        Raises:
            SupersededError: A Secret holds another token by now.
            KubeError: The API server rejects a request.
        """
        actions = plan(seen)
        for progress in initial_progress(actions).values():
            self._set(progress)
        if not wait:
            await self._begin([one for one in actions if one.action in _AWAITED], State.STARTED)
            return
        while True:
            await self._begin(self._next(actions), State.RESTARTING)
            restarting = self._in_state(State.RESTARTING)
            if not restarting:
                break
            seen = await self._look(restarting, seen)
            actions = plan(seen)
            now = initial_progress(actions)
            for ref in self._in_state(State.PLANNED):
                self._set(now.get(ref) or Progress(ref=ref, state=State.UP_TO_DATE))
            if self._in_state(State.NOT_INJECTED):
                break
            if len(self._in_state(State.RESTARTING)) == len(restarting):
                await asyncio.sleep(self._pace.interval)
        for ref in self._in_state(State.PLANNED):
            self._set(replace(self.progress[ref], state=State.NOT_STARTED, message="an earlier workload failed"))

    def _in_state(self, *states: State) -> list[Ref]:
        return [ref for ref, one in self.progress.items() if one.state in states]

    def _next(self, actions: Iterable[PlannedAction]) -> list[PlannedAction]:
        """Return the restarts to begin now, and those of others to wait for; none after a failure."""
        if self._in_state(State.FAILED, State.NOT_INJECTED):
            return []
        planned = set(self._in_state(State.PLANNED))
        now = {one.ref: one for one in actions if one.action is not Action.RESTART or one.ref in planned}
        for ref in self._in_state(State.RESTARTING):  # also while the template has lost its mark
            now[ref] = replace(self._begun[ref].action, action=Action.WAIT)
        others = [action for ref, action in now.items() if ref in planned and action.action is Action.WAIT]
        budget = RestartBudget(per_namespace=self._pace.max_concurrent)
        return [*others, *next_actions(now.values(), budget)]

    async def _begin(self, actions: Sequence[PlannedAction], state: State) -> None:
        await self._check_secrets({key for action in actions for key in action.keys})
        for action in actions:
            try:
                if action.action is Action.RESTART:
                    await restart(self._api, action)
            except NotFoundError:  # deleted since it was planned: nothing is left to restart
                self._set(Progress(ref=action.ref, state=State.READY, message=DELETED))
                continue
            self._begun[action.ref] = _Begun(action, time.monotonic())
            self._set(replace(self.progress[action.ref], state=state, message=action.note))

    async def _look(self, restarting: Sequence[Ref], seen: Observed) -> Observed:
        """Take one look at the cluster, and return what is observed now."""
        begun = [self._begun[ref] for ref in restarting]
        late = {one.action.ref for one in begun if time.monotonic() >= one.at + self._pace.timeout}
        try:
            await self._check_secrets({key for one in begun for key in one.action.keys})
            seen = await self._observe(restarting, seen)
        except UnavailableError:
            if late:
                raise
            return seen  # a short outage of the API server does not end a rotation
        pods: dict[Ref, list[PodUsage]] = {ref: [] for ref in restarting}
        for pod in seen.pods:
            if pod.workload in pods and not pod.is_ending:
                pods[pod.workload].append(pod)
        for one in begun:
            ref = one.action.ref
            self._set(self._progress_of(one.action, seen.workloads.get(ref), pods[ref], is_late=ref in late))
        return seen

    async def _observe(self, restarting: Sequence[Ref], seen: Observed) -> Observed:
        """Observe these workloads and the Pods of their namespaces; the rest is as it was seen before."""
        namespaces = {ref.namespace for ref in restarting}
        keys = {key for key in self._revisions if key.namespace in namespaces}
        now = await observe(self._api, keys, self._owners)
        workloads = dict(seen.workloads)
        for ref in restarting:
            found = await self._owners.read(ref)
            if found is not None:
                workloads[ref] = replace(decode.workload(found), restarted_by=workloads[ref].restarted_by)
            else:
                del workloads[ref]
        elsewhere = tuple(pod for pod in seen.pods if pod.namespace not in namespaces)
        here = tuple(pod for pod in now.pods if pod.workload in workloads)
        return replace(seen, workloads=workloads, pods=elsewhere + here)

    def _progress_of(
        self, action: PlannedAction, workload: Workload | None, pods: Sequence[PodUsage], *, is_late: bool
    ) -> Progress:
        admission = self._admissions.get(action.ref)
        progress = progress_of(
            action,
            workload,
            pods,
            {key: self._revisions[key] for key in action.keys},
            {} if admission is None else admission.expected,
        )
        if is_late and progress.state is State.RESTARTING:
            trouble = f": {progress.message}" if progress.message else ""
            message = f"not ready within {self._pace.timeout:g} s{trouble}"
            return replace(progress, state=State.FAILED, message=message)
        return progress

    async def _check_secrets(self, keys: Iterable[SecretKey]) -> None:
        for key in sorted(keys):
            found = await self._api.get(SECRETS, key.name, key.namespace)
            if revision_of(token_secret(found), key.key).id != self._revisions[key].id:
                raise SupersededError(key)

    def _set(self, progress: Progress) -> None:
        if progress != self.progress.get(progress.ref):
            self.progress[progress.ref] = progress
            self._report(progress)


_AWAITED: Final = frozenset({Action.RESTART, Action.WAIT})


@dataclass(frozen=True, slots=True)
class _Begun:
    """A restart of this run, or one of others that it waits for; `at` is by the monotonic clock."""

    action: PlannedAction
    at: float


async def restart(api: Api, action: PlannedAction, *, dry_run: bool = False) -> None:
    """Annotate a workload's template, so that its controller replaces its Pods by its own rules.

    A merge patch: other annotations, and those of other rotations at the same time, are kept.
    """
    body: Final = {"spec": {"template": {"metadata": {"annotations": dict(action.marks)}}}}
    await api.patch(RESOURCES[action.ref.kind], action.ref.name, body, action.ref.namespace, dry_run=dry_run)
