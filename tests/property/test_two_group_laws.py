"""Two groups with different Policies: neither undoes what the other has added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from injector.core import names
from injector.core.model import Conflict, Endpoint, Policy, SealMode
from tests.builders import Json, ask, patched, review
from tests.property import strategies as some
from tests.property.test_patch_laws import containers, dapr_adds_a_sidecar, env_lists
from tests.property.test_seal_laws import sealing_pods
from tests.served import effective, is_served

if TYPE_CHECKING:
    from collections.abc import Iterator

policies = st.builds(
    Policy,
    default_secret=st.sampled_from(("dapr-default", "s")),
    default_api_key=st.sampled_from(some.KEYS),
    default_app_key=st.sampled_from(some.KEYS),
    default_app_containers=some.policies.map(lambda policy: policy.default_app_containers),
    conflict=st.sampled_from(Conflict),
    seal=st.sampled_from(SealMode),
    seal_image=st.just("registry/image:1"),
)
each = given(some.sound_pods | sealing_pods(), policies, policies, some.mutating)


def injected(pod: Json, policy: Policy, endpoint: Endpoint) -> Json:
    return patched(pod, ask(review(pod), policy, endpoint))


def closed(pod: Json) -> set[tuple[int, str]]:
    """The container and name of each token variable that is neither empty nor optional."""
    return {
        (at, name)
        for at, container in enumerate(one for one in containers(pod) if not is_ours(one))
        for name in names.TOKEN_VARIABLES
        if is_closed(effective(container, name))
    }


def is_ours(container: Json) -> bool:
    """Whether a group adds the container, and with it moves the others."""
    return container.get("name") in {names.SEAL_CONTAINER, names.SEAL_CHECK_CONTAINER}


def is_closed(entry: Json) -> bool:
    refs = [ref for ref in (entry.get("valueFrom") or {}).values() if ref is not None]
    return bool(refs or entry.get("value")) and not any(isinstance(ref, dict) and ref.get("optional") for ref in refs)


@each
def test_second_group_removes_and_opens_nothing(pod: Json, a: Policy, b: Policy, endpoint: Endpoint) -> None:
    first = injected(pod, a, endpoint)
    second = injected(first, b, endpoint)
    third = injected(second, a, endpoint)

    assert closed(pod) <= closed(first) <= closed(second) <= closed(third)
    assert all(set(names_of(before)) <= set(names_of(after)) for before, after in ((first, second), (second, third)))


def names_of(pod: Json) -> Iterator[str]:
    """All parts that a group can add."""
    spec = pod.get("spec") or {}
    for part in ("containers", "initContainers", "volumes", "imagePullSecrets"):
        yield from (f"{part}/{one.get('name')}" for one in spec.get(part) or ())


@each
def test_groups_that_keep_values_do_not_change_a_pod_again(pod: Json, a: Policy, b: Policy, endpoint: Endpoint) -> None:
    """Only `conflict: replace` in both groups can change a Pod at each call."""
    both = injected(injected(pod, a, endpoint), b, endpoint)
    again = injected(injected(both, a, endpoint), b, endpoint)

    if Conflict.REPLACE not in {a.conflict, b.conflict}:
        assert injected(again, a, endpoint).get("spec") == again.get("spec")
        assert injected(again, b, endpoint).get("spec") == again.get("spec")


@given(
    some.sound_pods | sealing_pods(),
    policies.filter(lambda policy: policy.seal is not SealMode.ALWAYS),
    st.permutations(range(3)),
    st.lists(st.booleans(), min_size=4, max_size=4).filter(lambda answers: any(answers[2:])),
)
def test_pod_does_not_depend_on_the_groups_that_answer(
    pod: Json, policy: Policy, order: list[int], answers: list[bool]
) -> None:
    """Dapr's injector adds the sidecar between two rounds. Any group may be dead in each, but not both in the last."""
    spec = pod["spec"] = pod.get("spec") or {}
    spec["containers"] = spec.get("containers") or []
    for part in ("containers", "initContainers"):
        if spec.get(part):
            spec[part] = [one for one in spec[part] if one.get("name") != names.SIDECAR]
    pod["metadata"]["annotations"].pop(names.STATUS, None)

    found = pod
    for first, second in (answers[:2], answers[2:]):
        if first:
            found = injected(found, policy, Endpoint.MUTATE)
        if second and not is_served(found):
            found = injected(found, policy, Endpoint.MUTATE)
        if "daprd" not in [one.get("name") for one in containers(found)]:
            found = dapr_adds_a_sidecar(found, order)

    assert env_lists(found) == env_lists(injected(dapr_adds_a_sidecar(pod, order), policy, Endpoint.MUTATE))
