"""No Pod is called protected that a kubelet would run open, and every Pod has an assessment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from injector.core import names
from injector.core.assess import assess
from injector.core.assessment import Known, Protection
from injector.core.ownership import SecretRef, TokenSecret
from injector.core.rollout import Ref
from injector.rotation.observation import observation
from tests.property import strategies as some
from tests.property.kubelet import Kubelet, runs_open
from tests.property.work import TIMES, is_in_proportion, measured

if TYPE_CHECKING:
    from injector.core.assessment import Assessment
    from injector.core.model import Policy
    from tests.builders import Json

WORKLOAD: Final = Ref("Deployment", "shop", "web")
SECRETS: Final = ("s", "t")
CONFIG_MAPS: Final = ("c",)
KEYS: Final = ("token", "dapr-api-token", names.API_TOKEN_ENV, "API_TOKEN")
VARIABLES: Final = (names.API_TOKEN_ENV, names.API_TOKEN_ENV, "A")
TEXTS: Final = ("", "x", "$(A)", "$(A)$(A)", "$(DAPR_API_TOKEN)", "$(A", "$$(A)", "$(A)x", "$()", "$")


def selectors(objects: tuple[str, ...]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {"name": st.sampled_from(objects), "key": st.sampled_from(KEYS)}, optional={"optional": st.booleans()}
    )


def entries() -> st.SearchStrategy[Json]:
    fields = st.sampled_from(["metadata.annotations['a']", "metadata.annotations['none']"])
    sources = st.one_of(
        st.fixed_dictionaries({"secretKeyRef": selectors(SECRETS)}),
        st.fixed_dictionaries({"configMapKeyRef": selectors(CONFIG_MAPS)}),
        st.fixed_dictionaries({"fieldRef": st.fixed_dictionaries({"fieldPath": fields})}),
        st.just({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "T"}}),
    )
    name = st.sampled_from(VARIABLES)
    return st.one_of(
        st.fixed_dictionaries({"name": name}, optional={"value": st.sampled_from(TEXTS)}),
        st.fixed_dictionaries({"name": name, "valueFrom": sources}),
    )


def containers(*kinds: str) -> st.SearchStrategy[Json]:
    objects = st.one_of(
        st.fixed_dictionaries({"secretRef": st.fixed_dictionaries({"name": st.sampled_from(SECRETS)})}),
        st.fixed_dictionaries({"configMapRef": st.fixed_dictionaries({"name": st.sampled_from(CONFIG_MAPS)})}),
    )
    prefixes = st.sampled_from(["", "DAPR_", "X_"])
    env_from = st.lists(st.builds(lambda one, prefix: {**one, "prefix": prefix}, objects, prefixes), max_size=2)
    return st.fixed_dictionaries(
        {
            "name": st.sampled_from(kinds),
            "image": st.sampled_from(["web:1", "web:1", "daprio/daprd:1.18.4"]),
            "env": st.lists(entries(), max_size=3),
        },
        optional={"envFrom": env_from},
    )


pods: Final = st.builds(
    lambda annotations, first, more, init, ephemeral, status: {
        "metadata": {"namespace": "shop", "name": "web", "annotations": {"a": "x", **annotations}},
        "spec": {"containers": [first, *more], "initContainers": init, "ephemeralContainers": ephemeral},
        "status": status,
    },
    st.fixed_dictionaries(
        {},
        optional={
            names.ENABLED: st.sampled_from(["true", "false"]),
            names.API_TOKEN_SECRET: st.sampled_from(SECRETS),
            names.API_TOKEN_KEY: st.sampled_from(KEYS),
            names.APP_CONTAINERS: st.just("*"),
        },
    ),
    containers("daprd"),
    *(st.just([]) | st.lists(containers(*kinds), max_size=1) for kinds in (("web",), ("daprd", "init"), ("debug",))),
    st.sampled_from([{}, {"phase": "Running"}, {"phase": "Pending"}]),
)


@given(
    pods, st.sets(st.sampled_from(SECRETS)), st.sampled_from(["", "x"]), st.sets(st.sampled_from(KEYS)), st.booleans()
)
def test_protected_pod_never_runs_open(
    pod: Json,
    existing: set[str],
    configured: str,
    keys: set[str],
    is_metadata_known: bool,  # noqa: FBT001 - drawn
) -> None:
    """Every key of a Secret that exists has a valid token; those of a ConfigMap may be empty."""
    secrets = {name: dict.fromkeys(sorted(keys), "0123456789abcdef") for name in sorted(existing)}
    kubelet = Kubelet(secrets, {"c": dict.fromkeys(KEYS, configured)}, pod["metadata"]["annotations"])
    known = {
        SecretRef("shop", name): TokenSecret(ref=SecretRef("shop", name), keys=frozenset(keys))
        if name in existing
        else None
        for name in SECRETS
    }

    found = assess(observation(pod, WORKLOAD), Known(now=0, secrets=known if is_metadata_known else {}))

    if found.protection is Protection.PROTECTED:
        assert not runs_open(pod, kubelet)


@given(some.pods | some.sound_pods, some.policies, st.booleans())
def test_every_pod_has_an_assessment(
    pod: Json,
    policy: Policy,
    is_default: bool,  # noqa: FBT001 - drawn
) -> None:
    meta = {**(pod.get("metadata") or {}), "namespace": "shop", "name": "web"}
    known = Known(now=0, policy=policy, injects_default=is_default)

    found = assess(observation({**pod, "metadata": meta}, WORKLOAD), known)

    assert (found.namespace, found.name) == ("shop", "web")


@given(st.sampled_from(["sidecars", "entries", "sources", "ephemeral"]), st.booleans())
@settings(max_examples=8)
def test_cost_of_an_assessment_is_linear(shape: str, waits: bool) -> None:  # noqa: FBT001 - drawn
    few, many = (measured(lambda n=n: len(_assessed(shape, n, waits=waits).findings)) for n in (48, TIMES * 48))  # type: ignore[misc] # the default

    assert is_in_proportion(few[0], many[0])
    assert is_in_proportion(few[1], many[1])


def _assessed(shape: str, count: int, *, waits: bool) -> Assessment:
    """The assessment of a Pod with many of one kind of part."""
    entry = {"name": names.API_TOKEN_ENV, "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
    sidecar = {"name": "daprd", "image": "daprd:1.13.1", "env": [entry]}
    every = [{**sidecar, "name": f"daprd-{number}"} for number in range(count)]
    spec: Json = {
        "sidecars": {"containers": every},
        "ephemeral": {"containers": [sidecar], "ephemeralContainers": every},
        "entries": {"containers": [{**sidecar, "env": [entry] * count}]},
        "sources": {"containers": [{**sidecar, "env": [], "envFrom": [{"secretRef": {"name": "s"}}] * count}]},
    }[shape]
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "couldn't find key x in Secret shop/s"}}
    statuses = [{"name": one["name"], "state": waiting} for one in spec["containers"]] if waits else []
    meta = {"namespace": "shop", "name": "web", "annotations": {names.ENABLED: "true", names.API_TOKEN_SECRET: "s"}}
    pod = {"metadata": meta, "spec": spec, "status": {"containerStatuses": statuses}}
    secrets = {SecretRef("shop", "s"): TokenSecret(ref=SecretRef("shop", "s"), keys=frozenset({"token"}))}
    return assess(observation(pod, WORKLOAD), Known(now=0, secrets=secrets))
