"""What every patch does, and what it never does."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from injector.core import names
from tests.builders import Json, ask, encode, operations_of, patched, review
from tests.property import strategies as some

if TYPE_CHECKING:
    from collections.abc import Iterator

    from injector.core.model import Endpoint, Policy

MANAGED = (names.API_TOKEN_ENV, names.APP_TOKEN_ENV)
each = given(some.pods | some.sound_pods, some.policies, some.mutating)


@each
def test_patch_only_adds_or_replaces_one_entry(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    for operation in operations_of(ask(review(pod), policy, endpoint)):
        assert set(operation) == {"op", "path", "value"}
        assert operation["op"] in {"add", "replace"}
        if operation["op"] == "replace":
            assert operation["path"].rpartition("/")[2].isdigit()


@each
def test_patch_keeps_everything_else_and_its_order(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    result = patched(pod, ask(review(pod), policy, endpoint))

    assert without_ours(result) == without_ours(pod)
    for before, after in zip(env_lists(pod), env_lists(result), strict=True):
        # Entries keep their order; a changed entry is the last one of a token variable.
        new = {name for name in MANAGED if name not in [entry["name"] for entry in before]}
        kept = [entry for entry in after if entry["name"] not in new]
        for at, (old, entry) in enumerate(zip(before, kept, strict=True)):
            if old != entry:
                assert old["name"] == entry["name"]
                assert entry["name"] in MANAGED
                assert entry["name"] not in [later["name"] for later in before[at + 1 :]]


@each
def test_added_variable_precedes_its_uses_and_follows_all_others(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    result = patched(pod, ask(review(pod), policy, endpoint))

    for before, after in zip(env_lists(pod), env_lists(result), strict=True):
        found = [entry["name"] for entry in after]
        for name in set(MANAGED).intersection(found).difference(entry["name"] for entry in before):
            at = found.index(name)
            assert not any(name in expanded(entry.get("value")) for entry in after[:at])
            following = next((entry for entry in after[at + 1 :] if entry["name"] not in MANAGED), None)
            assert following is None or name in expanded(following.get("value"))


def expanded(value: object) -> set[str]:
    """The names that Kubernetes expands in a value, read one character at a time."""
    text, found, at = value if isinstance(value, str) else "", set(), 0
    while at < len(text) - 1:
        if text[at : at + 2] == "$(" and ")" in text[at:]:
            end = text.index(")", at)
            found.add(text[at + 2 : end])
            at = end + 1
        else:
            at += 2 if text[at] == "$" else 1
    return found


@each
def test_patch_never_adds_a_duplicate(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    result = patched(pod, ask(review(pod), policy, endpoint))

    for before, after in zip(env_lists(pod), env_lists(result), strict=True):
        for name in MANAGED:
            copies = [entry["name"] for entry in before].count(name)
            assert [entry["name"] for entry in after].count(name) in {copies, max(copies, 1)}


@each
def test_injected_entry_is_exact_and_never_optional(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    for operation in operations_of(ask(review(pod), policy, endpoint)):
        value = operation["value"]
        if isinstance(value, str):
            assert operation["path"] == "/metadata/annotations/dapr-token-injector~1status"
            continue
        (entry,) = value if isinstance(value, list) else [value]
        assert list(entry) == ["name", "valueFrom"]
        assert entry["name"] in MANAGED
        ((source, reference),) = entry["valueFrom"].items()
        assert source in {"secretKeyRef", "configMapKeyRef"}
        assert list(reference) == ["name", "key"]


@each
def test_patched_pod_needs_no_change(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    result = patched(pod, ask(review(pod), policy, endpoint))

    again = ask(review(result), policy, endpoint)

    assert operations_of(again) == []


@each
def test_input_is_not_modified(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    body = bytearray(encode(review(pod)))
    before = bytes(body)

    ask(body, policy, endpoint)

    assert body == before


@given(some.pods | some.sound_pods, some.policies, some.mutating, st.randoms(use_true_random=False))
def test_order_of_members_does_not_change_the_answer(
    pod: Json,
    policy: Policy,
    endpoint: Endpoint,
    random: Any,  # noqa: ANN401 - Hypothesis' own Random
) -> None:
    def shuffled(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
        if isinstance(value, dict):
            members = list(value.items())
            random.shuffle(members)
            return {name: shuffled(member) for name, member in members}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    question = review(pod)

    assert ask(shuffled(question), policy, endpoint).body == ask(question, policy, endpoint).body


@each
def test_escaped_json_has_the_same_answer(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    question = review(pod)
    escaped = "".join(f"\\u{ord(c):04x}" if c.isalnum() and ord(c) < 0x10000 else c for c in "DAPR_API_TOKEN")
    body = encode(question).replace(b"DAPR_API_TOKEN", escaped.encode())

    assert ask(body, policy, endpoint).body == ask(question, policy, endpoint).body


@each
def test_repeated_request_has_the_same_answer(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    assert ask(review(pod), policy, endpoint).body == ask(review(pod), policy, endpoint).body


@each
def test_shadow_mode_has_the_same_decision_and_no_patch(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    acting = ask(review(pod), as_policy(policy, shadow=False), endpoint)
    shadow = ask(review(pod), as_policy(policy, shadow=True), endpoint)

    assert operations_of(shadow) == []
    assert shadow.verdict == "skip"
    expected = {"inject": "would-inject", "deny": "would-deny", "skip": acting.reason}
    assert shadow.reason == expected[acting.verdict]


@each
def test_dry_run_has_the_same_answer(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    wet, dry = (ask(review(pod, dryRun=dry), policy, endpoint).body for dry in (False, True))

    assert wet == dry


@given(some.sound_pods, some.acting_policies, some.mutating)
def test_sidecars_of_an_injected_pod_run_with_a_token(pod: Json, policy: Policy, endpoint: Endpoint) -> None:
    """The guarantee: the variable of `daprd` is never empty and never optional; it is injected or reported as kept."""
    admission = ask(review(pod), policy, endpoint)
    result = patched(pod, admission)

    annotations = pod["metadata"]["annotations"]
    wanted = [(names.API_TOKEN_ENV, annotations[names.API_TOKEN_SECRET])]
    if names.APP_TOKEN_SECRET in annotations:
        wanted.append((names.APP_TOKEN_ENV, annotations[names.APP_TOKEN_SECRET]))
    for container in containers(result):
        if container.get("name") != names.SIDECAR:
            continue
        for name, secret in wanted:
            effective = [entry for entry in container["env"] if entry["name"] == name][-1]
            sources = {kind: ref for kind, ref in (effective.get("valueFrom") or {}).items() if ref is not None}
            assert sources or effective["value"]
            assert not any(isinstance(ref, dict) and ref.get("optional") is True for ref in sources.values())
            if policy.conflict == "replace":
                assert sources["secretKeyRef"]["name"] == secret


@given(some.sound_pods, some.acting_policies, st.integers(-1, 1500), st.sampled_from(["x", "\u00e9", '"']))
def test_patched_annotations_stay_below_the_api_server_limit(pod: Json, policy: Policy, room: int, filler: str) -> None:
    annotations = pod["metadata"]["annotations"]
    annotations["filler"] = ""
    fill, rest = divmod(names.MAX_ANNOTATIONS - size_of(annotations) - room, len(filler.encode()))
    annotations["filler"] = fill * filler + rest * "-"
    before = size_of(annotations)
    plain = copy.deepcopy(pod)
    plain["metadata"]["annotations"]["filler"] = ""

    result = patched(pod, ask(review(pod), policy))

    assert before == names.MAX_ANNOTATIONS - room
    assert size_of(result["metadata"]["annotations"]) <= max(before, names.MAX_ANNOTATIONS)
    assert env_lists(result) == env_lists(patched(plain, ask(review(plain), policy)))


def size_of(annotations: Json) -> int:
    """As the API server counts: keys and values, in UTF-8."""
    return sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items() if isinstance(value, str))


@given(some.sound_pods, some.acting_policies, st.permutations(range(3)))
def test_second_round_has_the_result_of_one_round(pod: Json, policy: Policy, order: list[int]) -> None:
    """Two rounds with `daprd` added in between have the result of one round with `daprd`."""
    spec = pod["spec"] = pod.get("spec") or {}
    spec["containers"] = spec.get("containers") or []
    for name in ("containers", "initContainers"):
        if spec.get(name):
            spec[name] = [container for container in spec[name] if container.get("name") != names.SIDECAR]
    pod["metadata"]["annotations"].pop(names.STATUS, None)

    first = patched(pod, ask(review(pod), policy))
    two_rounds = dapr_adds_a_sidecar(first, order)
    two_rounds = patched(two_rounds, ask(review(two_rounds), policy))
    one_round = dapr_adds_a_sidecar(pod, order)
    one_round = patched(one_round, ask(review(one_round), policy))

    assert env_lists(two_rounds) == env_lists(one_round)
    assert recorded(two_rounds) == recorded(one_round)
    assert operations_of(ask(review(two_rounds), policy)) == []


def dapr_adds_a_sidecar(pod: Json, order: list[int]) -> Json:
    """As Dapr's injector does: `daprd` last in its list, with the annotated Secrets under its fixed key."""
    result = copy.deepcopy(pod)
    annotations = pod["metadata"]["annotations"]
    entries: list[Json] = [{"name": "NAMESPACE", "value": "shop"}]
    for name, secret in (
        (MANAGED[0], annotations[names.API_TOKEN_SECRET]),
        (MANAGED[1], annotations.get(names.APP_TOKEN_SECRET)),
    ):
        if secret is not None:
            entries.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": names.DAPR_FIXED_KEY}}})
    env = [entries[i] for i in order if i < len(entries)]
    result["spec"]["containers"].append({"name": names.SIDECAR, "image": "daprd:1", "env": env})
    return result


def recorded(pod: Json) -> set[str]:
    """The entries of the status annotation, in any order."""
    text = pod["metadata"]["annotations"].get(names.STATUS)
    return {json.dumps(entry) for entry in json.loads(text)["injected"]} if text else set()


def as_policy(policy: Policy, *, shadow: bool) -> Policy:
    """`policy` with or without shadow mode."""
    return replace(policy, shadow=shadow)


def containers(pod: Json) -> Iterator[Json]:
    """All containers of both lists."""
    spec = pod.get("spec") or {}
    for name in ("containers", "initContainers"):
        yield from spec.get(name) or ()


def env_lists(pod: Json) -> list[list[Json]]:
    """The variables of every container; none for an absent or null list."""
    return [container.get("env") or [] for container in containers(pod)]


def without_ours(pod: Json) -> Json:
    """`pod` without the parts that a patch can change: lists of variables and the status annotation."""
    result = copy.deepcopy(pod)
    for container in containers(result):
        container.pop("env", None)
    annotations = (result.get("metadata") or {}).get("annotations")
    if annotations:
        annotations.pop(names.STATUS, None)
    return result
