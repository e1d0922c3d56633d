"""Decides which workloads to restart after a token changed, in which order, and whether each restart is complete.

All functions are pure and level-driven: a caller observes the cluster, calls `plan` and `next_actions`, acts, and
observes again. No state is kept outside the cluster: each Pod shows which value it runs (`token_state`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core import names
from injector.core.token_state import (
    LAG,
    PodUsage,
    Ref,
    SecretRevision,
    TokenState,
    annotation_for,
    in_state,
    is_mark,
    next_mark,
    not_surely_current,
    pod_names,
    without_token,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from injector.core.ownership import SecretKey

# The last second of the year 9999, after which no time can be written.
_LAST_TIME: Final = 253_402_300_799


class SkipReason(StrEnum):
    """Why a workload is not restarted."""

    PAUSED = "paused"
    ON_DELETE = "on-delete"
    PARTITION = "partition"
    JOB = "job"
    BARE_POD = "bare-pod"
    NO_ROLLOUT = "no-rollout"
    OTHER_CONTROLLER = "other-controller"
    UNKNOWN_CHANGE = "unknown-change"
    UNKNOWN_OWNER = "unknown-owner"


ADVICE: Final[Mapping[SkipReason, str]] = {
    SkipReason.PAUSED: "the Deployment is paused; resume it",
    SkipReason.ON_DELETE: "its update strategy is OnDelete; delete its Pods yourself",
    SkipReason.PARTITION: "these Pods are below its partition; lower it",
    SkipReason.JOB: "the template of a Job cannot change; wait until it ends, or create it again",
    SkipReason.BARE_POD: "no controller owns this Pod; replace it yourself",
    SkipReason.NO_ROLLOUT: "a change of its template reaches no running Pod; delete its Pods yourself",
    SkipReason.OTHER_CONTROLLER: "another controller writes its template and would revert a change; restart it there",
    SkipReason.UNKNOWN_CHANGE: "a Rollout is restarted by time, and nothing shows when the Secret changed; restart it "
    "yourself",
    SkipReason.UNKNOWN_OWNER: "its owner cannot be found; restart it yourself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The object at the end of a Pod's chain of owners.

    `partition`: Pods of a StatefulSet below this position are not updated. `restarted_for`: the annotations of its
    template. `rollout_complete`: the last change of its template has reached every Pod, and all are available.
    `failure`: why the cluster gave the rollout up; `trouble`: why it may not proceed. `restarted_by`: the tool that
    restarts it by itself when the Secret changes. `recreates`: no Pod runs during a restart.

    `restarts_by_time`: it is an Argo Rollout. A restart replaces the Pods that were created before `restart_at`, in
    seconds since 1970, and leaves the template as it is (docs/decisions/0030).
    """

    ref: Ref
    skip_reason: SkipReason | None = None
    partition: int = 0
    restarted_for: Mapping[str, str] = field(default_factory=dict)
    rollout_complete: bool = True
    failure: str = ""
    trouble: str = ""
    restarted_by: str = ""
    recreates: bool = False
    restarts_by_time: bool = False
    restart_at: int | None = None


class Action(StrEnum):
    """What to do about a workload."""

    RESTART = "restart"
    WAIT = "wait"  # a restart is in progress
    SKIP = "skip"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAction:
    """What to do about one workload.

    Args:
        ref: The workload.
        action: What to do.
        keys: The keys that its Pods read or request.
        outdated: Names of Pods that run an outdated value.
        uncertain: Names of Pods that may run an outdated value.
        missing: Names of Pods that request a token and have none.
        skip_reason: Why `skipped` Pods keep what they have.
        skipped: Names of Pods that no restart reaches.
        note: What a user should know of it.
        marks: Annotations that a restart writes to its template.
        restart_at: For an Argo Rollout, in place of marks: the time before which its Pods were created.
        default_key: The key that its sidecars have from the Policy's default Secret, or should have.
        is_completed: A Pod created since the change runs the current value, and nothing is left to do.
    """

    ref: Ref
    action: Action
    keys: tuple[SecretKey, ...] = ()
    outdated: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    skip_reason: SkipReason | None = None
    skipped: tuple[str, ...] = ()
    note: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    restart_at: int | None = None
    default_key: SecretKey | None = None
    is_completed: bool = False

    @property
    def is_restart(self) -> bool:
        """Whether a restart is to begin, or is in progress."""
        return self.action in {Action.RESTART, Action.WAIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartBudget:
    """How many workloads may be restarting at the same time, in a namespace and in `total`."""

    per_namespace: int
    total: int


class State(StrEnum):
    """The progress of a workload."""

    UP_TO_DATE = "up-to-date"
    PLANNED = "planned"
    RESTARTING = "restarting"
    STARTED = "started"  # and not waited for
    READY = "ready"
    SKIPPED = "skipped"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    NOT_INJECTED = "not-injected"  # its new Pods have no token
    UNKNOWN = "unknown"  # whether new Pods would get the token cannot be determined
    NOT_STARTED = "not-started"
    NOT_RESTARTED = "not-restarted"  # no restart was requested


_UNFINISHED: Final = frozenset(State) - {State.UP_TO_DATE, State.STARTED, State.READY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One workload: its state, why, and the names of its Pods that have not the current token.

    `skip_reason`: why Pods keep what they have, if the message is about that. `is_cancelled`: a restart by time does
    not continue.
    """

    ref: Ref
    state: State
    message: str = ""
    skip_reason: SkipReason | None = None
    is_cancelled: bool = False
    outdated: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_unfinished(self) -> bool:
        """Whether some of its Pods do not surely run the current token."""
        return self.state in _UNFINISHED or (
            self.state is State.READY and bool(self.outdated or self.uncertain or self.missing)
        )


# --- the plan ---


def plan(
    revisions: Mapping[SecretKey, SecretRevision],
    workloads: Mapping[Ref, Workload],
    pods: Iterable[PodUsage],
    *,
    include_uncertain: bool = False,
) -> tuple[PlannedAction, ...]:
    """Return one action for each workload that reads or requests one of the keys, ordered by name.

    Pods that are ending need no restart. With `include_uncertain`, an uncertain Pod is restarted like an outdated one.
    """
    by_workload: dict[Ref, list[PodUsage]] = defaultdict(list)
    for pod in pods:
        if not pod.is_ending and _keys_of([pod], revisions):
            by_workload[pod.workload].append(pod)
    return tuple(
        _planned(workloads[ref], by_workload[ref], revisions, include_uncertain=include_uncertain)
        for ref in sorted(by_workload)
    )


def _keys_of(pods: Iterable[PodUsage], revisions: Mapping[SecretKey, SecretRevision]) -> tuple[SecretKey, ...]:
    found = {key for pod in pods for key in pod.keys}
    return tuple(sorted(found & revisions.keys()))


def _planned(
    workload: Workload,
    pods: Sequence[PodUsage],
    revisions: Mapping[SecretKey, SecretRevision],
    *,
    include_uncertain: bool,
) -> PlannedAction:
    keys = _keys_of(pods, revisions)
    outdated = in_state(TokenState.OUTDATED, revisions, pods)
    uncertain = in_state(TokenState.UNCERTAIN, revisions, pods)
    missing = without_token(keys, pods)
    found = PlannedAction(
        ref=workload.ref,
        action=Action.NOTHING,
        keys=keys,
        outdated=pod_names(outdated),
        uncertain=pod_names(uncertain),
        missing=pod_names(missing),
        default_key=min((key for pod in pods for key in pod.default_keys), default=None),
    )
    replaced = {pod.name: pod for pod in (*outdated, *missing, *(uncertain if include_uncertain else ()))}
    is_marked = _is_marked(workload, keys, revisions)
    has_new = any(is_new(pod, workload, keys, revisions) for pod in pods if pod.name not in replaced)
    is_completed = workload.rollout_complete and has_new
    if not replaced:
        waits = workload.skip_reason is None and not workload.rollout_complete and is_marked
        return replace(found, action=Action.WAIT) if waits else replace(found, is_completed=is_completed)
    if workload.skip_reason is not None:
        return replace(found, action=Action.SKIP, skip_reason=workload.skip_reason, skipped=tuple(sorted(replaced)))
    skipped = tuple(sorted(name for name, pod in replaced.items() if is_below_partition(pod, workload)))
    reason = SkipReason.PARTITION if skipped else None
    found = replace(found, skip_reason=reason, skipped=skipped)
    if len(skipped) == len(replaced):
        return replace(found, action=Action.SKIP, is_completed=is_completed)
    # A Pod of the restart without a token: admission failed, so only another restart gives it one.
    has_failed = any(is_of_restart(pod, workload, keys, revisions) for pod in missing if pod.name not in skipped)
    # Argo cancels a restart when the template changes, and then reports that it is complete.
    is_cancelled = workload.restarts_by_time and workload.rollout_complete
    if is_marked and not has_failed and not is_cancelled:
        return replace(found, action=Action.WAIT)
    is_done = _was_restarted(workload, tuple(replaced.values()), keys, revisions)
    if workload.restarted_by and not has_failed and not is_done:
        return replace(found, action=Action.WAIT, note=f"{workload.restarted_by} restarts it")
    if workload.restarts_by_time:
        return _planned_by_time(found, workload, missing, revisions)
    marks = {annotation_for(key.name): _unused_mark(key, workload, missing, revisions[key]) for key in keys}
    note = "its strategy is Recreate: no Pod runs during the restart" if workload.recreates else ""
    return replace(found, action=Action.RESTART, marks=marks, note=note)


def _planned_by_time(
    found: PlannedAction,
    workload: Workload,
    failed: Iterable[PodUsage],
    revisions: Mapping[SecretKey, SecretRevision],
) -> PlannedAction:
    """Plan the restart of an Argo Rollout at a time that follows from what is observed, so that a resumed run agrees.

    It is after every change and after the creation of every Pod that failed admission, and another one than it has.
    """
    changes = [revisions[key].changed for key in found.keys]
    times = [change + LAG for change in changes if change is not None]
    times += [pod.created for pod in failed if pod.created is not None]
    restart_at = max(times, default=0) + 1
    restart_at += restart_at == workload.restart_at
    if None in changes or restart_at > _LAST_TIME:
        return replace(
            found,
            action=Action.SKIP,
            skip_reason=SkipReason.UNKNOWN_CHANGE,
            skipped=tuple(sorted({*found.outdated, *found.uncertain, *found.missing})),
        )
    note = "its only Pod is replaced: no Pod runs during the restart" if workload.recreates else ""
    return replace(found, action=Action.RESTART, restart_at=restart_at, note=note)


def _unused_mark(key: SecretKey, workload: Workload, failed: Iterable[PodUsage], revision: SecretRevision) -> str:
    """Return a mark that neither the template has, nor a Pod without its token, which would look like a new one."""
    name = annotation_for(key.name)
    used = {pod.restarted_for.get(name) for pod in failed}
    mark = next_mark(workload.restarted_for.get(name), revision)
    while mark in used and is_mark(mark, revision):
        mark = next_mark(mark, revision)
    return mark


def is_below_partition(pod: PodUsage, workload: Workload) -> bool:
    """Return whether a rollout of its StatefulSet does not reach the Pod."""
    return pod.position is not None and pod.position < workload.partition


def _is_marked(workload: Workload, keys: Iterable[SecretKey], revisions: Mapping[SecretKey, SecretRevision]) -> bool:
    """Whether the template is marked as restarted for the current values, or the time of a restart is after them."""
    if workload.restarts_by_time:
        return all(_is_after(workload.restart_at, revisions[key]) for key in keys)
    return all(is_mark(workload.restarted_for.get(annotation_for(key.name)), revisions[key]) for key in keys)


def _is_after(time: int | None, revision: SecretRevision) -> bool:
    """Whether no kubelet uses the previous value any more for a Pod that the API server created at this time."""
    return time is not None and revision.changed is not None and time > revision.changed + LAG


def is_new(
    pod: PodUsage,
    workload: Workload,
    keys: Iterable[SecretKey],
    revisions: Mapping[SecretKey, SecretRevision],
) -> bool:
    """Return whether the Pod was created by the restart: from the marked template, or else after the change.

    For an Argo Rollout: not before the time of the restart, if there was one after the change.
    """
    if workload.restart_at is not None and pod.created is not None and _is_marked(workload, keys, revisions):
        return pod.created >= workload.restart_at
    return all(_is_new(pod, workload, key, revisions[key]) for key in keys)


def is_of_restart(
    pod: PodUsage, workload: Workload, keys: Collection[SecretKey], revisions: Mapping[SecretKey, SecretRevision]
) -> bool:
    """Return whether the Pod was created by the restart, perhaps by another tool in the second of the change.

    Which value such a Pod has is uncertain for as long as kubelets may lag, and whether it has a reference is not.
    """
    return is_new(pod, workload, keys, revisions) or _may_be_by_tool(pod, workload, keys, revisions)


def _may_be_by_tool(
    pod: PodUsage, workload: Workload, keys: Collection[SecretKey], revisions: Mapping[SecretKey, SecretRevision]
) -> bool:
    """Whether another tool restarts the workload, and the Pod was created in the second of the change or later."""
    if not workload.restarted_by or _is_marked(workload, keys, revisions):
        return False
    changes = [revisions[key].changed for key in keys]
    return pod.created is not None and all(change is not None and pod.created >= change for change in changes)


def _was_restarted(
    workload: Workload,
    pods: Collection[PodUsage],
    keys: Collection[SecretKey],
    revisions: Mapping[SecretKey, SecretRevision],
) -> bool:
    """Whether another tool has restarted the workload, so that these Pods remain as they are.

    It restarts once for each change. Pods that it created within the tolerances stay uncertain.
    """
    return workload.rollout_complete and all(_may_be_by_tool(pod, workload, keys, revisions) for pod in pods)


def _is_new(pod: PodUsage, workload: Workload, key: SecretKey, revision: SecretRevision) -> bool:
    name = annotation_for(key.name)
    if is_mark(workload.restarted_for.get(name), revision):
        return pod.restarted_for.get(name) == workload.restarted_for[name]
    return _is_after(pod.created, revision)


def next_actions(
    actions: Iterable[PlannedAction], budget: RestartBudget, stopped: Collection[str] = ()
) -> tuple[PlannedAction, ...]:
    """Return the restarts to begin now, given the plan of what is observed now; none in the `stopped` namespaces.

    Workloads that wait count against the budget, also if another tool restarts them. The first restart in a namespace
    runs alone, until a workload there is completed. Namespaces are taken in the order of their names.
    """
    by_namespace: dict[str, list[PlannedAction]] = defaultdict(list)
    for action in actions:
        by_namespace[action.ref.namespace].append(action)
    room = budget.total - sum(map(_waiting, by_namespace.values()))
    begun: list[PlannedAction] = []
    for namespace in sorted(by_namespace.keys() - set(stopped)):
        begun += _next(by_namespace[namespace], budget.per_namespace)
    return tuple(begun[: max(0, room)])


def _next(actions: Sequence[PlannedAction], per_namespace: int) -> Sequence[PlannedAction]:
    limit = per_namespace if any(action.is_completed for action in actions) else 1
    return [action for action in actions if action.action is Action.RESTART][: max(0, limit - _waiting(actions))]


def _waiting(actions: Iterable[PlannedAction]) -> int:
    return sum(action.action is Action.WAIT for action in actions)


# --- progress ---


def initial_progress(actions: Iterable[PlannedAction], *, restart: bool = True) -> dict[Ref, Progress]:
    """Return the progress of a plan that nothing was done for; without `restart`, nothing will be."""
    return {action.ref: _initial(action, restart=restart) for action in actions}


def _initial(action: PlannedAction, *, restart: bool) -> Progress:
    found = Progress(
        ref=action.ref,
        state=State.PLANNED if restart else State.NOT_RESTARTED,
        message=action.note,
        outdated=action.outdated,
        uncertain=action.uncertain,
        missing=action.missing,
    )
    match action.action:
        case Action.SKIP:
            return _skipped(found, State.SKIPPED, action.skip_reason)
        case Action.NOTHING if action.uncertain:
            return replace(found, state=State.UNCERTAIN, message=UNCERTAIN)
        case Action.NOTHING:
            return replace(found, state=State.UP_TO_DATE)
        case _:
            return found


UNCERTAIN: Final = "started within the tolerances of clocks and caches"


def _skipped(progress: Progress, state: State, reason: SkipReason | None, prefix: str = "") -> Progress:
    message = "" if reason is None else f"{prefix}{reason}: {ADVICE[reason]}"
    return replace(progress, state=state, message=message, skip_reason=reason)


def progress_of(
    action: PlannedAction,
    workload: Workload | None,
    pods: Sequence[PodUsage],
    revisions: Mapping[SecretKey, SecretRevision],
    expected: Mapping[SecretKey, Collection[str]],
    late_after: float | None = None,
) -> Progress:
    """Return the progress of a workload whose restart was started.

    Args:
        action: The action that was taken.
        workload: The workload as it is now; None: it was deleted.
        pods: All Pods of the workload that are not ending.
        revisions: The current values.
        expected: Per key, the containers of a new Pod that must have a reference to it that is not optional.
        late_after: The seconds that the restart had, if they are over.

    Returns:
        `ready` when every new Pod has the reference in every expected container and no Pod that the rollout reaches
        runs another value; `not-injected` as soon as one new Pod has it not, or requests a token and has none;
        `uncertain` when another tool has restarted it so soon that its Pods may run another value; `failed`, or
        `restarting`.
    """
    if workload is None:
        return Progress(ref=action.ref, state=State.READY, message=DELETED)
    revisions = {key: revisions[key] for key in action.keys}
    old = not_surely_current(revisions, pods)
    now = Progress(
        ref=action.ref,
        state=State.RESTARTING,
        message=workload.trouble or action.note,
        outdated=pod_names(in_state(TokenState.OUTDATED, revisions, old)),
        uncertain=pod_names(in_state(TokenState.UNCERTAIN, revisions, old)),
        missing=pod_names(without_token(action.keys, old)),
    )
    for pod in pods:
        is_checked = is_of_restart(pod, workload, action.keys, revisions)
        lacking = _lacking(pod, action.keys, expected) if is_checked else ()
        if lacking:
            is_broken = any(one.is_broken_seal for one in pod.missing)
            why = BROKEN_SEAL if is_broken else "the webhook did not inject it"
            message = f"new Pod {pod.name} has no token in {', '.join(lacking)}: {why}"
            return replace(now, state=State.NOT_INJECTED, message=message)
    is_moving = any(not is_below_partition(pod, workload) for pod in old)
    if not is_moving and workload.rollout_complete:
        return _skipped(now, State.READY, action.skip_reason if old else None)
    if workload.skip_reason is not None:
        return _skipped(now, State.FAILED, workload.skip_reason, "changed during the rollout: ")
    failure = _failure_of(action, workload)
    if failure:
        return replace(now, state=State.FAILED, message=failure)
    if old and _was_restarted(workload, old, action.keys, revisions):
        return replace(now, state=State.UNCERTAIN, message=UNCERTAIN)
    if action.restart_at is not None and workload.rollout_complete:
        now = replace(now, message=CANCELLED, is_cancelled=True)
    return now if late_after is None else _late(now, workload, late_after)


def _late(now: Progress, workload: Workload, late_after: float) -> Progress:
    message = f"not ready within {late_after:g} s" + (f": {now.message}" if now.message else "")
    if workload.restarted_by and workload.rollout_complete:  # still, with the Pods that it had: it was not restarted
        tool = workload.restarted_by
        message = f"{tool} should restart it and has not within {late_after:g} s; see the log of {tool}"
    return replace(now, state=State.FAILED, message=message)


def _failure_of(action: PlannedAction, workload: Workload) -> str:
    """Return why the restart cannot become complete; empty if it may."""
    is_marked = all(workload.restarted_for.get(name) == value for name, value in action.marks.items())
    if action.action is Action.RESTART and workload.rollout_complete and not is_marked:
        # The owner of the template removed the annotation, and the rollout went back to the old Pods.
        return "another manager removed our annotation from its template"
    if action.restart_at is not None and (workload.restart_at or 0) < action.restart_at:
        return "another manager changed our spec.restartAt"
    return workload.failure


CANCELLED: Final = "its template changed, which cancels the restart"
DELETED: Final = "it was deleted"
BROKEN_SEAL: Final = "its seal was changed; `dapr-token-injector status` shows what is wrong"


def _lacking(
    pod: PodUsage, keys: Collection[SecretKey], expected: Mapping[SecretKey, Collection[str]]
) -> tuple[str, ...]:
    """The expected containers without a reference that the kubelet must resolve, and sidecars without a value.

    Also one of another Secret: the restart would have taken it away.
    """
    having = pod.ended | {(one.key, one.container) for one in pod.usages if not one.is_optional}
    wanted = {(key, container) for key in keys for container in expected.get(key, ())}
    without = {one.container for one in pod.missing if one.key in keys or one.is_default}
    if pod.lacks_request or pod.optional_keys.intersection(keys):
        without.add(names.SIDECAR)
    return tuple(sorted({container for key, container in wanted - having} | without))
