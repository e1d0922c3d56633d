"""Laws of the offline commands for sealed Pods, in any style and with any lists around the seal."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from injector.core.model import Conflict, Policy, SealMode
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError
from tests.offline.test_laws import containers_of, patched_by_the_webhook, refs, styles, words, wrapped, written
from tests.unit.manifests.working import inject, patched, uninject

SEALING: Final = Policy(
    seal=SealMode.ALWAYS, seal_image="registry.example/dapr-token-injector@sha256:0", seal_image_pull_secrets=("pull",)
)
FILES: Final = sorted((Path(__file__).parent / "corpus" / "own").iterdir())
_LISTS: Final = ("volumes", "initContainers", "imagePullSecrets")


def _listed(items: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    return st.lists(items, min_size=1, max_size=most) | st.lists(items, max_size=1) | st.none()


_env = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["A", "B"])}, optional={"value": words})
    | st.fixed_dictionaries({"name": st.just("H"), "value": st.sampled_from(["$(DAPR_API_TOKEN)", "$(APP_API_TOKEN)"])})
    | st.just({"name": "DAPR_API_TOKEN", "value": ""})
    | st.just({"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}})
    | st.just({"name": "APP_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "t", "key": "token"}}})
    | st.fixed_dictionaries({"name": st.just("A"), "valueFrom": st.fixed_dictionaries({"secretKeyRef": refs})}),
    min_size=1,
    max_size=3,
    unique_by=lambda entry: str(entry["name"]),
)


def _container(name: str) -> st.SearchStrategy[Any]:
    resources = st.fixed_dictionaries(
        {}, optional={"limits": st.just({"memory": "1Gi"}), "requests": st.just({"cpu": 1})}
    )
    optional = {"image": words, "env": _env, "args": st.lists(words, max_size=2), "resources": resources}
    return st.fixed_dictionaries({"name": st.just(name)}, optional=optional)


@st.composite
def sealable(draw: st.DrawFn) -> dict[str, Any]:
    """A template with a sidecar, regular or native, that requests tokens."""
    sidecar = draw(_container("daprd"))
    regular = [draw(_container(name)) for name in draw(st.sampled_from([["web"], ["web", "b"]]))]
    first = [draw(_container(name)) for name in draw(st.sampled_from([[], ["i"], ["i", "j"]]))]
    spec: dict[str, Any] = {"containers": regular}
    if draw(st.booleans()):
        first.insert(draw(st.integers(0, len(first))), {**sidecar, "restartPolicy": "Always"})
    else:
        regular.insert(draw(st.integers(0, len(regular))), sidecar)
    if first:
        spec["initContainers"] = first
    lists: dict[str, st.SearchStrategy[Any]] = {
        "initContainers": st.none() | st.just([]),
        "volumes": _listed(
            st.just({"name": "v", "emptyDir": {}}) | st.just({"name": "w", "secret": {"secretName": "x"}}), 2
        ),
        "imagePullSecrets": _listed(st.just({"name": "own"}) | st.just({"name": "pull"}), 1),
        "nodeName": words,
    }
    spec = draw(st.fixed_dictionaries({}, optional=lists)) | spec
    keys = draw(st.permutations(list(spec)))
    annotations = {
        "dapr.io/enabled": "true",
        "dapr.io/api-token-secret": "s",
        "dapr-token-injector/app-containers": draw(st.sampled_from(["*", "web", "*,i"])),
        **draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "dapr.io/app-token-secret": st.just("t"),
                    "dapr-token-injector/seal": st.sampled_from(["true", "on", "t", "false", "sometimes"]),
                },
            )
        ),
    }
    template = {"metadata": {"annotations": annotations}, "spec": {key: spec[key] for key in keys}}
    copy: dict[str, Any] = json.loads(json.dumps(template))  # without shared parts, which YAML writes as anchors
    return copy


policies = st.builds(
    Policy,
    conflict=st.sampled_from(Conflict),
    seal=st.just(SealMode.ALWAYS) | st.just(SealMode.ALWAYS) | st.sampled_from(SealMode),
    seal_image=st.just("registry:5000/seal:1") | st.just(SEALING.seal_image),
    seal_image_pull_secrets=st.sampled_from([(), ("pull",), ("pull", "other")]),
)


def injected(template: dict[str, Any], kind: str, style: str, policy: Policy) -> tuple[str, str] | None:
    """A template's object as text before and after; None where a part of the seal has no place but an empty list."""
    before = written(wrapped(template, kind), style)
    after = patched_by_the_webhook(template, policy)
    old, new = template["spec"], after["spec"]
    if any(key in old and not old[key] and new[key] for key in _LISTS):
        with pytest.raises(ManifestError, match="is empty, and uninject could not restore it; remove it here"):
            inject(before, policy)
        return None
    return before, inject(before, policy)


@settings(deadline=None)
@given(sealable(), st.sampled_from(["Pod", "Rollout"]), styles, policies)
def test_inject_seals_as_the_webhook_does(template: dict[str, Any], kind: str, style: str, policy: Policy) -> None:
    texts = injected(template, kind, style, policy)
    if texts is not None:
        (document,) = read(texts[1], "f")
        assert document.value == wrapped(patched_by_the_webhook(template, policy), kind)


@settings(deadline=None)
@given(sealable(), styles, policies)
def test_uninject_restores_a_sealed_file(template: dict[str, Any], style: str, policy: Policy) -> None:
    texts = injected(template, "Pod", style, policy)
    if texts is None:
        return
    restored = uninject(texts[1])
    if '"replaced":true' not in texts[1].replace("\\", ""):
        assert restored == texts[0]
    assert "dapr-token-injector-seal" not in restored
    (document,) = read(restored, "f")
    value: Any = document.value
    assert [one.get("name") for one in containers_of(value)] == [one.get("name") for one in containers_of(template)]


@settings(deadline=None)
@given(sealable(), styles, policies)
def test_second_inject_changes_no_sealed_file(template: dict[str, Any], style: str, policy: Policy) -> None:
    texts = injected(template, "Pod", style, policy)
    if texts is not None:
        assert inject(texts[1], policy) == texts[1]


@settings(deadline=None)
@given(sealable(), styles, policies)
def test_file_with_references_is_sealed_later(template: dict[str, Any], style: str, policy: Policy) -> None:
    """A policy that seals replaces the references of an earlier `inject`; `uninject` takes both out."""
    before = written(wrapped(template, "Pod"), style)
    unsealed = inject(before, Policy(conflict=policy.conflict))
    (document,) = read(unsealed, "f")
    value: Any = document.value
    texts = injected({key: value[key] for key in ("metadata", "spec")}, "Pod", style, policy)
    if texts is not None and '"replaced":true' not in unsealed.replace("\\", ""):
        (restored,) = read(uninject(inject(unsealed, policy)), "f")
        assert restored.value == wrapped(template, "Pod")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_seal_of_own_corpus_is_removed_byte_for_byte(path: Path) -> None:
    text = path.read_bytes().decode()
    sealed = inject(text, SEALING)
    assert ("daprd" in text) == ("dapr-token-injector-seal-check" in sealed)
    assert inject(sealed, SEALING) == sealed
    assert uninject(sealed) == text
    assert [document.value for document in read(sealed, path.name)] == patched(text, SEALING)


_anything = st.none() | st.integers() | words | st.lists(st.none() | words, max_size=2) | st.dictionaries(words, words)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A sealed file with other values in a few places."""
    pod = wrapped(draw(sealable()), "Pod")
    whole: Any = {"root": json.loads(json.dumps(patched(json.dumps(pod), SEALING)[0]))}
    for _ in range(draw(st.integers(1, 3))):
        node: Any = whole
        path: list[tuple[Any, Any]] = []
        while isinstance(node, dict | list) and node and (not path or draw(st.integers(0, 5))):
            path.append((node, draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))))
            node = path[-1][0][path[-1][1]]
        holder, step = path[-1]
        if len(path) > 1:
            holder[step] = draw(_anything)
    return json.dumps(whole["root"])


@settings(deadline=None)
@given(damaged())
def test_damaged_seal_is_an_answer_or_an_error_with_its_place(text: str) -> None:
    for command in (uninject, lambda text: inject(text, SEALING)):
        with suppress(ManifestError):
            list(read(command(text), "f"))
