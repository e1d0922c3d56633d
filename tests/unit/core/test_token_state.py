from __future__ import annotations

import pytest

from injector.core import names
from injector.core.ownership import DataWriter, TokenSecret
from injector.core.rollout import (
    Action,
    PlannedAction,
)
from injector.core.token_state import (
    LAG,
    SKEW,
    STARTS_WITHIN,
    PodUsage,
    SecretRevision,
    TokenState,
    annotation_for,
    in_state,
    is_mark,
    next_mark,
    pod_state,
    revision_of,
    state_of,
    without_token,
)
from tests.unit.core.usages import (
    CHANGED,
    DATA_KEYS,
    FIRST,
    KEY,
    LATE,
    MARK,
    MARK_NAME,
    MISSING,
    OTHER_KEY,
    REVISION,
    REVISIONS,
    SECOND_MARK,
    SECRET,
    WEB,
    open_pod,
    pod,
    starting,
    usage,
    waited,
)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (pod(started=CHANGED - 1), TokenState.OUTDATED),
        (pod(started=CHANGED), TokenState.UNCERTAIN),
        (pod(started=CHANGED + SKEW), TokenState.UNCERTAIN),
        (pod(started=LATE), TokenState.CURRENT),
        (pod(started=LATE, created=CHANGED - 1), TokenState.CURRENT),
        (pod(started=CHANGED + LAG, created=CHANGED + LAG), TokenState.UNCERTAIN),
        (pod(started=CHANGED - 1, created=CHANGED + LAG), TokenState.OUTDATED),
        (pod(started=0, created=CHANGED + LAG + 1), TokenState.CURRENT),
        (pod(started=None), TokenState.NOT_STARTED),
        (pod(started=None, restarted_for=MARK), TokenState.NOT_STARTED),
        (starting(created=CHANGED - 1), TokenState.UNCERTAIN),
        (starting(created=CHANGED + LAG), TokenState.UNCERTAIN),
        (starting(created=CHANGED + LAG + 1), TokenState.CURRENT),
        (starting(created=CHANGED - STARTS_WITHIN), TokenState.UNCERTAIN),
        (starting(created=CHANGED - STARTS_WITHIN - 1), TokenState.NOT_STARTED),
        (starting(created=None), TokenState.UNCERTAIN),
        (starting(created=CHANGED - 1, restarted_for=MARK), TokenState.CURRENT),
        (pod(started=0, restarted_for=MARK), TokenState.CURRENT),
        (pod(started=0, restarted_for=SECOND_MARK), TokenState.CURRENT),
        (pod(started=0, restarted_for={MARK_NAME: "other"}), TokenState.OUTDATED),
        (pod(started=0, restarted_for={annotation_for("t"): "bcdfghjklm"}), TokenState.OUTDATED),
    ],
)
def test_state_follows_from_mark_creation_or_start(found: PodUsage, state: TokenState) -> None:
    assert state_of(found.usages[0], found, REVISION) is state
    assert pod_state(found, REVISIONS) is state


def test_state_without_a_change_time_is_uncertain() -> None:
    undated = SecretRevision(id="x", changed=None)
    assert state_of(usage(10**9), pod(), undated) is TokenState.UNCERTAIN
    assert state_of(usage(0), pod(restarted_for={MARK_NAME: "x"}), undated) is TokenState.CURRENT


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (waited(started=CHANGED + 1, clock_lead=0), TokenState.CURRENT),
        (waited(started=CHANGED, clock_lead=0), TokenState.UNCERTAIN),
        (waited(started=CHANGED + 61, clock_lead=60), TokenState.CURRENT),
        (waited(started=CHANGED + 60, clock_lead=60), TokenState.UNCERTAIN),
        (waited(started=CHANGED + 1, clock_lead=None), TokenState.UNCERTAIN),
        (waited(started=CHANGED + 1, clock_lead=0, is_optional=True), TokenState.UNCERTAIN),
    ],
)
def test_container_that_waited_for_the_first_value_is_current(found: PodUsage, state: TokenState) -> None:
    assert pod_state(found, {KEY: FIRST}) is state


@pytest.mark.parametrize(
    "revision",
    [
        SecretRevision(id="x", changed=CHANGED),
        SecretRevision(id="x", changed=CHANGED, created=CHANGED - 1),
        SecretRevision(id="x", changed=None, created=None),
    ],
)
def test_waiting_does_not_make_a_later_value_current(revision: SecretRevision) -> None:
    assert not revision.is_first
    assert pod_state(waited(started=CHANGED + 1, clock_lead=0), {KEY: revision}) is TokenState.UNCERTAIN


@pytest.mark.parametrize(
    ("real_start", "state"), [(CHANGED - 61, TokenState.OUTDATED), (CHANGED - 30, TokenState.UNCERTAIN)]
)
def test_container_older_than_a_recreated_secret_is_not_current(real_start: int, state: TokenState) -> None:
    # The Secret of the same name that it read was deleted. Its node's clock is 60 s ahead, and was measured with 60 s.
    assert pod_state(waited(started=real_start + 60, clock_lead=60), {KEY: FIRST}) is state


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (pod(usages=(usage(CHANGED + 60, ran_before=True),)), TokenState.OUTDATED),
        (pod(usages=(usage(LATE, ran_before=True),)), TokenState.OUTDATED),
        (pod(usages=(usage(LATE, ran_before=True),), restarted_for=MARK), TokenState.CURRENT),
    ],
)
def test_container_seen_running_before_the_change_is_outdated(found: PodUsage, state: TokenState) -> None:
    # The clock of its node is ahead.
    assert pod_state(found, REVISIONS) is state


def test_oldest_container_decides_the_state_of_its_pod() -> None:
    usages = (usage(LATE, container="web"), usage(CHANGED + 1, container="worker"), usage(1))
    assert pod_state(pod(usages=usages), REVISIONS) is TokenState.OUTDATED
    assert pod_state(pod(usages=usages[:2]), REVISIONS) is TokenState.UNCERTAIN
    assert pod_state(pod(usages=(usage(LATE), usage(None))), REVISIONS) is TokenState.NOT_STARTED


def test_state_of_a_pod_depends_on_the_given_keys_only() -> None:
    assert pod_state(pod(usages=(usage(0, key=OTHER_KEY),)), REVISIONS) is TokenState.CURRENT


def test_restart_may_be_in_progress_already() -> None:
    found = {one for one in Action if PlannedAction(ref=WEB, action=one).is_restart}
    assert found == {Action.RESTART, Action.WAIT}


def test_pod_reads_or_requests_its_keys() -> None:
    found = pod(usages=(usage(key=OTHER_KEY),), missing=(MISSING,))
    assert found.keys == {KEY, OTHER_KEY}


def test_ending_pod_is_found_in_its_state() -> None:
    ending = pod(is_ending=True)
    assert in_state(TokenState.OUTDATED, REVISIONS, [ending, pod("b", started=LATE)]) == (ending,)
    without = open_pod(is_ending=True)
    assert without_token({KEY}, [ending, without]) == (without,)
    assert without_token({OTHER_KEY}, [without]) == ()


# --- revisions and marks ---


@pytest.mark.parametrize("name", ["s", "a.b-c", "x" * 253, "x" * 62 + "-y", "x" * 62 + ".y"])
def test_annotation_for_a_secret_is_a_valid_key(name: str) -> None:
    prefix, _, part = annotation_for(name).partition("/")
    assert f"{prefix}/" == names.RESTARTED_FOR
    assert 1 <= len(part) <= 63
    assert part[0].isalnum()
    assert part[-1].isalnum()


@pytest.mark.parametrize(
    ("writers", "revision"),
    [
        ((), SecretRevision(id="mine", changed=None)),
        ((DataWriter(names.MANAGER, 5, DATA_KEYS),), SecretRevision(id="mine", changed=5)),
        (
            (DataWriter(names.MANAGER, 5, DATA_KEYS), DataWriter("eso", 4, DATA_KEYS)),
            SecretRevision(id="mine", changed=5),
        ),
        (
            (DataWriter(names.MANAGER, 5, DATA_KEYS), DataWriter("eso", 6, DATA_KEYS)),
            SecretRevision(id="changed-6", changed=6),
        ),
        (
            (DataWriter(names.MANAGER, 5, DATA_KEYS), DataWriter("eso", 5, DATA_KEYS)),
            SecretRevision(id="changed-5", changed=5),
        ),
        (
            (DataWriter(names.MANAGER, 5, DATA_KEYS), DataWriter("eso", 9, frozenset({"x"}))),
            SecretRevision(id="mine", changed=5),
        ),
    ],
)
def test_our_id_is_valid_until_another_manager_writes(
    writers: tuple[DataWriter, ...], revision: SecretRevision
) -> None:
    secret = TokenSecret(ref=SECRET, annotations={names.TOKEN_ID: "mine"}, writers=writers)
    assert revision_of(secret, "token") == revision


def test_revision_without_an_id_is_named_by_its_change() -> None:
    assert revision_of(TokenSecret(ref=SECRET, writers=(DataWriter("eso", 6, DATA_KEYS),)), "token").id == "changed-6"
    assert revision_of(TokenSecret(ref=SECRET), "token").id is None


def test_revision_has_the_creation_of_the_secret() -> None:
    writers = (DataWriter("eso", 6, DATA_KEYS),)
    assert revision_of(TokenSecret(ref=SECRET, writers=writers, created=6), "token").is_first
    assert not revision_of(TokenSecret(ref=SECRET, writers=writers, created=5), "token").is_first
    unknown = revision_of(TokenSecret(ref=SECRET, writers=writers), "token")
    assert (unknown.changed, unknown.is_first) == (6, False)
    ours = TokenSecret(ref=SECRET, annotations={names.TOKEN_ID: "mine"}, writers=writers[:0], created=6)
    assert revision_of(ours, "token").created == 6


def test_secret_has_not_changed_before_it_was_created() -> None:
    # Managed fields get their time before slow webhooks run, and a restored Secret has those of its backup.
    writers = (DataWriter(names.MANAGER, 6, DATA_KEYS),)
    restored = revision_of(TokenSecret(ref=SECRET, writers=writers, created=900), "token")
    assert (restored, restored.is_first) == (SecretRevision(id="changed-900", changed=900, created=900), True)
    ours = TokenSecret(ref=SECRET, annotations={names.TOKEN_ID: "mine"}, writers=writers, created=900)
    assert revision_of(ours, "token") == SecretRevision(id="mine", changed=900, created=900)


def test_each_restart_for_one_id_has_another_mark() -> None:
    seen: list[str | None] = [None, "older", "older (7)", ""]
    for before in seen:
        assert next_mark(before, REVISION) == "bcdfghjklm"
    marks = ["bcdfghjklm"]
    for _ in range(12):
        marks.append(next_mark(marks[-1], REVISION))
    assert marks[:3] == ["bcdfghjklm", "bcdfghjklm (2)", "bcdfghjklm (3)"]
    assert len(set(marks)) == len(marks)
    assert all(is_mark(mark, REVISION) for mark in marks)


@pytest.mark.parametrize(
    "value", ["bcdfghjklm (x)", "bcdfghjklm ()", "bcdfghjklm ²", "bcdfghjklm ", f"bcdfghjklm ({'9' * 5000})"]
)
def test_mark_with_an_invalid_count_starts_at_two(value: str) -> None:
    assert is_mark(value, REVISION)
    assert next_mark(value, REVISION) == "bcdfghjklm (2)"


@pytest.mark.parametrize("value", [None, "", "older", "bcdfghjklmn", "bcdfghjklm(2)", " bcdfghjklm"])
def test_value_that_begins_with_another_id_is_not_a_mark(value: str | None) -> None:
    assert not is_mark(value, REVISION)


def test_revision_without_an_id_has_no_mark() -> None:
    assert not is_mark("None", SecretRevision(id=None, changed=CHANGED))


def test_object_prints_as_kind_namespace_and_name() -> None:
    assert str(WEB) == "Deployment shop/web"
