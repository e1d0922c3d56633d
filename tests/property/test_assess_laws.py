"""No Pod is called protected that a kubelet would run open, and every Pod has an assessment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from injector.core import names
from injector.core.assess import assess
from injector.core.assessment import Currency, Known, Protection, ProtectionReason
from injector.core.ownership import SecretRef, TokenSecret
from injector.core.token_state import SKEW, Ref
from injector.rotation.observation import observation
from injector.times import rfc3339
from injector.tokens.decode import token_secret
from tests.property import strategies as some
from tests.property.kubelet import Kubelet, runs_open
from tests.property.work import TIMES, is_in_proportion, measured
from tests.sealing import SEAL, file_env, sealed_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def changes() -> st.SearchStrategy[Callable[[Json], object]]:
    """One change of the spec of a sealed Pod; most of them break the seal."""
    env = st.lists(entries(), max_size=2) | st.just([file_env()]) | st.just([file_env(optional=True)])
    words = st.sampled_from(
        [
            {"command": ["sh"]},
            {"command": ["dapr-token-injector", "seal"]},
            {"command": ["dapr-token-injector", "seal", "--check"]},
            {"args": []},
            {"args": ["APP_API_TOKEN"]},
            {"restartPolicy": "Always"},
            {"name": "other"},
            {"volumeMounts": []},
            {"volumeMounts": [{"name": SEAL, "mountPath": "/x"}]},
            {"volumeMounts": [{"name": SEAL, "mountPath": "/dapr-token-injector/seal", "subPath": "x"}]},
        ]
    )
    at = st.integers(0, 3)
    part = st.sampled_from(["initContainers", "containers"])

    def update(part: str, at: int, fields: Json) -> Callable[[Json], object]:
        return lambda spec: spec[part] and spec[part][at % len(spec[part])].update(fields)

    def move(first: int, second: int) -> Callable[[Json], object]:
        return lambda spec: (
            spec["initContainers"].insert(second, spec["initContainers"].pop(first % len(spec["initContainers"])))
            if spec["initContainers"]
            else None
        )

    def drop(at: int) -> Callable[[Json], object]:
        return lambda spec: spec["initContainers"] and spec["initContainers"].pop(at % len(spec["initContainers"]))

    return st.one_of(
        st.builds(update, part, at, words),
        st.builds(update, part, at, env.map(lambda found: {"env": found})),
        st.builds(move, at, at),
        st.builds(drop, at),
    )


def _sealed(changes: Sequence[Callable[[Json], object]], *, is_native: bool) -> Json:
    daprd = {"name": "daprd", "image": "daprio/daprd:1.18.4", "env": [file_env()]}
    web = {"name": "web", "image": "web:1", "env": [file_env()]}
    init = ({**daprd, "restartPolicy": "Always"},) if is_native else ()
    spec: Json = json.loads(json.dumps(sealed_spec("s", *([web] if is_native else [web, daprd]), init=init)))
    for change in changes:
        change(spec)
    return {"metadata": {"namespace": "shop", "name": "web", "annotations": {}}, "spec": spec}


sealed_pods: Final = st.builds(_sealed, st.lists(changes(), max_size=3), is_native=st.booleans())


SECRET_STATES: Final = st.sampled_from([{}, {"s": {"token": ""}}]) | st.just({"s": {"token": "x"}})


@given(sealed_pods, SECRET_STATES, st.booleans())
@settings(max_examples=200)
def test_protected_pod_with_a_seal_never_runs_open(
    pod: Json,
    secrets: dict[str, dict[str, str]],
    has_env_files: bool,  # noqa: FBT001 - drawn
) -> None:
    """Also with an empty value in the Secret, and with a kubelet that knows no env files."""
    found = assess(observation(pod, WORKLOAD), Known(now=0))

    if found.reason is ProtectionReason.SEALED:
        assert not runs_open(pod, Kubelet(secrets, has_env_files=has_env_files))


CHANGED: Final = 1_000


@given(st.integers(0, 3 * CHANGED), st.lists(st.none() | st.integers(0, 3 * CHANGED), min_size=2, max_size=2))
def test_sealed_pod_is_never_skewed(sealed: int, since: list[int | None]) -> None:
    """After any restart in place, and while containers do not run, it has the value of when it was sealed."""
    pod = _sealed((), is_native=False)
    ended = {"terminated": {"exitCode": 0, "startedAt": rfc3339(sealed)}}
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    states = [waits if one is None else {"running": {"startedAt": rfc3339(sealed + one)}} for one in since]
    pod["metadata"]["creationTimestamp"] = rfc3339(0)
    pod["status"] = {
        "initContainerStatuses": [{"name": SEAL, "state": ended}],
        "containerStatuses": [
            {"name": one, "state": state} for one, state in zip(("web", "daprd"), states, strict=True)
        ],
    }
    managed = [{"manager": "m", "time": rfc3339(CHANGED), "fieldsV1": {"f:data": {"f:token": {}}}}]
    secret = token_secret({"metadata": {"namespace": "shop", "name": "s", "managedFields": managed}})
    found = assess(observation(pod, WORKLOAD), Known(now=9 * CHANGED, secrets={SecretRef("shop", "s"): secret}))

    expected = Currency.UNCERTAIN if sealed <= CHANGED + SKEW else Currency.CURRENT
    assert [one.currency for one in found.currencies] == [Currency.OUTDATED if sealed < CHANGED else expected]


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


@given(st.sampled_from(["sidecars", "entries", "sources", "ephemeral", "sealed", "mounts"]), st.booleans())
@settings(max_examples=12)
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
        "sealed": sealed_spec("s", *({**one, "env": [file_env()]} for one in every)),
        "mounts": sealed_spec("s", {**sidecar, "volumeMounts": [{"name": "v", "mountPath": "/v"}] * count}),
        "sources": {"containers": [{**sidecar, "env": [], "envFrom": [{"secretRef": {"name": "s"}}] * count}]},
    }[shape]
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "couldn't find key x in Secret shop/s"}}
    statuses = [{"name": one["name"], "state": waiting} for one in spec["containers"]] if waits else []
    meta = {"namespace": "shop", "name": "web", "annotations": {names.ENABLED: "true", names.API_TOKEN_SECRET: "s"}}
    pod = {"metadata": meta, "spec": spec, "status": {"containerStatuses": statuses}}
    secrets = {SecretRef("shop", "s"): TokenSecret(ref=SecretRef("shop", "s"), keys=frozenset({"token"}))}
    return assess(observation(pod, WORKLOAD), Known(now=0, secrets=secrets))
