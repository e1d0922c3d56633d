"""Laws of plans: held workloads are never touched, the budget is kept, and acting on a plan leaves nothing to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from injector.core.ownership import SecretRef
from injector.core.rollout import (
    Action,
    Age,
    Hold,
    Holder,
    Ref,
    Use,
    Version,
    Workload,
    age_of,
    annotation_for,
    plan,
    waves,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from injector.core.rollout import Step

SECRETS = [SecretRef(namespace, name) for namespace in ("a", "b") for name in ("api", "app")]
VERSIONS = {ref: Version(id=f"new-{ref.name}", changed=100) for ref in SECRETS}
OLD = frozenset({Age.STALE, Age.UNKNOWN})

times = st.none() | st.integers(0, 200)
marks = st.dictionaries(
    st.sampled_from([annotation_for("api"), annotation_for("app")]), st.sampled_from(["new-api", "new-app", "old"])
)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[dict[Ref, Workload], list[Holder]]:
    """Some workloads of both namespaces, and their Pods."""
    workloads: dict[Ref, Workload] = {}
    pods: list[Holder] = []
    for number in range(draw(st.integers(0, 7))):
        ref = Ref(draw(st.sampled_from(["Deployment", "StatefulSet"])), draw(st.sampled_from("ab")), f"w{number}")
        workloads[ref] = Workload(
            ref=ref,
            hold=draw(st.none() | st.sampled_from(Hold)),
            partition=draw(st.integers(0, 3)) if ref.kind == "StatefulSet" else 0,
            restarted_for=draw(marks),
            is_settled=draw(st.booleans()),
            is_restarted_elsewhere=draw(st.sampled_from(["", "Reloader"])),
        )
        used = draw(st.lists(st.sampled_from([one for one in SECRETS if one.namespace == ref.namespace]), unique=True))
        pods.extend(
            [
                Holder(
                    namespace=ref.namespace,
                    name=f"w{number}-{position}",
                    workload=ref,
                    uses=tuple(Use(secret=one, containers=("daprd",), started=draw(times)) for one in used),
                    restarted_for=draw(marks),
                    is_ending=draw(st.booleans()),
                    position=position if ref.kind == "StatefulSet" else None,
                )
                for position in range(draw(st.integers(0, 4)))
            ]
        )
    return workloads, pods


def old_pods(pods: Sequence[Holder], ref: Ref) -> set[str]:
    return {
        pod.name
        for pod in pods
        if pod.workload == ref and not pod.is_ending and any(age_of(pod, one, VERSIONS[one]) in OLD for one in SECRETS)
    }


def restarted(
    workloads: Mapping[Ref, Workload], pods: Sequence[Holder], steps: Sequence[Step]
) -> tuple[dict[Ref, Workload], list[Holder]]:
    """What a cluster does of it: the templates are marked, and every Pod at or above the partition is made anew."""
    after, new_pods = dict(workloads), list(pods)
    for step in steps:
        if step.action not in {Action.RESTART, Action.WAIT}:
            continue
        marked = {
            **workloads[step.ref].restarted_for,
            **{annotation_for(one.name): str(VERSIONS[one].id) for one in step.secrets},
        }
        after[step.ref] = replace(workloads[step.ref], restarted_for=marked, is_settled=True)
        new_pods = [
            replace(pod, restarted_for=marked, uses=tuple(replace(use, started=500) for use in pod.uses))
            if pod.workload == step.ref and (pod.position is None or pod.position >= workloads[step.ref].partition)
            else pod
            for pod in new_pods
        ]
    return after, new_pods


@given(clusters())
def test_held_workloads_are_never_restarted(cluster: tuple[dict[Ref, Workload], list[Holder]]) -> None:
    workloads, pods = cluster
    for step in plan(VERSIONS, workloads, pods):
        if workloads[step.ref].hold is not None:
            assert step.action in {Action.HOLD, Action.NOTHING}


@given(clusters())
def test_every_old_pod_is_in_the_plan_and_no_other(cluster: tuple[dict[Ref, Workload], list[Holder]]) -> None:
    workloads, pods = cluster
    steps = {step.ref: step for step in plan(VERSIONS, workloads, pods)}
    for ref in workloads:
        assert set(steps[ref].stale if ref in steps else ()) == old_pods(pods, ref)


@given(clusters())
def test_old_pod_is_restarted_waited_for_or_held_with_a_reason(
    cluster: tuple[dict[Ref, Workload], list[Holder]],
) -> None:
    for step in plan(VERSIONS, *cluster):
        assert (step.action is Action.NOTHING or step.action is Action.WAIT) or step.stale
        assert (step.hold is not None) is bool(step.held)
        assert set(step.held) <= set(step.stale)
        if step.action is Action.HOLD:
            assert step.held == step.stale


@given(clusters())
def test_acting_on_a_plan_leaves_only_what_is_held(cluster: tuple[dict[Ref, Workload], list[Holder]]) -> None:
    workloads, pods = cluster
    steps = plan(VERSIONS, workloads, pods)
    held = {step.ref: step.held for step in steps if step.held}
    again = plan(VERSIONS, *restarted(workloads, pods, steps))

    assert {step.ref: step.stale for step in again if step.stale} == held
    assert not any(step.action is Action.RESTART for step in again)


@given(clusters(), st.integers(1, 4))
def test_waves_keep_the_budget_and_take_each_workload_once(
    cluster: tuple[dict[Ref, Workload], list[Holder]], at_once: int
) -> None:
    steps = plan(VERSIONS, *cluster)
    made = list(waves(steps, at_once=at_once))
    for number, wave in enumerate(made):
        for namespace in "ab":
            assert sum(step.ref.namespace == namespace for step in wave) <= (at_once if number else 1)
    taken = [step.ref for wave in made for step in wave]
    assert len(taken) == len(set(taken))
    assert set(taken) == {step.ref for step in steps if step.action in {Action.RESTART, Action.WAIT}}


@given(clusters(), st.randoms())
def test_order_of_what_was_observed_does_not_matter(
    cluster: tuple[dict[Ref, Workload], list[Holder]], random: object
) -> None:
    workloads, pods = cluster
    shuffled = list(pods)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # a Random

    assert plan(VERSIONS, workloads, shuffled) == plan(VERSIONS, dict(reversed(workloads.items())), pods)
