"""Laws of plans and of progress: skipped workloads are never touched, and acting on a plan leaves nothing to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from injector.core import names
from injector.core.ownership import SecretKey
from injector.core.rollout import (
    Action,
    RestartBudget,
    SkipReason,
    State,
    Workload,
    initial_progress,
    is_below_partition,
    is_of_restart,
    next_actions,
    plan,
    progress_of,
)
from injector.core.token_state import (
    ContainerUsage,
    MissingToken,
    PodUsage,
    Ref,
    SecretRevision,
    TokenState,
    annotation_for,
    is_mark,
    next_mark,
    pod_state,
    without_token,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from injector.core.rollout import PlannedAction

KEYS = [SecretKey(namespace, name, "token") for namespace in ("a", "b") for name in ("api", "app")]
REVISIONS = {key: SecretRevision(id=f"new-{key.name}", changed=100, created=100) for key in KEYS}
CONTAINERS = ("daprd", "web")
OLD = frozenset({TokenState.OUTDATED, TokenState.UNCERTAIN})
# After every change, also by the clock of a node.
AFTER = 500

times = st.none() | st.integers(0, 300)
marks = st.dictionaries(
    st.sampled_from([annotation_for("api"), annotation_for("app")]),
    st.sampled_from(["new-api", "new-api (2)", "new-app", "old"]),
)
Cluster: TypeAlias = tuple[dict[Ref, Workload], list[PodUsage]]


@st.composite
def pods_of(draw: st.DrawFn, ref: Ref) -> list[PodUsage]:
    """Some Pods of a workload; each of its keys is read, requested without an answer, or neither."""
    keys = [key for key in KEYS if key.namespace == ref.namespace]
    found = []
    for position in range(draw(st.integers(0, 4))):
        read = draw(st.lists(st.sampled_from(keys), unique=True))
        usages = tuple(
            ContainerUsage(
                container=draw(st.sampled_from(CONTAINERS)),
                key=key,
                started=draw(times),
                is_starting=draw(st.booleans()),
                is_optional=draw(st.booleans()),
            )
            for key in read
        )
        missing = tuple(
            MissingToken(key=key, container="daprd", variable=names.API_TOKEN_ENV)
            for key in draw(st.lists(st.sampled_from(keys), unique=True))
            if key not in read
        )
        found.append(
            PodUsage(
                namespace=ref.namespace,
                name=f"{ref.name}-{position}",
                workload=ref,
                usages=usages,
                missing=missing,
                created=draw(times),
                clock_lead=draw(st.none() | st.integers(0, 120)),
                restarted_for=draw(marks),
                is_ending=draw(st.booleans()),
                position=position if ref.kind == "StatefulSet" else None,
            )
        )
    return found


@st.composite
def workloads_of(draw: st.DrawFn, ref: Ref) -> Workload:
    """A workload in any state."""
    return Workload(
        ref=ref,
        skip_reason=draw(st.none() | st.sampled_from(SkipReason)),
        partition=draw(st.integers(0, 3)) if ref.kind == "StatefulSet" else 0,
        restarted_for=draw(marks),
        rollout_complete=draw(st.booleans()),
        failure=draw(st.sampled_from(["", "deadline"])),
        restarted_by=draw(st.sampled_from(["", "Reloader"])),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Some workloads of both namespaces, and their Pods."""
    workloads: dict[Ref, Workload] = {}
    pods: list[PodUsage] = []
    for number in range(draw(st.integers(0, 6))):
        ref = Ref(draw(st.sampled_from(["Deployment", "StatefulSet"])), draw(st.sampled_from("ab")), f"w{number}")
        workloads[ref] = draw(workloads_of(ref))
        pods.extend(draw(pods_of(ref)))
    return workloads, pods


def found(pods: Sequence[PodUsage], ref: Ref, state: TokenState) -> set[str]:
    """Names of a workload's Pods in a state that need a restart."""
    own = [pod for pod in pods if pod.workload == ref and not pod.is_ending]
    return {pod.name for pod in own if pod_state(pod, REVISIONS) is state}


def found_open(pods: Sequence[PodUsage], ref: Ref) -> set[str]:
    own = [pod for pod in pods if pod.workload == ref and not pod.is_ending]
    return {pod.name for pod in without_token(KEYS, own)}


def replaced_by(action: PlannedAction, *, include_uncertain: bool) -> set[str]:
    """The Pods for which a workload is restarted, waited for or skipped."""
    return {*action.outdated, *action.missing, *(action.uncertain if include_uncertain else ())}


def acted_on(workloads: Mapping[Ref, Workload], pods: Sequence[PodUsage], actions: Sequence[PlannedAction]) -> Cluster:
    """A cluster that carries a plan out: templates are marked, and Pods at or above the partition are replaced."""
    after, new_pods = dict(workloads), list(pods)
    for action in actions:
        if action.action not in {Action.RESTART, Action.WAIT}:
            continue
        workload = workloads[action.ref]
        marked = {**workload.restarted_for, **action.marks}
        after[action.ref] = replace(workload, restarted_for=marked, rollout_complete=True)
        new_pods = [
            replace(
                pod,
                restarted_for=marked,
                created=AFTER,
                missing=(),
                usages=tuple(replace(usage, started=AFTER) for usage in pod.usages),
            )
            if pod.workload == action.ref and not is_below_partition(pod, workload)
            else pod
            for pod in new_pods
        ]
    return after, new_pods


@given(clusters(), st.booleans())
def test_workload_with_a_skip_reason_is_never_restarted(cluster: Cluster, include_uncertain: bool) -> None:  # noqa: FBT001 - drawn
    workloads, pods = cluster
    for action in plan(REVISIONS, workloads, pods, include_uncertain=include_uncertain):
        if workloads[action.ref].skip_reason is not None:
            assert action.action in {Action.SKIP, Action.NOTHING}
        assert bool(action.marks) is (action.action is Action.RESTART)


@given(clusters(), st.booleans())
def test_plan_has_exactly_the_pods_without_the_current_token(
    cluster: Cluster,
    include_uncertain: bool,  # noqa: FBT001 - drawn
) -> None:
    workloads, pods = cluster
    made = plan(REVISIONS, workloads, pods, include_uncertain=include_uncertain)
    actions = {action.ref: action for action in made}
    assert len(actions) == len(made)
    for ref in workloads:
        action = actions.get(ref)
        assert set(action.outdated if action else ()) == found(pods, ref, TokenState.OUTDATED)
        assert set(action.uncertain if action else ()) == found(pods, ref, TokenState.UNCERTAIN)
        assert set(action.missing if action else ()) == found_open(pods, ref)


@given(clusters(), st.booleans())
def test_pod_to_replace_is_restarted_waited_for_or_skipped_with_a_reason(
    cluster: Cluster,
    include_uncertain: bool,  # noqa: FBT001 - drawn
) -> None:
    for action in plan(REVISIONS, *cluster, include_uncertain=include_uncertain):
        wanted = replaced_by(action, include_uncertain=include_uncertain)
        assert (action.skip_reason is not None) is bool(action.skipped)
        assert set(action.skipped) <= wanted
        match action.action:
            case Action.NOTHING:
                assert not wanted
            case Action.SKIP:
                assert set(action.skipped) == wanted
            case Action.RESTART:
                assert set(action.skipped) < wanted
            case Action.WAIT:
                assert set(action.skipped) < wanted or not wanted


@given(clusters())
def test_uncertain_pod_is_reported_and_restarts_nothing(cluster: Cluster) -> None:
    actions = plan(REVISIONS, *cluster)
    progress = initial_progress(actions)
    for action in actions:
        if action.uncertain and not action.outdated and not action.missing:
            assert action.action in {Action.NOTHING, Action.WAIT}
            assert progress[action.ref].uncertain == action.uncertain
            assert progress[action.ref].is_unfinished


@given(clusters(), st.booleans())
def test_executed_plan_leaves_only_skipped_pods(cluster: Cluster, include_uncertain: bool) -> None:  # noqa: FBT001 - drawn
    actions = plan(REVISIONS, *cluster, include_uncertain=include_uncertain)
    skipped = {action.ref: set(action.skipped) for action in actions if action.skipped}
    again = plan(REVISIONS, *acted_on(*cluster, actions), include_uncertain=include_uncertain)
    left = {action.ref: replaced_by(action, include_uncertain=include_uncertain) for action in again}

    assert {ref: pods for ref, pods in left.items() if pods} == skipped
    assert not any(action.action is Action.RESTART for action in again)


@given(clusters(), st.booleans())
def test_restart_after_a_failed_admission_has_other_marks(cluster: Cluster, include_uncertain: bool) -> None:  # noqa: FBT001 - drawn
    workloads, pods = cluster
    actions = plan(REVISIONS, workloads, pods, include_uncertain=include_uncertain)
    after, _ = acted_on(workloads, pods, actions)
    for action in actions:
        if action.action is not Action.RESTART:
            continue
        marked = after[action.ref].restarted_for
        without = PodUsage(
            namespace=action.ref.namespace,
            name="new",
            workload=action.ref,
            missing=tuple(
                MissingToken(key=key, container="daprd", variable=names.API_TOKEN_ENV) for key in action.keys
            ),
            restarted_for=marked,
        )
        (again,) = plan(REVISIONS, after, [without])
        assert again.action is Action.RESTART
        for name, value in again.marks.items():
            assert value != marked[name]


@given(st.text() | st.from_regex(r"new-api \(?[0-9]{0,9}\)?", fullmatch=True))
def test_next_mark_is_a_different_mark(value: str) -> None:
    revision = SecretRevision(id="new-api", changed=100)
    mark = next_mark(value, revision)
    assert mark != value
    assert is_mark(mark, revision)
    assert len(mark) <= len("new-api ()") + 12


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[PlannedAction, Workload, list[PodUsage], dict[SecretKey, set[str]]]:
    """A workload that is restarted, any later state of it, and the containers that are expected to have each key."""
    ref = Ref(draw(st.sampled_from(["Deployment", "StatefulSet"])), "a", "w")
    keys = [key for key in KEYS if key.namespace == "a"]
    first = replace(draw(workloads_of(ref)), skip_reason=None, restarted_for={})
    outdated = PodUsage(
        namespace="a",
        name="w-9",
        workload=ref,
        usages=tuple(ContainerUsage(container="daprd", key=key, started=0) for key in keys),
        position=9 if ref.kind == "StatefulSet" else None,
    )
    (action,) = plan(REVISIONS, {ref: first}, [outdated])
    later = draw(workloads_of(ref))
    if draw(st.booleans()):
        later = replace(later, restarted_for=action.marks)
    pods = [pod for pod in draw(pods_of(ref)) if not pod.is_ending]
    pods = [replace(pod, restarted_for=later.restarted_for) if draw(st.booleans()) else pod for pod in pods]
    expected = {key: draw(st.sets(st.sampled_from(CONTAINERS))) for key in draw(st.sets(st.sampled_from(keys)))}
    return action, later, pods, expected


def lacks(pod: PodUsage, keys: Collection[SecretKey], expected: Mapping[SecretKey, Collection[str]]) -> bool:
    """Whether it misses a token, or one of the expected containers has no reference that its kubelet must resolve."""
    if any(one.key in keys for one in pod.missing):
        return True
    certain = {(usage.key, usage.container) for usage in pod.usages if not usage.is_optional}
    return any((key, container) not in certain for key in keys for container in expected.get(key, ()))


@given(rollouts())
def test_only_complete_rollouts_are_ready(
    rollout: tuple[PlannedAction, Workload, list[PodUsage], dict[SecretKey, set[str]]],
) -> None:
    action, workload, pods, expected = rollout
    revisions = {key: REVISIONS[key] for key in action.keys}
    progress = progress_of(action, workload, pods, revisions, expected)
    new = [pod for pod in pods if is_of_restart(pod, workload, action.keys, REVISIONS)]
    old = [pod for pod in pods if pod_state(pod, revisions) in OLD or without_token(action.keys, [pod])]
    reached = [pod for pod in old if not is_below_partition(pod, workload)]
    lacking = [pod for pod in new if lacks(pod, action.keys, expected)]

    assert {*progress.outdated, *progress.uncertain, *progress.missing} == {pod.name for pod in old}
    assert (progress.state is State.NOT_INJECTED) is bool(lacking)
    if progress.state is State.READY:
        assert workload.rollout_complete
        assert not reached
        assert progress.is_unfinished is bool(old)
    else:
        assert progress.is_unfinished


def restarting(actions: Sequence[PlannedAction], namespace: str) -> set[Ref]:
    """The workloads of a namespace that are being restarted, by any client."""
    return {one.ref for one in actions if one.action is Action.WAIT and one.ref.namespace == namespace}


@given(clusters(), st.integers(1, 4), st.integers(1, 4), st.sets(st.sampled_from("ab")))
def test_next_actions_keep_the_budget_and_always_progress(
    cluster: Cluster, limit: int, total: int, stopped: set[str]
) -> None:
    actions = plan(REVISIONS, *cluster)
    begun = next_actions(actions, RestartBudget(per_namespace=limit, total=total), stopped)
    assert {one.ref for one in begun} <= {one.ref for one in actions if one.action is Action.RESTART}
    waiting = sum(one.action is Action.WAIT for one in actions)
    assert len(begun) <= max(0, total - waiting)
    may_restart = [one for one in actions if one.action is Action.RESTART and one.ref.namespace not in stopped]
    assert begun or waiting or not may_restart
    for namespace in "ab":
        running = restarting(actions, namespace)
        started = {one.ref for one in begun if one.ref.namespace == namespace}
        left = {one.ref for one in actions if one.action is Action.RESTART and one.ref.namespace == namespace}
        is_proven = any(one.is_completed for one in actions if one.ref.namespace == namespace)
        assert len(started) <= (0 if namespace in stopped else max(0, (limit if is_proven else 1) - len(running)))
        has_room = len(begun) < total - waiting and namespace not in stopped
        assert started or running or not left or not has_room


def begun_on(cluster: Cluster, actions: Sequence[PlannedAction]) -> Cluster:
    """A cluster right after these templates were marked: no Pod is replaced yet."""
    workloads, pods = cluster
    after = dict(workloads)
    for one in actions:
        marked = {**workloads[one.ref].restarted_for, **one.marks}
        after[one.ref] = replace(workloads[one.ref], restarted_for=marked, rollout_complete=False)
    return after, pods


@st.composite
def unmarked_clusters(draw: st.DrawFn) -> Cluster:
    """Clusters whose Pods have no mark that only a later restart writes."""
    workloads, pods = draw(clusters())
    seldom = [
        replace(pod, restarted_for={name: mark for name, mark in pod.restarted_for.items() if "(2)" not in mark})
        for pod in pods
    ]
    return workloads, seldom


@given(unmarked_clusters(), st.integers(1, 3), st.integers(1, 4), st.data())
def test_run_killed_anywhere_and_resumed_restarts_each_workload_once(
    cluster: Cluster, limit: int, total: int, data: st.DataObject
) -> None:
    budget = RestartBudget(per_namespace=limit, total=total)
    skipped = {one.ref: set(one.skipped) for one in plan(REVISIONS, *cluster) if one.skipped}
    restarted: list[Ref] = []
    for _ in range(4 * len(cluster[0]) + 1):
        actions = plan(REVISIONS, *cluster)
        before = {namespace: len(restarting(actions, namespace)) for namespace in "ab"}
        # The process starts some of the restarts and is killed; only the cluster keeps its state.
        begun = next_actions(actions, budget)
        begun = begun[: data.draw(st.integers(0, len(begun)), label="carried out")]
        restarted += [one.ref for one in begun]
        cluster = begun_on(cluster, begun)
        actions = plan(REVISIONS, *cluster)
        for namespace in "ab":
            assert len(restarting(actions, namespace)) <= max(limit, before[namespace])
        # The cluster completes some of the rollouts.
        running = sorted(one.ref for one in actions if one.action is Action.WAIT)
        done = data.draw(st.sets(st.sampled_from(running)), label="completed") if running else set()
        cluster = acted_on(*cluster, [one for one in actions if one.ref in done])

    assert len(restarted) == len(set(restarted))
    for _ in cluster[0]:  # now nothing kills it any more, and each round completes at least one workload
        begun = next_actions(plan(REVISIONS, *cluster), budget)
        restarted += [one.ref for one in begun]
        cluster = begun_on(cluster, begun)
        waiting = [one for one in plan(REVISIONS, *cluster) if one.action is Action.WAIT]
        cluster = acted_on(*cluster, waiting)

    assert len(restarted) == len(set(restarted))
    left = {one.ref: replaced_by(one, include_uncertain=False) for one in plan(REVISIONS, *cluster)}
    assert {ref: pods for ref, pods in left.items() if pods} == skipped
