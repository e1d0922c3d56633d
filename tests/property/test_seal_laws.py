"""Whatever a Pod has, it is sealed as a whole or not at all, and nothing of its own is lost."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from injector.core import names
from injector.core.model import Conflict, Policy, SealMode, TokenRef
from injector.core.seal import SealingSpec, is_usual, pod_problem
from injector.core.sealed import first_reader, sealed_tokens
from tests.builders import Json, ask, encode, operations_of, patched, response_of, review
from tests.property import strategies as some
from tests.property.test_patch_laws import containers, dapr_adds_a_sidecar, recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

OUR_NAMES: Final = (names.SEAL_CONTAINER, names.SEAL_CHECK_CONTAINER)
WORDS: Final = st.sampled_from(["true", " On ", "1"])


def _one_in(n: int, value: object, other: object) -> st.SearchStrategy[object]:
    return st.sampled_from([value, *[other] * (n - 1)])


files = some.maybe(st.lists(st.builds(lambda key: {"key": key}, st.sampled_from(some.KEYS)), max_size=2))
volumes = st.builds(
    lambda name, source: {"name": name, **source},
    _one_in(8, names.SEAL_VOLUME, "v"),
    st.one_of(
        st.sampled_from([{"emptyDir": {}}, {"emptyDir": {"medium": "Memory"}}, {"configMap": {"name": "s"}}]),
        some.objects({"secret": some.objects({"secretName": st.sampled_from(some.SECRETS), "items": files})}),
        st.builds(
            lambda one: {"projected": {"sources": [one]}},
            some.objects({"secret": some.objects({"name": st.sampled_from(some.SECRETS), "items": files})}),
        ),
    ),
)
amounts = st.dictionaries(
    st.sampled_from(["cpu", "memory", "x.io/gpu"]), st.sampled_from(["1", "1Gi", "0.5", 2, "many"]), max_size=2
)
additions = st.fixed_dictionaries(
    {},
    optional={
        "env": st.lists(some.variables, max_size=2),
        "envFrom": st.sampled_from([None, [], [{"configMapRef": {"name": "s"}}], [{"secretRef": {"name": "t"}}]]),
        "resources": some.maybe(some.objects({"limits": some.maybe(amounts), "requests": some.maybe(amounts)})),
        "volumeMounts": st.lists(
            st.builds(lambda name: {"name": name, "mountPath": "/x"}, _one_in(8, names.SEAL_VOLUME, "v")), max_size=1
        ),
    },
)


@st.composite
def sealing_pods(draw: st.DrawFn) -> Json:
    """Pods that request to be sealed; a part of them cannot be."""
    pod = draw(some.sound_pods)
    pod["metadata"]["annotations"][names.SEAL] = draw(WORDS)
    spec: Json = pod.get("spec") or {}
    pod["spec"] = spec
    for part in ("containers", "initContainers"):
        for one in spec.get(part) or ():
            if draw(st.booleans()):
                one |= {key: value for key, value in draw(additions).items() if value is not some.ABSENT}
            if draw(_one_in(16, value=True, other=False)):
                one["name"] = draw(st.sampled_from(OUR_NAMES))
    if draw(st.booleans()):
        spec["containers"] = [*(spec.get("containers") or ()), {"name": names.SIDECAR}]
    members: Mapping[str, st.SearchStrategy[object]] = {
        "volumes": some.maybe(st.lists(volumes, max_size=2)),
        "imagePullSecrets": st.sampled_from([some.ABSENT, None, [], [{"name": "p"}]]),
        "securityContext": st.sampled_from([some.ABSENT, None, {}, {"runAsUser": 0}]),
        "os": st.sampled_from([some.ABSENT] * 8 + [{"name": "windows"}]),
    }
    spec |= {key: value for key, one in members.items() if (value := draw(one)) is not some.ABSENT}
    return pod


policies = st.builds(
    Policy,
    seal=st.sampled_from([SealMode.ON_REQUEST, SealMode.ALWAYS]),
    seal_image=st.just("registry/image:1"),
    seal_image_pull_secrets=st.sampled_from([(), ("p",), ("p", "q")]),
    conflict=st.sampled_from(Conflict),
)
each = given(sealing_pods(), policies)


def spec_of(pod: Json) -> SealingSpec:
    """What the rules read of the Pod."""
    return msgspec.json.decode(encode(pod["spec"]), type=SealingSpec)


def tokens_of(pod: Json) -> dict[str, tuple[str, str]]:
    """The Secrets and keys that the Pod requests, by variable."""
    annotations = pod["metadata"]["annotations"]
    members = (
        (names.API_TOKEN_ENV, names.API_TOKEN_SECRET, names.API_TOKEN_KEY),
        (names.APP_TOKEN_ENV, names.APP_TOKEN_SECRET, names.APP_TOKEN_KEY),
    )
    return {
        variable: (annotations[secret], annotations.get(key, names.DAPR_FIXED_KEY))
        for variable, secret, key in members
        if secret in annotations
    }


def file_entry(variable: str) -> Json:
    source = {"volumeName": names.SEAL_VOLUME, "path": names.SEAL_FILE, "key": variable}
    return {"name": variable, "valueFrom": {"fileKeyRef": source}}


def effective(container: Json, variable: str) -> Json | None:
    """The entry that the kubelet uses."""
    return next((one for one in reversed(container.get("env") or []) if one["name"] == variable), None)


@each
def test_pod_is_sealed_as_a_whole_or_not_at_all(pod: Json, policy: Policy) -> None:
    result = patched(pod, ask(review(pod), policy))

    wanted = tokens_of(pod)
    spec = spec_of(result)
    found = {variable: (ref.name, ref.key) for variable, ref in sealed_tokens(spec).items()}
    if not found:
        # Nothing of the seal was added.
        assert [file_entry(one) in (c.get("env") or []) for c in containers(result) for one in wanted] == [
            file_entry(one) in (c.get("env") or []) for c in containers(pod) for one in wanted
        ]
        assert without_env(result) == without_env(pod)
        return
    assert found == wanted
    # The kubelet of each container that gets the token reads the file, which the check container has checked.
    init = result["spec"]["initContainers"]
    before = first_reader(spec) - 2
    assert tuple(one["name"] for one in init[before : before + 2]) == OUR_NAMES
    assert not [one for one in init[:before] for variable in wanted if effective(one, variable) == file_entry(variable)]
    for container in containers(result):
        uses = [variable for variable in wanted if effective(container, variable) == file_entry(variable)]
        assert container.get("name") != names.SIDECAR or uses == list(wanted)
        # No container keeps following the Secret.
        if container.get("name") != names.SEAL_CONTAINER:
            refs = [((one.get("valueFrom") or {}).get("secretKeyRef")) or {} for one in container.get("env") or ()]
            assert not [ref for ref in refs if (ref.get("name", ""), ref.get("key", "")) in wanted.values()]
            sources = [(one.get("secretRef") or {}).get("name") for one in container.get("envFrom") or ()]
            assert not {secret for secret, _ in wanted.values()}.intersection(sources)


def without_env(pod: Json) -> Json:
    """The spec without variables."""
    result: Json = copy.deepcopy(pod["spec"])
    for container in containers({"spec": result}):
        container.pop("env", None)
    return result


@each
def test_usual_pod_has_neither_seal_nor_problem(pod: Json, policy: Policy) -> None:
    before, after = spec_of(pod), spec_of(patched(pod, ask(review(pod), policy)))
    wanted = tuple((variable, TokenRef(*ref)) for variable, ref in tokens_of(pod).items())

    for spec in (before, after):
        if is_usual(spec):
            assert not sealed_tokens(spec)
            assert pod_problem(spec, wanted, {}) is None


@each
def test_sealing_only_adds(pod: Json, policy: Policy) -> None:
    admission = ask(review(pod), policy)
    result = patched(pod, admission)

    for operation in operations_of(admission):
        assert operation["op"] == "add" or operation["path"].rpartition("/")[2].isdigit()
    if sealed_tokens(spec_of(result)):
        spec = result["spec"]
        spec["initContainers"] = [one for one in spec["initContainers"] if one.get("name") not in OUR_NAMES]
        spec["volumes"] = [one for one in spec["volumes"] if one["name"] != names.SEAL_VOLUME]
        before = pod["spec"].get("imagePullSecrets") or []
        assert (spec.get("imagePullSecrets") or [])[: len(before)] == before
        spec["imagePullSecrets"] = before
    lists = ("initContainers", "volumes", "imagePullSecrets")
    for one in (result, pod):
        one["spec"] |= {name: one["spec"].get(name) or [] for name in lists}
    assert without_env(result) == without_env(pod)


@each
def test_sealed_pod_needs_no_change(pod: Json, policy: Policy) -> None:
    result = patched(pod, ask(review(pod), policy))

    again = ask(review(result), policy)

    assert operations_of(again) == []
    later = copy.deepcopy(result)
    later["metadata"]["annotations"][names.SEAL] = "false"
    if sealed_tokens(spec_of(result)):
        assert operations_of(ask(review(later), Policy(conflict=policy.conflict))) == []


@each
def test_pod_that_is_not_sealed_gets_ordinary_references_and_a_reason(pod: Json, policy: Policy) -> None:
    declined = copy.deepcopy(pod)
    declined["metadata"]["annotations"][names.SEAL] = "false"

    asked, ordinary = ask(review(pod), policy), ask(review(declined), policy)

    has_sidecar = any(one.get("name") == names.SIDECAR for one in containers(pod))
    if not sealed_tokens(spec_of(patched(pod, asked))):
        assert operations_of(asked) == operations_of(ordinary)
        reasons = [line for line in response_of(asked).get("warnings", []) if line.startswith("not sealed: ")]
        assert len(reasons) == has_sidecar
    assert all(len(line) <= names.MAX_WARNING for line in response_of(asked).get("warnings", []))


@given(sealing_pods(), policies, st.permutations(range(3)))
def test_sealing_in_the_second_round_has_the_result_of_one_round(pod: Json, policy: Policy, order: list[int]) -> None:
    spec = pod["spec"]
    spec["containers"] = spec.get("containers") or []
    for part in ("containers", "initContainers"):
        if spec.get(part):
            spec[part] = [one for one in spec[part] if one.get("name") != names.SIDECAR]
    pod["metadata"]["annotations"].pop(names.STATUS, None)

    first = patched(pod, ask(review(pod), policy))
    two_rounds, one_round = (dapr_adds_a_sidecar(one, order) for one in (first, pod))
    two_rounds, one_round = (patched(one, ask(review(one), policy)) for one in (two_rounds, one_round))

    assert not sealed_tokens(spec_of(first))
    assert two_rounds["spec"] == one_round["spec"]
    assert recorded(two_rounds) == recorded(one_round)
    assert operations_of(ask(review(two_rounds), policy)) == []
