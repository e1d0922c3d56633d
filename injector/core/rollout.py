"""Which workloads are to be restarted after a token changed, in which order, and which are left alone and why.

Values in, values out: a command or a controller observes, asks here, acts, and observes again. No state is kept
anywhere but in the cluster. What runs an old value is told by each Pod: its template carries the id of the token for
which it was restarted, or its containers started before the Secret's data changed.
https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-environment-variables
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from injector.core import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from injector.core.ownership import SecretRef, TokenSecret

# Seconds: how long after a change a kubelet may still hand out the value before it (its watch lags). A Pod that the API
# server created within them counts as old.
LAG: Final = 2
# Seconds: by how much a node's clock may be ahead of the API server's, and how long a kubelet takes to write a mounted
# Secret anew. In a Pod that is older than the change, a container that started within them counts as old.
SKEW: Final = 120
# Seconds: how long a container takes to start at most. What a kubelet has not told of by then does not run.
STARTS_WITHIN: Final = 600
# What fits behind the slash of an annotation's key.
_MAX_NAME_PART: Final = 63


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """An object that has Pods, or a Pod that has no owner."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Hold(StrEnum):
    """Why a workload is not restarted."""

    PAUSED = "paused"
    ON_DELETE = "on-delete"
    PARTITION = "partition"
    JOB = "job"
    BARE_POD = "bare-pod"
    NO_ROLLOUT = "no-rollout"
    OTHER_CONTROLLER = "other-controller"
    UNKNOWN_OWNER = "unknown-owner"


ADVICE: Final[Mapping[Hold, str]] = {
    Hold.PAUSED: "it is paused; resume it, then run this again with --resume",
    Hold.ON_DELETE: "its update strategy is OnDelete; delete its Pods yourself",
    Hold.PARTITION: "these Pods are below its partition; lower it",
    Hold.JOB: "a Job's template cannot change; it ends by itself, or start it anew",
    Hold.BARE_POD: "nothing makes this Pod again; replace it yourself",
    Hold.NO_ROLLOUT: "a change of its template reaches no running Pod; delete its Pods yourself",
    Hold.OTHER_CONTROLLER: "another controller writes its template and would take a change back; ask that one",
    Hold.UNKNOWN_OWNER: "its owner cannot be found; look at it yourself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What stands at the end of a Pod's chain of owners.

    `partition`: positions of Pods below it are not updated (StatefulSet). `restarted_for`: per annotation key, the id
    on its template. `is_settled`: the last change of its template has reached every Pod, and all are available.
    `failure`: what the cluster says of a rollout that does not go on; `trouble`: why it may not go on.
    `is_restarted_elsewhere`: the tool that does so by itself.
    """

    ref: Ref
    hold: Hold | None = None
    partition: int = 0
    restarted_for: Mapping[str, str] = field(default_factory=dict)
    is_settled: bool = True
    failure: str = ""
    trouble: str = ""
    is_restarted_elsewhere: str = ""
    recreates: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Containers of a Pod that hold a value of a Secret, and since when (None: not running, so they hold none).

    `is_starting`: of one of them its node has not told yet whether it runs.
    """

    secret: SecretRef
    containers: tuple[str, ...]
    started: int | None  # the oldest of them, in seconds since 1970
    is_starting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A Pod with containers that use a Secret. `position`: its place in a StatefulSet.

    `created` is by the API server's clock, as a Secret's change is; what has `started` is by the node's.
    """

    namespace: str
    name: str
    workload: Ref
    uses: tuple[Use, ...]
    created: int | None = None
    restarted_for: Mapping[str, str] = field(default_factory=dict)
    is_ending: bool = False
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a Secret holds now: the token's id if it has one, and when its data changed (None: nothing tells)."""

    id: str | None
    changed: int | None


class Age(StrEnum):
    """How a Pod's value compares with the Secret's."""

    FRESH = "fresh"
    STALE = "stale"
    NONE = "none"  # not started yet: it will read the current value
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What is done about a workload."""

    RESTART = "restart"
    WAIT = "wait"  # it is being restarted already
    HOLD = "hold"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One workload: what is done, for which Secrets; its Pods that run an old value, and those that will keep it."""

    ref: Ref
    action: Action
    secrets: tuple[SecretRef, ...] = ()
    stale: tuple[str, ...] = ()
    hold: Hold | None = None
    held: tuple[str, ...] = ()
    note: str = ""


def version_of(secret: TokenSecret, key: str) -> Version:
    """What a Secret holds under a key now; our id counts only while nobody else has written that value since."""
    changed = secret.changed(key)
    others = [writer.time for writer in secret.writers_of(key) if writer.manager != names.MANAGER]
    if secret.token_id is not None and (changed is None or changed not in others):
        return Version(id=secret.token_id, changed=changed)
    return Version(id=None if changed is None else f"changed-{changed}", changed=changed)


def annotation_for(secret: str) -> str:
    """The key on a template that says for which token of this Secret it was restarted."""
    return names.RESTARTED_FOR + secret[:_MAX_NAME_PART].rstrip("-.")


def age_of(holder: Holder, secret: SecretRef, version: Version) -> Age:
    """What a Pod runs of one Secret; unknown is never taken for fresh."""
    uses = [use for use in holder.uses if use.secret == secret]
    started = min((use.started for use in uses if use.started is not None), default=None)
    is_starting = any(use.is_starting for use in uses)
    if started is None and not is_starting:
        return Age.NONE
    if version.id is not None and holder.restarted_for.get(annotation_for(secret.name)) == version.id:
        return Age.FRESH
    if version.changed is None:
        return Age.UNKNOWN
    if holder.created is not None and holder.created > version.changed + LAG:
        return Age.FRESH
    if started is not None:
        return Age.STALE if started <= version.changed + SKEW else Age.FRESH
    is_young = holder.created is None or holder.created + STARTS_WITHIN >= version.changed
    return Age.UNKNOWN if is_young else Age.NONE


def plan(
    versions: Mapping[SecretRef, Version], workloads: Mapping[Ref, Workload], holders: Iterable[Holder]
) -> tuple[Step, ...]:
    """One step for each workload that uses one of the Secrets, in the order of their names.

    Pods that are ending are nobody's to restart.
    """
    pods: dict[Ref, list[Holder]] = defaultdict(list)
    for holder in holders:
        if not holder.is_ending and any(use.secret in versions for use in holder.uses):
            pods[holder.workload].append(holder)
    return tuple(_step(workloads[ref], pods[ref], versions) for ref in sorted(pods))


def _step(workload: Workload, pods: Sequence[Holder], versions: Mapping[SecretRef, Version]) -> Step:
    old = {
        pod.name: pod.position
        for pod in pods
        if any(age_of(pod, secret, version) in _OLD for secret, version in versions.items())
    }
    secrets = tuple(sorted({use.secret for pod in pods for use in pod.uses} & set(versions)))
    stale = tuple(sorted(old))
    if not stale:
        waits = workload.hold is None and not workload.is_settled and _is_restarted(workload, secrets, versions)
        return Step(ref=workload.ref, action=Action.WAIT if waits else Action.NOTHING, secrets=secrets)
    if workload.hold is not None:
        return Step(ref=workload.ref, action=Action.HOLD, secrets=secrets, stale=stale, hold=workload.hold, held=stale)
    held = tuple(
        sorted(name for name, position in old.items() if position is not None and position < workload.partition)
    )
    hold = Hold.PARTITION if held else None
    if held == stale:
        return Step(ref=workload.ref, action=Action.HOLD, secrets=secrets, stale=stale, hold=hold, held=held)
    action = Action.WAIT if _is_restarted(workload, secrets, versions) else Action.RESTART
    note = ""
    if workload.is_restarted_elsewhere:
        action, note = Action.WAIT, f"{workload.is_restarted_elsewhere} restarts it"
    elif workload.recreates:
        note = "its strategy is Recreate: it is away meanwhile"
    return Step(ref=workload.ref, action=action, secrets=secrets, stale=stale, hold=hold, held=held, note=note)


_OLD: Final = frozenset({Age.STALE, Age.UNKNOWN})


def _is_restarted(workload: Workload, secrets: Iterable[SecretRef], versions: Mapping[SecretRef, Version]) -> bool:
    """Whether the template already says that it was restarted for what the Secrets hold now."""
    wanted = {annotation_for(secret.name): versions[secret].id for secret in secrets}
    return all(value is not None and workload.restarted_for.get(key) == value for key, value in wanted.items())


def waves(steps: Iterable[Step], *, at_once: int) -> Iterator[tuple[Step, ...]]:
    """The steps that restart or wait, in turns: first one workload of each namespace, then `at_once` of each."""
    queues: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.action in {Action.RESTART, Action.WAIT}:
            queues[step.ref.namespace].append(step)
    size = 1
    while any(queues.values()):
        yield tuple(step for namespace in sorted(queues) for step in queues[namespace][:size])
        for namespace in queues:
            queues[namespace] = queues[namespace][size:]
        size = at_once


def holding(versions: Mapping[SecretRef, Version], holders: Iterable[Holder]) -> tuple[Holder, ...]:
    """Every Pod that still holds an old value, those included that are ending."""
    return tuple(
        holder
        for holder in holders
        if any(age_of(holder, secret, version) in _OLD for secret, version in versions.items())
    )
