"""A vocabulary of odd Pods, policies and reviews.

A member can be absent, null, empty or malformed, and unknown members occur next to known ones. Names are drawn from
small sets, so that duplicates, near misses and matches between annotations, containers and variables are common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from injector.core import names
from injector.core.model import AppContainers, Conflict, Endpoint, Policy
from injector.core.request import app_containers
from tests.builders import Json, review, workload

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSENT: Final = object()

SECRETS: Final = ("s", "t", "dapr-a", "dapr-b", "x.y.z")
KEYS: Final = ("token", "api.key", "K_1")
CONTAINERS: Final = (names.SIDECAR, "web", "worker", "istio-proxy", "daprd2", "Daprd", "ünï")
VARIABLES: Final = (names.API_TOKEN_ENV, names.APP_TOKEN_ENV, "LOG_LEVEL", "MY_DAPR_API_TOKEN", "dapr_api_token", "É")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text
json_values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(text, st.lists(scalars, max_size=1), max_size=2)
unknown_members: st.SearchStrategy[Json] = st.just({}) | st.dictionaries(
    st.sampled_from(("futureField", "ünbekannt")), json_values, max_size=1
)


@st.composite
def objects(draw: st.DrawFn, members: Mapping[str, st.SearchStrategy[object]]) -> Json:
    """An object of these members, without those that were drawn ABSENT, with unknown members before or after."""
    drawn = {name: draw(strategy) for name, strategy in members.items()}
    known = {name: value for name, value in drawn.items() if value is not ABSENT}
    unknown = draw(unknown_members)
    return {**unknown, **known} if draw(st.booleans()) else {**known, **unknown}


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """`strategy`, or an absent or null member."""
    return st.just(ABSENT) | st.none() | strategy


def sometimes(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """`strategy`, or an absent member."""
    return st.just(ABSENT) | strategy


selectors = objects(
    {
        "name": sometimes(st.sampled_from(SECRETS)),
        "key": sometimes(st.sampled_from(KEYS)),
        "optional": maybe(st.booleans()),
    }
)
field_refs = objects({"fieldPath": st.just("metadata.uid"), "apiVersion": sometimes(st.just("v1"))})
resource_refs = objects({"resource": st.just("limits.cpu"), "containerName": sometimes(st.just("web"))})
file_refs = objects(
    {"volumeName": st.just("v"), "path": st.just("p"), "key": st.just("K"), "optional": maybe(st.booleans())}
)


@st.composite
def sources(draw: st.DrawFn) -> Json:
    """A variable's source: mostly one, of any kind; now and then none, two, or one of a kind that is yet to come."""
    kinds: dict[str, st.SearchStrategy[object]] = {
        "secretKeyRef": selectors,
        "configMapKeyRef": selectors,
        "fieldRef": field_refs,
        "resourceFieldRef": resource_refs,
        "fileKeyRef": file_refs,
        "futureRef": json_values,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=2, unique=True) | st.just(["secretKeyRef"]))
    return {kind: draw(kinds[kind] | st.none()) if len(chosen) > 1 else draw(kinds[kind]) for kind in chosen}


values_with_references = st.lists(
    st.sampled_from(("$", "$(", "$(DAPR_API_TOKEN)", "$(APP_API_TOKEN)", "(DAPR_API_TOKEN)", ")", "a"))
).map("".join)
variables = objects(
    {
        "name": st.sampled_from(VARIABLES),
        "value": maybe(st.just("") | text | values_with_references),
        "valueFrom": maybe(sources()),
    }
) | st.builds(
    lambda name, secret, key: {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}},
    st.sampled_from(VARIABLES[:2]),
    st.sampled_from(SECRETS),
    st.sampled_from(KEYS),
)
containers = objects(
    {
        "name": sometimes(st.sampled_from(CONTAINERS)),
        "image": sometimes(text),
        "env": maybe(st.lists(variables, max_size=4)),
        "envFrom": maybe(st.just([{"secretRef": {"name": "s"}}])),
        "restartPolicy": maybe(st.sampled_from(("Always", "Never", ""))),
    }
)
blanks = st.sampled_from(("", "", "", " ", "\t", "\n"))


def annotation(values: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """A value with blanks around it, or any text, or an absent or null member."""
    padded = st.builds(lambda before, value, after: before + value + after, blanks, values, blanks)
    return st.just(ABSENT) | padded | padded | text | st.none()


secret_names = annotation(st.sampled_from((*SECRETS, "", "My_Secret", "other-ns/s", "eyJhbGciOi", "a" * 254)))
secret_keys = annotation(st.sampled_from((*KEYS, "", "../x", ".", "..", "a b")))
chosen_containers = st.lists(st.sampled_from((*CONTAINERS, "*", "", " web ", "absent")), max_size=4).map(",".join)
statuses = st.sampled_from(
    (
        "",
        "{}",
        "[[[",
        '{"v":2,"injected":[]}',
        '{"v":1,"injected":[{"container":"web","env":"DAPR_API_TOKEN","name":"s","key":"token"}]}',
        '{"v":1,"injected":[{"container":"daprd","env":"APP_API_TOKEN","name":"t","key":"K_1","replaced":true}]}',
    )
)
annotation_members: Mapping[str, st.SearchStrategy[object]] = {
    names.ENABLED: st.just("true") | annotation(st.sampled_from(("True", "on", "1", "false", "maybe", ""))),
    names.API_TOKEN_SECRET: st.sampled_from(SECRETS) | secret_names,
    names.APP_TOKEN_SECRET: secret_names,
    names.API_TOKEN_KEY: st.just(ABSENT) | secret_keys,
    names.APP_TOKEN_KEY: st.just(ABSENT) | secret_keys,
    names.APP_CONTAINERS: annotation(chosen_containers),
    names.DAPR_ENV: st.just(ABSENT) | text | st.sampled_from(("DAPR_API_TOKEN=abc", "A=1,APP_API_TOKEN=x")),
    names.STATUS: st.just(ABSENT) | statuses | text,
    "dapr.io/app-id": sometimes(text),
}
# Annotations of a Pod that is going to be patched, for laws that say nothing of the others.
sound_annotations: Mapping[str, st.SearchStrategy[object]] = {
    **annotation_members,
    names.ENABLED: st.sampled_from(("true", "True", " on ")),
    names.API_TOKEN_SECRET: st.sampled_from(SECRETS),
    names.APP_TOKEN_SECRET: sometimes(st.sampled_from(SECRETS)),
    names.API_TOKEN_KEY: sometimes(st.sampled_from(KEYS)),
    names.APP_TOKEN_KEY: sometimes(st.sampled_from(KEYS)),
}


def pods_with(annotations: st.SearchStrategy[object]) -> st.SearchStrategy[Json]:
    """Pods with these annotations."""
    metadata = objects({"name": maybe(text), "generateName": maybe(text), "annotations": annotations})
    specs = objects(
        {
            "containers": maybe(st.lists(containers, max_size=4)) | st.lists(containers, min_size=1, max_size=4),
            "initContainers": maybe(st.lists(containers, max_size=3)),
        }
    )
    pod_members = {
        "apiVersion": st.just("v1"),
        "kind": st.just("Pod"),
        "metadata": metadata,
        "spec": maybe(specs) | specs,
    }
    return objects(pod_members)


pods = pods_with(maybe(objects(annotation_members)) | objects(annotation_members))
sound_pods = pods_with(objects(sound_annotations))
workloads = st.builds(
    lambda template, kind, annotations: workload(template, kind, annotations=annotations),
    pods,
    st.sampled_from(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Widget")),
    st.none() | objects({names.API_TOKEN_SECRET: secret_names, names.APP_TOKEN_SECRET: secret_names}),
)


def _default_containers(words: list[str]) -> AppContainers:
    return app_containers(words, from_pod=False)


policies = st.builds(
    Policy,
    default_secret=st.just("dapr-default"),
    allowed_secrets=st.sampled_from(((), (), ("dapr-*",), ("s", "t", "[a-z]*"))),
    default_api_key=st.sampled_from(KEYS),
    default_app_key=st.sampled_from(KEYS),
    default_app_containers=st.lists(st.sampled_from(("*", "web", "absent")), max_size=2).map(_default_containers),
    infrastructure_containers=st.just(frozenset(names.INFRASTRUCTURE_CONTAINERS)) | st.just(frozenset({"web"})),
    conflict=st.sampled_from(Conflict),
    shadow=st.just(False) | st.booleans(),
)
acting_policies = policies.map(
    lambda policy: Policy(
        default_secret=policy.default_secret,
        default_api_key=policy.default_api_key,
        default_app_key=policy.default_app_key,
        default_app_containers=policy.default_app_containers,
        infrastructure_containers=policy.infrastructure_containers,
        conflict=policy.conflict,
    )
)
mutating = st.sampled_from((Endpoint.MUTATE, Endpoint.MUTATE_DEFAULT))
endpoints = st.sampled_from(Endpoint)


@st.composite
def reviews(draw: st.DrawFn) -> Json:
    """A review of a Pod or a workload, now and then of another operation or subresource."""
    found = draw(pods | workloads)
    question = review(
        found,
        version=draw(st.sampled_from(("v1", "v1beta1"))),
        uid=draw(text.filter(bool)),
        operation=draw(st.just("CREATE") | st.sampled_from(("UPDATE", "DELETE", "CONNECT"))),
        dryRun=draw(st.booleans()),
    )
    subresource = draw(st.just(ABSENT) | st.sampled_from((None, "", "status")))
    if subresource is not ABSENT:
        question["request"]["subResource"] = subresource
    return question | draw(unknown_members)
