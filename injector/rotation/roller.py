"""Carries out a plan: restarts workloads within a budget and waits until each runs the current token.

All state is in the cluster: if a run ends half-way, the next one observes, plans and continues.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from injector.core import names
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
)
from injector.core.token_state import revision_of
from injector.kube.errors import DeniedError, ForbiddenError, NotFoundError, UnavailableError
from injector.kube.resources import SECRETS
from injector.rotation import decode_workloads
from injector.rotation.observe import RESOURCES, observe
from injector.times import rfc3339
from injector.tokens.decode import token_secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from injector.core.ownership import SecretKey
    from injector.core.token_state import PodUsage, Ref, SecretRevision
    from injector.kube.client import Api
    from injector.kube.watch import Clock
    from injector.rotation.admission import AdmissionCheck
    from injector.rotation.observe import Observed, Owners

    Sleep: TypeAlias = Callable[[float], Awaitable[None]]
    Plan: TypeAlias = Callable[[Observed], Sequence[PlannedAction]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Limits of a rollout: workloads at once; seconds to wait for each, and between two looks.

    `keep_going`: a failed workload stops only its own namespace.
    """

    max_concurrent: int = 5
    max_concurrent_per_namespace: int = 2
    timeout: float = 600.0
    interval: float = 1.0
    keep_going: bool = False


class SupersededError(Exception):
    """Another process rotated the Secret in the meantime, and its run restarts the workloads."""

    def __init__(self, key: SecretKey) -> None:
        super().__init__(f"Secret {key.secret} was rotated again by another process")


class Roller:
    """Restarts the workloads of one run; `progress` is where each of them is."""

    def __init__(  # noqa: PLR0913 - collaborators
        self,
        api: Api,
        revisions: Mapping[SecretKey, SecretRevision],
        admissions: Mapping[Ref, AdmissionCheck],
        pace: Pace,
        report: Callable[[Progress], None],
        owners: Owners,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.progress: dict[Ref, Progress] = {}
        self._api = api
        self._owners = owners  # the owner of a Pod never changes; its state is read at each look
        self._revisions = revisions
        self._admissions = admissions
        self._pace = pace
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._begun: dict[Ref, _Begun] = {}

    async def roll(self, seen: Observed, plan: Plan, *, wait: bool) -> None:
        """Restart the workloads that `plan` restarts; after a failure no further restart begins, see `Pace`.

        Raises:
            SupersededError: A Secret holds another token by now; with `keep_going`, its workloads fail instead.
            KubeError: The API server rejects a request.
        """
        actions = plan(seen)
        for progress in initial_progress(actions).values():
            self._set(progress)
        if not wait:
            await self._begin([one for one in actions if one.is_restart], State.STARTED)
            return
        while True:
            begun = self._next(actions)
            await self._begin(begun, State.RESTARTING)
            restarting = self._in_state(State.RESTARTING)
            if not restarting:
                if begun:  # all were deleted, or have failed
                    continue
                break
            seen = await self._look(restarting, seen)
            actions = plan(seen)
            now = initial_progress(actions)
            for ref in self._in_state(State.PLANNED):
                self._set(now.get(ref) or Progress(ref=ref, state=State.UP_TO_DATE))
            if self._in_state(State.NOT_INJECTED) and not self._pace.keep_going:
                break
            if len(self._in_state(State.RESTARTING)) == len(restarting):
                await self._sleep(self._pace.interval)
        first = {ref.namespace: ref for ref in reversed(self._in_state(*_FAILED))}
        for ref in self._in_state(State.PLANNED):
            failed = first.get(ref.namespace) or next(iter(first.values()))
            self._set(replace(self.progress[ref], state=State.NOT_STARTED, message=f"{failed} failed"))

    def _in_state(self, *states: State) -> list[Ref]:
        return [ref for ref, one in self.progress.items() if one.state in states]

    def _next(self, actions: Iterable[PlannedAction]) -> list[PlannedAction]:
        """Return the restarts to begin now, and those of others to wait for; none where a workload has failed."""
        stopped = {ref.namespace for ref in self._in_state(*_FAILED)}
        if stopped and not self._pace.keep_going:
            return []
        planned = set(self._in_state(State.PLANNED))
        # A workload that is ready may be scaled or replaced for another reason; this run does not wait for it.
        now = {one.ref: one for one in actions if not one.is_restart or one.ref in planned}
        for ref in self._in_state(State.RESTARTING):  # also while the template has lost its mark
            now[ref] = replace(self._begun[ref].action, action=Action.WAIT)
        others = [
            action
            for ref, action in now.items()
            if ref in planned and action.action is Action.WAIT and ref.namespace not in stopped
        ]
        budget = RestartBudget(per_namespace=self._pace.max_concurrent_per_namespace, total=self._pace.max_concurrent)
        return [*others, *next_actions(now.values(), budget, stopped)]

    async def _begin(self, actions: Sequence[PlannedAction], state: State) -> None:
        for action in await self._with_planned_secrets(actions):
            try:
                if action.action is Action.RESTART:
                    await restart(self._api, action)
            except NotFoundError:  # deleted since it was planned: nothing is left to restart
                self._set(Progress(ref=action.ref, state=State.READY, message=DELETED))
                continue
            self._begun[action.ref] = _Begun(action, self._clock())
            self._set(replace(self.progress[action.ref], state=state, message=action.note))

    async def _look(self, restarting: Sequence[Ref], seen: Observed) -> Observed:
        """Take one look at the cluster, and return what is observed now."""
        begun = [self._begun[ref] for ref in restarting]
        late = {one.action.ref for one in begun if self._clock() >= one.at + self._pace.timeout}
        try:
            planned = await self._with_planned_secrets([one.action for one in begun])
            seen = await self._observe(restarting, seen)
        except UnavailableError:
            if late:
                raise
            return seen  # a short outage of the API server does not end a rotation
        pods: dict[Ref, list[PodUsage]] = {ref: [] for ref in restarting}
        for pod in seen.pods:
            if pod.workload in pods and not pod.is_ending:
                pods[pod.workload].append(pod)
        for action in planned:
            ref = action.ref
            expected = self._admissions[ref].expected if ref in self._admissions else {}
            late_after = self._pace.timeout if ref in late else None
            self._set(progress_of(action, seen.workloads.get(ref), pods[ref], self._revisions, expected, late_after))
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
                workloads[ref] = replace(decode_workloads.workload(found), restarted_by=workloads[ref].restarted_by)
            else:
                del workloads[ref]
        elsewhere = tuple(pod for pod in seen.pods if pod.namespace not in namespaces)
        here = tuple(pod for pod in now.pods if pod.workload in workloads)
        return replace(seen, workloads=workloads, pods=elsewhere + here)

    async def _with_planned_secrets(self, actions: Sequence[PlannedAction]) -> list[PlannedAction]:
        """Return the actions whose Secrets hold the tokens that they were planned for; the others have failed."""
        superseded: dict[SecretKey, SupersededError] = {}
        for key in sorted({key for action in actions for key in action.keys}):
            found = await self._api.get(SECRETS, key.name, key.namespace)
            if revision_of(token_secret(found), key.key).id != self._revisions[key].id:
                superseded[key] = SupersededError(key)
                if not self._pace.keep_going:
                    raise superseded[key]
        kept = []
        for action in actions:
            error = next((superseded[key] for key in action.keys if key in superseded), None)
            if error is None:
                kept.append(action)
            else:
                failed = replace(self.progress[action.ref], state=State.FAILED, message=str(error), is_cancelled=False)
                self._set(failed)
        return kept

    def _set(self, progress: Progress) -> None:
        if progress != self.progress.get(progress.ref):
            self.progress[progress.ref] = progress
            self._report(progress)


_FAILED: Final = (State.FAILED, State.NOT_INJECTED)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A restart of this run, or one of others that it waits for; `at` is by the monotonic clock."""

    action: PlannedAction
    at: float


async def restart(api: Api, action: PlannedAction, *, dry_run: bool = False) -> None:
    """Annotate a workload's template, so that its controller replaces its Pods by its own rules.

    A merge patch: other annotations, and those of other rotations at the same time, are kept. An Argo Rollout gets the
    time of its restart instead: https://argoproj.github.io/argo-rollouts/features/restart/
    """
    spec: dict[str, object] = {"template": {"metadata": {"annotations": dict(action.marks)}}}
    if action.restart_at is not None:
        spec = {"restartAt": rfc3339(action.restart_at)}
    body: Final = {"spec": spec}
    await api.patch(RESOURCES[action.ref.kind], action.ref.name, body, action.ref.namespace, dry_run=dry_run)


async def record(api: Api, action: PlannedAction) -> None:
    """Record on a workload which default Secret its sidecars have, if they have one and that is allowed.

    A later process then knows it, too, when new Pods came without (docs/decisions/0043).
    """
    key = action.default_key
    if key is None or not action.is_restart:
        return
    body: Final = {"metadata": {"annotations": {names.OBSERVED_DEFAULT: f"{key.name}/{key.key}"}}}
    try:
        await api.patch(RESOURCES[action.ref.kind], action.ref.name, body, action.ref.namespace)
    except (ForbiddenError, DeniedError, NotFoundError):  # to wait for a restart needs no permission to write
        return
