from __future__ import annotations

import pytest

from injector.core import names
from injector.core.ownership import DataWriter, SecretRef, TokenSecret
from injector.core.rollout import (
    ADVICE,
    LAG,
    SKEW,
    STARTS_WITHIN,
    Action,
    Age,
    Hold,
    Holder,
    Ref,
    Step,
    Use,
    Version,
    Workload,
    age_of,
    annotation_for,
    holding,
    plan,
    version_of,
    waves,
)

SECRET = SecretRef("shop", "s")
CHANGED = 1000
LATE = CHANGED + SKEW + 1  # by a node's clock
VERSION = Version(id="bcdfghjklm", changed=CHANGED)
WEB = Ref("Deployment", "shop", "web")
KEYS = frozenset({"token"})
MARK = {annotation_for("s"): "bcdfghjklm"}


def pod(name: str = "web-1", *, started: int | None = 0, **more: object) -> Holder:
    use = Use(secret=SECRET, containers=("daprd",), started=started)
    told: dict[str, object] = {"namespace": "shop", "name": name, "workload": WEB, "uses": (use,), **more}
    return Holder(**told)  # type: ignore[arg-type] # fields by name


def starting(created: int, restarted_for: dict[str, str] | None = None) -> Holder:
    """A Pod of which its node has not told yet whether it runs."""
    use = Use(secret=SECRET, containers=("daprd",), started=None, is_starting=True)
    return pod(uses=(use,), created=created, restarted_for=restarted_for or {})


def step(workload: Workload, *pods: Holder, version: Version = VERSION) -> Step:
    (made,) = plan({SECRET: version}, {workload.ref: workload}, pods)
    return made


@pytest.mark.parametrize(
    ("holder", "age"),
    [
        (pod(started=CHANGED - 1), Age.STALE),
        (pod(started=CHANGED), Age.STALE),
        (pod(started=CHANGED + SKEW), Age.STALE),
        (pod(started=LATE), Age.FRESH),
        (pod(started=LATE, created=CHANGED - 1), Age.FRESH),
        (pod(started=CHANGED + LAG, created=CHANGED + LAG), Age.STALE),
        (pod(started=0, created=CHANGED + LAG + 1), Age.FRESH),
        (pod(started=None), Age.NONE),
        (starting(created=CHANGED - 1), Age.UNKNOWN),
        (starting(created=CHANGED + LAG), Age.UNKNOWN),
        (starting(created=CHANGED + LAG + 1), Age.FRESH),
        (starting(created=CHANGED - STARTS_WITHIN), Age.UNKNOWN),
        (starting(created=CHANGED - STARTS_WITHIN - 1), Age.NONE),
        (starting(created=CHANGED - 1, restarted_for={annotation_for("s"): "bcdfghjklm"}), Age.FRESH),
        (pod(started=0, restarted_for=MARK), Age.FRESH),
        (pod(started=0, restarted_for={annotation_for("s"): "other"}), Age.STALE),
        (pod(started=0, restarted_for={annotation_for("t"): "bcdfghjklm"}), Age.STALE),
    ],
)
def test_age_is_the_templates_mark_or_the_creation_or_the_start(holder: Holder, age: Age) -> None:
    assert age_of(holder, SECRET, VERSION) is age


def test_without_a_time_the_age_is_unknown_and_not_fresh() -> None:
    assert age_of(pod(started=10**9), SECRET, Version(id="x", changed=None)) is Age.UNKNOWN


def test_oldest_container_counts() -> None:
    uses = tuple(Use(secret=SECRET, containers=(name,), started=at) for name, at in (("web", LATE), ("daprd", 1)))
    assert age_of(pod(uses=uses), SECRET, VERSION) is Age.STALE


@pytest.mark.parametrize("hold", Hold)
def test_every_hold_has_advice(hold: Hold) -> None:
    assert ADVICE[hold]


@pytest.mark.parametrize("hold", Hold)
def test_held_workload_is_held_with_its_old_pods(hold: Hold) -> None:
    made = step(Workload(ref=WEB, hold=hold), pod("a"), pod("b", started=LATE))

    assert (made.action, made.hold, made.held) == (Action.HOLD, hold, ("a",))


def test_fresh_workload_needs_nothing_held_or_not() -> None:
    fresh = pod(started=LATE)
    assert step(Workload(ref=WEB), fresh).action is Action.NOTHING
    assert step(Workload(ref=WEB, hold=Hold.PAUSED), fresh).action is Action.NOTHING


def test_old_pod_restarts_its_workload() -> None:
    assert step(Workload(ref=WEB), pod(), pod("b", started=LATE)) == Step(
        ref=WEB, action=Action.RESTART, secrets=(SECRET,), stale=("web-1",)
    )


def test_marked_template_is_waited_for_and_not_restarted_again() -> None:
    assert step(Workload(ref=WEB, restarted_for=MARK, is_settled=False), pod()).action is Action.WAIT
    assert step(Workload(ref=WEB, restarted_for=MARK), pod()).action is Action.WAIT
    assert step(Workload(ref=WEB, restarted_for={annotation_for("s"): "older"}), pod()).action is Action.RESTART


def test_restart_that_is_not_ready_yet_is_waited_for() -> None:
    new = pod(restarted_for=MARK)
    assert step(Workload(ref=WEB, restarted_for=MARK, is_settled=False), new).action is Action.WAIT
    assert step(Workload(ref=WEB, is_settled=False), pod(started=LATE)).action is Action.NOTHING


def test_pods_below_the_partition_are_held_and_the_others_restarted() -> None:
    pods = [pod(f"db-{number}", position=number) for number in range(3)]
    made = step(Workload(ref=WEB, partition=2), *pods)
    assert (made.action, made.hold, made.held) == (Action.RESTART, Hold.PARTITION, ("db-0", "db-1"))

    low = step(Workload(ref=WEB, partition=3), *pods)
    assert (low.action, low.held) == (Action.HOLD, ("db-0", "db-1", "db-2"))


def test_other_tool_that_restarts_is_waited_for() -> None:
    made = step(Workload(ref=WEB, is_restarted_elsewhere="Reloader"), pod())
    assert (made.action, made.note) == (Action.WAIT, "Reloader restarts it")


def test_recreate_is_told() -> None:
    assert "Recreate" in step(Workload(ref=WEB, recreates=True), pod()).note


def test_ending_pods_are_nobodys_to_restart_and_hold_their_token() -> None:
    ending = pod(is_ending=True)
    assert plan({SECRET: VERSION}, {}, [ending]) == ()
    assert holding({SECRET: VERSION}, [ending, pod("b", started=LATE)]) == (ending,)


def test_pod_without_one_of_the_secrets_is_left_out() -> None:
    assert plan({SecretRef("shop", "other"): VERSION}, {}, [pod()]) == ()


def test_first_wave_is_one_workload_of_each_namespace() -> None:
    steps = [
        Step(ref=Ref("Deployment", namespace, name), action=Action.RESTART)
        for namespace in ("a", "b")
        for name in ("1", "2", "3", "4")
    ]
    told = [[f"{one.ref.namespace}{one.ref.name}" for one in wave] for wave in waves(steps, at_once=2)]

    assert told == [["a1", "b1"], ["a2", "a3", "b2", "b3"], ["a4", "b4"]]


def test_nothing_to_do_is_no_wave() -> None:
    assert list(waves([Step(ref=WEB, action=Action.HOLD), Step(ref=WEB, action=Action.NOTHING)], at_once=1)) == []


@pytest.mark.parametrize("name", ["s", "a.b-c", "x" * 253, "x" * 62 + "-y", "x" * 62 + ".y"])
def test_annotation_of_a_secret_is_a_key_that_kubernetes_takes(name: str) -> None:
    prefix, _, part = annotation_for(name).partition("/")
    assert f"{prefix}/" == names.RESTARTED_FOR
    assert 1 <= len(part) <= 63
    assert part[0].isalnum()
    assert part[-1].isalnum()


@pytest.mark.parametrize(
    ("writers", "version"),
    [
        ((), Version(id="mine", changed=None)),
        ((DataWriter(names.MANAGER, 5, KEYS),), Version(id="mine", changed=5)),
        ((DataWriter(names.MANAGER, 5, KEYS), DataWriter("eso", 4, KEYS)), Version(id="mine", changed=5)),
        ((DataWriter(names.MANAGER, 5, KEYS), DataWriter("eso", 6, KEYS)), Version(id="changed-6", changed=6)),
        ((DataWriter(names.MANAGER, 5, KEYS), DataWriter("eso", 5, KEYS)), Version(id="changed-5", changed=5)),
        ((DataWriter(names.MANAGER, 5, KEYS), DataWriter("eso", 9, frozenset({"x"}))), Version(id="mine", changed=5)),
    ],
)
def test_our_id_counts_while_nobody_else_has_written_since(writers: tuple[DataWriter, ...], version: Version) -> None:
    assert (
        version_of(TokenSecret(ref=SECRET, annotations={names.TOKEN_ID: "mine"}, writers=writers), "token") == version
    )


def test_without_an_id_the_time_stands_for_it() -> None:
    assert version_of(TokenSecret(ref=SECRET, writers=(DataWriter("eso", 6, KEYS),)), "token").id == "changed-6"
    assert version_of(TokenSecret(ref=SECRET), "token").id is None
