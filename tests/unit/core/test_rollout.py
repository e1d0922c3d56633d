from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from injector.core import names
from injector.core.rollout import (
    ADVICE,
    BROKEN_SEAL,
    CANCELLED,
    DELETED,
    UNCERTAIN,
    Action,
    PlannedAction,
    Progress,
    RestartBudget,
    SkipReason,
    State,
    Workload,
    initial_progress,
    is_new,
    next_actions,
    plan,
    progress_of,
)
from injector.core.token_state import (
    LAG,
    ContainerUsage,
    MissingToken,
    PodUsage,
    Ref,
    SecretRevision,
    annotation_for,
)
from tests.unit.core.usages import (
    CHANGED,
    DB,
    EXPECTED,
    KEY,
    LATE,
    MARK,
    MARK_NAME,
    MISSING,
    OTHER_KEY,
    OTHER_SECRET,
    REVISION,
    REVISIONS,
    SECOND_MARK,
    WEB,
    open_pod,
    pod,
    uncertain_pod,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def action_for(
    workload: Workload, *pods: PodUsage, revision: SecretRevision = REVISION, include_uncertain: bool = False
) -> PlannedAction:
    (action,) = plan({KEY: revision}, {workload.ref: workload}, pods, include_uncertain=include_uncertain)
    return action


# --- the plan ---


@pytest.mark.parametrize("reason", SkipReason)
def test_every_skip_reason_has_advice(reason: SkipReason) -> None:
    assert ADVICE[reason]


@pytest.mark.parametrize("reason", SkipReason)
def test_workload_with_a_skip_reason_is_skipped(reason: SkipReason) -> None:
    action = action_for(Workload(ref=WEB, skip_reason=reason), pod("a"), pod("b", started=LATE), open_pod("c"))
    assert (action.action, action.skip_reason, action.skipped) == (Action.SKIP, reason, ("a", "c"))
    assert action.marks == {}


def test_current_workload_needs_nothing() -> None:
    current = pod(started=LATE)
    assert action_for(Workload(ref=WEB), current).action is Action.NOTHING
    assert action_for(Workload(ref=WEB, skip_reason=SkipReason.PAUSED), current).action is Action.NOTHING


def test_outdated_pod_restarts_its_workload() -> None:
    assert action_for(Workload(ref=WEB), pod(), pod("b", started=LATE)) == PlannedAction(
        ref=WEB, action=Action.RESTART, keys=(KEY,), outdated=("web-1",), marks=MARK
    )


def test_pod_without_the_requested_token_restarts_its_workload() -> None:
    assert action_for(Workload(ref=WEB), open_pod(), pod("b", started=LATE)) == PlannedAction(
        ref=WEB, action=Action.RESTART, keys=(KEY,), missing=("web-1",), marks=MARK
    )


def test_uncertain_pod_is_reported_and_restarts_nothing() -> None:
    assert action_for(Workload(ref=WEB), uncertain_pod()) == PlannedAction(
        ref=WEB, action=Action.NOTHING, keys=(KEY,), uncertain=("web-1",)
    )


def test_uncertain_pod_is_restarted_on_request() -> None:
    action = action_for(Workload(ref=WEB), uncertain_pod(), include_uncertain=True)
    assert (action.action, action.uncertain, action.marks) == (Action.RESTART, ("web-1",), MARK)
    skipped = action_for(
        Workload(ref=WEB, skip_reason=SkipReason.ON_DELETE), uncertain_pod(), pod("b"), include_uncertain=True
    )
    assert skipped.skipped == ("b", "web-1")


def test_marks_name_each_secret_of_the_keys_once() -> None:
    usages = (usage(), usage(key=OTHER_KEY), usage(key=OTHER_SECRET))
    revisions = {key: SecretRevision(id=f"id-{key.name}", changed=CHANGED) for key in (KEY, OTHER_KEY, OTHER_SECRET)}
    (action,) = plan(revisions, {WEB: Workload(ref=WEB)}, [pod(usages=usages)])
    assert action.marks == {annotation_for("s"): "id-s", annotation_for("t"): "id-t"}


def test_marked_template_is_waited_for_and_not_restarted_again() -> None:
    for marks in (MARK, SECOND_MARK):
        assert action_for(Workload(ref=WEB, restarted_for=marks, rollout_complete=False), pod()).action is Action.WAIT
        assert action_for(Workload(ref=WEB, restarted_for=marks), pod()).action is Action.WAIT
    assert action_for(Workload(ref=WEB, restarted_for={MARK_NAME: "older"}), pod()).action is Action.RESTART


def test_restart_that_is_not_ready_yet_is_waited_for() -> None:
    new = pod(restarted_for=MARK)
    assert action_for(Workload(ref=WEB, restarted_for=MARK, rollout_complete=False), new).action is Action.WAIT
    assert action_for(Workload(ref=WEB, rollout_complete=False), pod(started=LATE)).action is Action.NOTHING
    paused = Workload(ref=WEB, restarted_for=MARK, rollout_complete=False, skip_reason=SkipReason.PAUSED)
    assert action_for(paused, new).action is Action.NOTHING


def test_failed_admission_is_followed_by_a_restart_with_another_mark() -> None:
    workload = Workload(ref=WEB, restarted_for=MARK)
    action = action_for(workload, open_pod(restarted_for=MARK))
    assert (action.action, action.marks) == (Action.RESTART, SECOND_MARK)
    again = action_for(Workload(ref=WEB, restarted_for=SECOND_MARK), open_pod(restarted_for=SECOND_MARK))
    assert (again.action, again.marks) == (Action.RESTART, {MARK_NAME: "bcdfghjklm (3)"})


def test_mark_differs_from_that_of_an_open_pod_whose_template_lost_it() -> None:
    action = action_for(Workload(ref=WEB), open_pod(restarted_for=MARK))
    assert (action.action, action.marks) == (Action.RESTART, SECOND_MARK)
    action = action_for(
        Workload(ref=WEB, restarted_for=MARK), open_pod(restarted_for=MARK), open_pod("b", restarted_for=SECOND_MARK)
    )
    assert action.marks == {MARK_NAME: "bcdfghjklm (3)"}


def test_open_pod_of_the_previous_template_is_waited_for() -> None:
    assert action_for(Workload(ref=WEB, restarted_for=MARK), open_pod()).action is Action.WAIT
    assert action_for(Workload(ref=WEB, restarted_for=SECOND_MARK), open_pod(restarted_for=MARK)).action is Action.WAIT


def test_pods_below_the_partition_are_skipped_others_restarted() -> None:
    pods = [pod("db-0", position=0), open_pod("db-1", position=1), pod("db-2", position=2)]
    action = action_for(Workload(ref=WEB, partition=2), *pods)
    assert (action.action, action.skip_reason, action.skipped) == (
        Action.RESTART,
        SkipReason.PARTITION,
        ("db-0", "db-1"),
    )

    # A failed admission below the partition is not repaired by another restart.
    marked = Workload(ref=WEB, partition=1, restarted_for=MARK, rollout_complete=False)
    waits = action_for(marked, open_pod("db-0", position=0, restarted_for=MARK), pods[2])
    assert (waits.action, waits.skipped) == (Action.WAIT, ("db-0",))

    low = action_for(Workload(ref=WEB, partition=3), *pods)
    assert (low.action, low.skipped) == (Action.SKIP, ("db-0", "db-1", "db-2"))
    assert low.marks == {}


def test_restart_by_another_tool_is_waited_for() -> None:
    action = action_for(Workload(ref=WEB, restarted_by="Reloader"), pod())
    assert (action.action, action.note, action.marks) == (Action.WAIT, "Reloader restarts it", {})


@pytest.mark.parametrize(
    ("created", "template", "action"),
    [
        (CHANGED - 1, {}, Action.WAIT),  # of the template before, so that the tool is still to restart it
        (None, {}, Action.WAIT),
        (CHANGED, {}, Action.RESTART),
        (CHANGED + LAG + 1, {}, Action.RESTART),
        (CHANGED + LAG + 1, MARK, Action.WAIT),  # our restart after that of the tool
    ],
)
def test_failed_restart_by_another_tool_is_repeated_by_us(
    created: int | None, template: dict[str, str], action: Action
) -> None:
    workload = Workload(ref=WEB, restarted_by="Reloader", restarted_for=template)
    found = action_for(workload, open_pod(created=created), pod("old"))
    assert found.action is action
    assert found.note == ("Reloader restarts it" if action is Action.WAIT and not template else "")
    assert found.marks == ({MARK_NAME: "bcdfghjklm"} if action is Action.RESTART else {})


def test_key_of_the_default_secret_is_planned_with_the_restart() -> None:
    cases = {(KEY,): KEY, (KEY, OTHER_SECRET): KEY, (OTHER_SECRET,): OTHER_SECRET, (): None}
    found = {one: action_for(Workload(ref=WEB), pod(defaults=frozenset(one)), pod("b")).default_key for one in cases}
    assert found == cases
    for is_default in (True, False):
        without = open_pod(missing=(replace(MISSING, is_default=is_default),))
        assert action_for(Workload(ref=WEB), without).default_key == (KEY if is_default else None)


def test_recreate_strategy_is_reported() -> None:
    assert "Recreate" in action_for(Workload(ref=WEB, recreates=True), pod()).note


def test_ending_pods_need_no_restart() -> None:
    assert plan(REVISIONS, {}, [pod(is_ending=True), open_pod("b", is_ending=True)]) == ()


def test_pod_without_one_of_the_keys_is_omitted() -> None:
    assert plan({OTHER_SECRET: REVISION, OTHER_KEY: REVISION}, {}, [pod(), open_pod("b")]) == ()


@pytest.mark.parametrize(
    ("workload", "found", "new"),
    [
        (Workload(ref=WEB, restarted_for=MARK), pod(restarted_for=MARK), True),
        (Workload(ref=WEB, restarted_for=MARK), pod(), False),
        (Workload(ref=WEB, restarted_for=MARK), pod(created=CHANGED + LAG + 1), False),
        (Workload(ref=WEB, restarted_for=SECOND_MARK), pod(restarted_for=MARK), False),
        (Workload(ref=WEB, restarted_for=SECOND_MARK), pod(restarted_for=SECOND_MARK), True),
        (Workload(ref=WEB), pod(created=CHANGED + LAG + 1), True),
        (Workload(ref=WEB), pod(created=CHANGED + LAG), False),
        (Workload(ref=WEB), pod(created=None), False),
    ],
)
def test_new_pod_has_the_mark_or_a_later_creation(workload: Workload, found: PodUsage, *, new: bool) -> None:
    assert is_new(found, workload, [KEY], REVISIONS) is new


def test_pod_without_known_times_is_not_new() -> None:
    revisions = {KEY: SecretRevision(id="x", changed=None)}
    assert not is_new(pod(created=10**9), Workload(ref=WEB), [KEY], revisions)


BUDGET = RestartBudget(per_namespace=2, total=100)
DEPLOYMENTS = {namespace: [Ref("Deployment", namespace, name) for name in "1234"] for namespace in "ab"}


def next_names(actions: Sequence[PlannedAction], budget: RestartBudget = BUDGET) -> list[str]:
    return [f"{action.ref.namespace}{action.ref.name}" for action in next_actions(actions, budget)]


def of_each(*actions: PlannedAction, namespace: str = "a") -> list[PlannedAction]:
    """One workload of a namespace for each action."""
    return [replace(action, ref=ref) for ref, action in zip(DEPLOYMENTS[namespace], actions, strict=False)]


TO_RESTART = PlannedAction(ref=WEB, action=Action.RESTART)
WAITING = PlannedAction(ref=WEB, action=Action.WAIT)
COMPLETED = PlannedAction(ref=WEB, action=Action.NOTHING, is_completed=True)
UNTOUCHED = PlannedAction(ref=WEB, action=Action.NOTHING)
SKIPPED = PlannedAction(ref=WEB, action=Action.SKIP)


@pytest.mark.parametrize(
    ("actions", "started"),
    [
        ([], []),
        ([UNTOUCHED, SKIPPED, COMPLETED, WAITING], []),
        ([TO_RESTART, TO_RESTART, TO_RESTART], ["a1"]),
        ([WAITING, TO_RESTART, TO_RESTART], []),
        ([COMPLETED, TO_RESTART, TO_RESTART, TO_RESTART], ["a2", "a3"]),
        ([TO_RESTART, TO_RESTART, TO_RESTART, COMPLETED], ["a1", "a2"]),
        ([UNTOUCHED, TO_RESTART, TO_RESTART, TO_RESTART], ["a2"]),
        ([replace(SKIPPED, is_completed=True), TO_RESTART, TO_RESTART], ["a2", "a3"]),
        ([COMPLETED, WAITING, TO_RESTART, TO_RESTART], ["a3"]),
        ([COMPLETED, WAITING, WAITING, TO_RESTART], []),
        ([WAITING, WAITING, WAITING, TO_RESTART], []),
    ],
)
def test_next_actions_start_one_workload_alone_and_then_fill_the_budget(
    actions: list[PlannedAction], started: list[str]
) -> None:
    assert next_names(of_each(*actions)) == started


def test_next_actions_keep_a_budget_for_each_namespace() -> None:
    first = of_each(COMPLETED, TO_RESTART, TO_RESTART, TO_RESTART)
    other = of_each(TO_RESTART, TO_RESTART, namespace="b")
    assert next_names([*other, *first]) == ["a2", "a3", "b1"]
    assert next_names([*other, *first], RestartBudget(per_namespace=1, total=9)) == ["a2", "b1"]


@pytest.mark.parametrize(
    ("total", "started"), [(1, ["a2"]), (2, ["a2", "a3"]), (3, ["a2", "a3", "b1"]), (4, ["a2", "a3", "b1"])]
)
def test_next_actions_keep_the_budget_of_the_whole_run(total: int, started: list[str]) -> None:
    actions = [
        *of_each(COMPLETED, TO_RESTART, TO_RESTART, TO_RESTART),
        *of_each(TO_RESTART, TO_RESTART, namespace="b"),
    ]
    assert next_names(actions, RestartBudget(per_namespace=2, total=total)) == started


def test_workloads_that_wait_elsewhere_use_the_budget_of_the_whole_run() -> None:
    actions = [*of_each(WAITING, WAITING), *of_each(TO_RESTART, TO_RESTART, namespace="b")]
    for total, started in ((1, []), (2, []), (3, ["b1"])):
        assert next_names(actions, RestartBudget(per_namespace=2, total=total)) == started


def test_next_actions_restart_nothing_in_a_stopped_namespace() -> None:
    actions = [*of_each(COMPLETED, WAITING, TO_RESTART), *of_each(TO_RESTART, TO_RESTART, namespace="b")]
    for total, started in ((1, []), (2, ["b1"])):
        begun = next_actions(actions, RestartBudget(per_namespace=2, total=total), {"a"})
        assert [f"{one.ref.namespace}{one.ref.name}" for one in begun] == started


ABOVE = Workload(ref=DB, partition=1, restarted_for=MARK)


def db(position: int, **more: object) -> PodUsage:
    return pod(f"db-{position}", **{"workload": DB, "position": position, **more})  # type: ignore[arg-type] # as above


@pytest.mark.parametrize(
    ("workload", "found", "completed"),
    [
        (Workload(ref=WEB, restarted_for=MARK), [pod(restarted_for=MARK)], True),
        (Workload(ref=WEB), [pod(created=CHANGED + LAG + 1)], True),
        (Workload(ref=WEB, restarted_for=MARK, skip_reason=SkipReason.PAUSED), [pod(restarted_for=MARK)], True),
        (Workload(ref=WEB, restarted_for=MARK, rollout_complete=False), [pod(restarted_for=MARK)], False),
        (Workload(ref=WEB), [pod(usages=(usage(None),))], False),
        (Workload(ref=WEB), [pod()], False),
        (Workload(ref=WEB, restarted_for=MARK), [pod(restarted_for=MARK), pod("web-2")], False),
        (ABOVE, [db(0), db(1, restarted_for=MARK)], True),
        (ABOVE, [db(0)], False),
    ],
    ids=[
        "marked",
        "created-after-the-change",
        "paused",
        "not-complete",
        "not-started",
        "outdated",
        "one-outdated",
        "above-the-partition",
        "below-the-partition",
    ],
)
def test_workload_is_completed_when_its_new_pods_run_the_current_value(
    workload: Workload, found: list[PodUsage], *, completed: bool
) -> None:
    (action,) = plan(REVISIONS, {workload.ref: workload}, found)
    assert action.is_completed is completed


# --- Argo Rollouts, which are restarted by time ---

ROLLOUT = Ref("Rollout", "shop", "web")
AFTER = CHANGED + LAG + 1


def rollout(restart_at: int | None = None, **more: object) -> Workload:
    fields: dict[str, object] = {"restarts_by_time": True, "restart_at": restart_at, **more}
    return Workload(ref=ROLLOUT, **fields)  # type: ignore[arg-type] # fields by name


def rollout_pod(created: int | None, name: str = "web-1", **more: object) -> PodUsage:
    return pod(name, **{"workload": ROLLOUT, "created": created, **more})  # type: ignore[arg-type] # as above


OLD = rollout_pod(0)
NEW = rollout_pod(AFTER, "web-2", started=AFTER)
BARE = rollout_pod(AFTER + 60, "web-2", usages=(), missing=(MISSING,))


@pytest.mark.parametrize(
    ("workload", "pods", "action", "restart_at", "completed"),
    [
        (rollout(), [OLD], Action.RESTART, AFTER, False),
        (rollout(CHANGED + LAG), [OLD], Action.RESTART, AFTER, False),
        (rollout(CHANGED + LAG, rollout_complete=False), [OLD], Action.RESTART, AFTER, False),
        (rollout(AFTER, rollout_complete=False), [OLD], Action.WAIT, None, False),
        (rollout(AFTER, rollout_complete=False), [NEW], Action.WAIT, None, False),
        (rollout(AFTER), [NEW], Action.NOTHING, None, True),
        (rollout(), [NEW], Action.NOTHING, None, True),
        (rollout(AFTER + 1), [NEW], Action.NOTHING, None, False),
        # Cancelled by a change of the template: another time, so that Argo restarts it again.
        (rollout(AFTER), [OLD, NEW], Action.RESTART, AFTER + 1, False),
        (rollout(AFTER + 1), [OLD, NEW], Action.RESTART, AFTER, False),
        (rollout(10**9), [OLD, NEW], Action.RESTART, AFTER, False),
        # Admission failed: only Pods created after the failed one can have the token.
        (rollout(AFTER, rollout_complete=False), [BARE], Action.RESTART, AFTER + 61, False),
        (rollout(), [rollout_pod(None, usages=(), missing=(MISSING,))], Action.RESTART, AFTER, False),
    ],
)
def test_rollout_is_restarted_at_a_time_after_every_change(
    workload: Workload, pods: list[PodUsage], action: Action, restart_at: int | None, *, completed: bool
) -> None:
    planned = action_for(workload, *pods)
    assert (planned.action, planned.restart_at, planned.is_completed) == (action, restart_at, completed)
    assert planned.marks == {}


def test_rollout_is_skipped_when_the_change_is_unknown() -> None:
    unknown = SecretRevision(id="x", changed=None)
    planned = action_for(rollout(), rollout_pod(0, usages=(), missing=(MISSING,)), revision=unknown)
    assert (planned.action, planned.skip_reason) == (Action.SKIP, SkipReason.UNKNOWN_CHANGE)
    assert planned.skipped == ("web-1",)
    last = SecretRevision(id="x", changed=253_402_300_799)
    assert action_for(rollout(), OLD, revision=last).skip_reason is SkipReason.UNKNOWN_CHANGE


def test_rollout_of_one_pod_is_reported() -> None:
    assert "no Pod runs during the restart" in action_for(rollout(recreates=True), OLD).note


RESTARTED = PlannedAction(ref=ROLLOUT, action=Action.RESTART, keys=(KEY,), restart_at=AFTER)


@pytest.mark.parametrize(
    ("workload", "pods", "state", "message"),
    [
        (rollout(AFTER, rollout_complete=False), [OLD, NEW], State.RESTARTING, ""),
        (rollout(AFTER, rollout_complete=False), [NEW], State.RESTARTING, ""),
        (rollout(AFTER), [NEW], State.READY, ""),
        (rollout(AFTER + 9), [rollout_pod(AFTER + 9)], State.READY, ""),
        (rollout(AFTER), [OLD, NEW], State.RESTARTING, CANCELLED),
        (rollout(), [OLD], State.FAILED, "another manager changed our spec.restartAt"),
        (rollout(0), [OLD], State.FAILED, "another manager changed our spec.restartAt"),
        (
            rollout(AFTER),
            [BARE],
            State.NOT_INJECTED,
            "new Pod web-2 has no token in daprd: the webhook did not inject it",
        ),
        # Without any mark and request: the Policy's default Secret gave the token.
        (
            rollout(AFTER),
            [rollout_pod(AFTER, "web-2", usages=())],
            State.NOT_INJECTED,
            "new Pod web-2 has no token in daprd: the webhook did not inject it",
        ),
        (rollout(AFTER, failure="why"), [OLD], State.FAILED, "why"),
    ],
)
def test_progress_of_a_rollout(workload: Workload, pods: list[PodUsage], state: State, message: str) -> None:
    progress = progress_of(RESTARTED, workload, pods, REVISIONS, EXPECTED)
    assert (progress.state, progress.message) == (state, message)


# --- progress ---


@pytest.mark.parametrize(
    ("action", "uncertain", "state", "state_without_restart", "message"),
    [
        (Action.RESTART, (), State.PLANNED, State.NOT_RESTARTED, "note"),
        (Action.WAIT, (), State.PLANNED, State.NOT_RESTARTED, "note"),
        (Action.SKIP, (), State.SKIPPED, State.SKIPPED, f"job: {ADVICE[SkipReason.JOB]}"),
        (Action.NOTHING, (), State.UP_TO_DATE, State.UP_TO_DATE, "note"),
        (Action.NOTHING, ("a",), State.UNCERTAIN, State.UNCERTAIN, UNCERTAIN),
    ],
)
def test_progress_of_a_plan_follows_from_its_action(
    action: Action, uncertain: tuple[str, ...], state: State, state_without_restart: State, message: str
) -> None:
    reason = SkipReason.JOB if action is Action.SKIP else None
    planned = PlannedAction(
        ref=WEB,
        action=action,
        outdated=("o",),
        uncertain=uncertain,
        missing=("m",),
        skip_reason=reason,
        note="note",
    )
    assert initial_progress([planned]) == {
        WEB: Progress(
            ref=WEB,
            state=state,
            message=message,
            skip_reason=reason,
            outdated=("o",),
            uncertain=uncertain,
            missing=("m",),
        )
    }
    assert initial_progress([planned], restart=False)[WEB].state is state_without_restart


@pytest.mark.parametrize(
    ("progress", "unfinished"),
    [
        (Progress(ref=WEB, state=State.READY), False),
        (Progress(ref=WEB, state=State.READY, outdated=("db-0",)), True),
        (Progress(ref=WEB, state=State.READY, uncertain=("db-0",)), True),
        (Progress(ref=WEB, state=State.READY, missing=("db-0",)), True),
        (Progress(ref=WEB, state=State.UP_TO_DATE), False),
        (Progress(ref=WEB, state=State.STARTED, outdated=("a",)), False),
        (Progress(ref=WEB, state=State.PLANNED, outdated=("a",)), True),
        (Progress(ref=WEB, state=State.RESTARTING), True),
        (Progress(ref=WEB, state=State.SKIPPED), True),
        (Progress(ref=WEB, state=State.UNCERTAIN), True),
        (Progress(ref=WEB, state=State.FAILED), True),
        (Progress(ref=WEB, state=State.NOT_INJECTED), True),
        (Progress(ref=WEB, state=State.UNKNOWN), True),
        (Progress(ref=WEB, state=State.NOT_STARTED), True),
        (Progress(ref=WEB, state=State.NOT_RESTARTED), True),
    ],
)
def test_progress_is_unfinished_unless_all_pods_are_current(progress: Progress, *, unfinished: bool) -> None:
    assert progress.is_unfinished is unfinished


RESTART = PlannedAction(ref=WEB, action=Action.RESTART, keys=(KEY,), marks=MARK, note="note")
MARKED = Workload(ref=WEB, restarted_for=MARK)
NEW = pod("new", restarted_for=MARK)


def progress(
    workload: Workload | None, *pods: PodUsage, action: PlannedAction = RESTART, expected: object = EXPECTED
) -> Progress:
    return progress_of(action, workload, pods, REVISIONS, expected)  # type: ignore[arg-type] # a mapping


def test_ready_needs_expected_references_and_no_outdated_pod() -> None:
    assert progress(MARKED, NEW) == Progress(ref=WEB, state=State.READY)
    assert progress(MARKED) == Progress(ref=WEB, state=State.READY)
    assert progress(MARKED, pod("new", usages=(usage(None),), restarted_for=MARK)).state is State.READY


@pytest.mark.parametrize("old", [pod("old"), uncertain_pod("old"), open_pod("old")])
def test_not_ready_while_an_old_pod_is_left(old: PodUsage) -> None:
    found = progress(MARKED, NEW, old)
    assert (found.state, found.message) == (State.RESTARTING, "note")
    assert (*found.outdated, *found.uncertain, *found.missing) == ("old",)


def test_not_ready_while_the_rollout_is_not_complete() -> None:
    moving = Workload(ref=WEB, restarted_for=MARK, rollout_complete=False, trouble="quota")
    assert progress(moving, NEW) == Progress(ref=WEB, state=State.RESTARTING, message="quota")


def test_new_pod_whose_seal_was_changed_says_so() -> None:
    found = progress(
        MARKED, pod("new", usages=(), restarted_for=MARK, missing=(replace(MISSING, is_broken_seal=True),))
    )
    assert found.state is State.NOT_INJECTED
    assert found.message == f"new Pod new has no token in daprd: {BROKEN_SEAL}"


@pytest.mark.parametrize(
    "usages",
    [
        (),
        (usage(container="web"),),
        (usage(is_optional=True),),
        (usage(key=OTHER_KEY),),
    ],
    ids=["no-reference", "another-container", "optional", "another-key"],
)
def test_new_pod_that_lacks_an_expected_reference_is_not_injected(usages: tuple[ContainerUsage, ...]) -> None:
    found = progress(MARKED, pod("new", usages=usages, restarted_for=MARK))
    assert found.state is State.NOT_INJECTED
    assert found.message == "new Pod new has no token in daprd: the webhook did not inject it"


def test_new_pod_without_the_requested_token_is_not_injected() -> None:
    usages = (usage(),)  # the same key under another variable
    new = pod("new", usages=usages, missing=(MISSING,), restarted_for=MARK)
    for expected in (EXPECTED, {}):
        found = progress(MARKED, new, expected=expected)
        assert (found.state, found.missing) == (State.NOT_INJECTED, ("new",))
        assert "no token in daprd" in found.message
    elsewhere = MissingToken(key=OTHER_SECRET, container="daprd", variable=names.APP_TOKEN_ENV)
    assert progress(MARKED, pod("new", missing=(elsewhere,), restarted_for=MARK)).state is State.READY


def test_not_injected_names_every_lacking_container() -> None:
    found = progress(MARKED, pod("new", restarted_for=MARK), expected={KEY: ("web", "daprd", "api")})
    assert "no token in api, web:" in found.message


def test_old_pod_is_not_checked_for_expected_references() -> None:
    old = pod("old", usages=(usage(container="web"),), created=CHANGED - 1)
    assert progress(MARKED, NEW, old).state is State.RESTARTING


def test_pod_without_expected_references_lacks_nothing() -> None:
    assert progress(MARKED, pod("new", usages=(), restarted_for=MARK), expected={}).state is State.READY


def test_new_pod_of_a_restart_by_another_tool_is_checked() -> None:
    waits = PlannedAction(ref=WEB, action=Action.WAIT, keys=(KEY,))
    reloaded = Workload(ref=WEB, restarted_by="Reloader")
    created = CHANGED + LAG + 1
    assert progress(reloaded, pod("new", created=created), action=waits).state is State.READY
    assert progress(reloaded, open_pod("new", created=created), action=waits).state is State.NOT_INJECTED


def test_pod_created_in_the_second_of_the_change_is_of_a_foreign_restart() -> None:
    waits = PlannedAction(ref=WEB, action=Action.WAIT, keys=(KEY,))
    reloaded = Workload(ref=WEB, restarted_by="Reloader")

    def state(created: int | None, workload: Workload = reloaded) -> State:
        return progress(workload, pod("new", usages=(), created=created), action=waits).state

    assert [state(CHANGED), state(CHANGED + LAG)] == [State.NOT_INJECTED] * 2
    ours = Workload(ref=WEB, restarted_by="Reloader", restarted_for=MARK)  # our restart replaces that Pod
    others = {state(CHANGED - 1), state(None), state(CHANGED, Workload(ref=WEB)), state(CHANGED, ours)}
    assert State.NOT_INJECTED not in others


@pytest.mark.parametrize(
    ("workload", "created", "state"),
    [
        (Workload(ref=WEB, restarted_by="Reloader"), CHANGED, State.UNCERTAIN),
        (Workload(ref=WEB, restarted_by="Reloader"), CHANGED - 1, State.RESTARTING),  # it is still to be restarted
        (Workload(ref=WEB, restarted_by="Reloader", rollout_complete=False), CHANGED, State.RESTARTING),
        (Workload(ref=WEB, restarted_by="Reloader", restarted_for=MARK), CHANGED, State.RESTARTING),
        (Workload(ref=WEB), CHANGED, State.RESTARTING),
    ],
)
def test_restart_by_another_tool_within_the_tolerances_is_uncertain(
    workload: Workload, created: int, state: State
) -> None:
    waits = PlannedAction(ref=WEB, action=Action.WAIT, keys=(KEY,))
    found = progress(workload, uncertain_pod("new", created=created), action=waits)
    assert (found.state, found.uncertain) == (state, ("new",))
    action = action_for(workload, uncertain_pod(created=created), include_uncertain=True)
    is_repeated = state is State.UNCERTAIN or not workload.restarted_by
    assert (action.action is Action.RESTART) is is_repeated


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"lacks_request": True}, State.NOT_INJECTED),
        ({"optional_keys": frozenset({KEY})}, State.NOT_INJECTED),
        ({"optional_keys": frozenset({OTHER_SECRET})}, State.READY),
        ({"missing": (replace(MISSING, key=OTHER_SECRET, is_default=True),)}, State.NOT_INJECTED),
        ({"missing": (replace(MISSING, key=OTHER_SECRET),)}, State.READY),
    ],
)
def test_new_pod_must_have_every_token_of_its_sidecar(more: dict[str, object], state: State) -> None:
    new = pod("new", **{"restarted_for": MARK, **more})  # type: ignore[arg-type] # fields by name
    found = progress(MARKED, new)
    assert found.state is state
    assert ("no token in daprd" in found.message) is (state is State.NOT_INJECTED)


def test_ready_above_the_partition_reports_the_pods_below() -> None:
    action = PlannedAction(
        ref=DB, action=Action.RESTART, keys=(KEY,), marks=MARK, skip_reason=SkipReason.PARTITION, skipped=("db-0",)
    )
    workload = Workload(ref=DB, partition=1, restarted_for=MARK)
    new = pod("db-1", position=1, restarted_for=MARK)
    found = progress(workload, pod("db-0", position=0), new, action=action)
    assert (found.state, found.outdated) == (State.READY, ("db-0",))
    assert found.message == f"partition: {ADVICE[SkipReason.PARTITION]}"
    assert found.is_unfinished


def test_deleted_workload_is_ready() -> None:
    assert progress(None, pod()) == Progress(ref=WEB, state=State.READY, message=DELETED)


def test_workload_that_became_unsafe_to_restart_has_failed() -> None:
    paused = Workload(ref=WEB, restarted_for=MARK, rollout_complete=False, skip_reason=SkipReason.PAUSED)
    found = progress(paused, pod())
    assert found.state is State.FAILED
    assert found.message == f"changed during the rollout: paused: {ADVICE[SkipReason.PAUSED]}"


def test_removed_mark_after_the_rollout_has_failed() -> None:
    assert "removed our annotation" in progress(Workload(ref=WEB), pod()).message
    assert progress(Workload(ref=WEB), pod()).state is State.FAILED
    moving = Workload(ref=WEB, rollout_complete=False)
    assert progress(moving, pod()).state is State.RESTARTING
    waits = PlannedAction(ref=WEB, action=Action.WAIT, keys=(KEY,))
    assert progress(Workload(ref=WEB), pod(), action=waits).state is State.RESTARTING


def test_rollout_past_its_progress_deadline_has_failed() -> None:
    stuck = Workload(ref=WEB, restarted_for=MARK, rollout_complete=False, failure="deadline")
    assert progress(stuck, pod()) == Progress(ref=WEB, state=State.FAILED, message="deadline", outdated=("web-1",))


MOVING = Workload(ref=WEB, restarted_for=MARK, rollout_complete=False)
RELOADED = Workload(ref=WEB, restarted_for=MARK, restarted_by="Reloader")


@pytest.mark.parametrize(
    ("workload", "state", "message"),
    [
        (MOVING, State.FAILED, "not ready within 1.5 s"),
        (replace(MOVING, trouble="no room"), State.FAILED, "not ready within 1.5 s: no room"),
        (RELOADED, State.FAILED, "Reloader should restart it and has not within 1.5 s; see the log of Reloader"),
        (replace(RELOADED, rollout_complete=False), State.FAILED, "not ready within 1.5 s"),
        (replace(MOVING, failure="deadline"), State.FAILED, "deadline"),
        (None, State.READY, DELETED),
    ],
)
def test_restart_that_is_not_ready_in_time_has_failed(workload: Workload | None, state: State, message: str) -> None:
    late = progress_of(replace(RESTART, note=""), workload, [pod()], REVISIONS, EXPECTED, late_after=1.5)
    assert (late.state, late.message) == (state, message)
