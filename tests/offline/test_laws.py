"""Laws of the offline commands, for any template in any style."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonpatch
import pytest
import yaml  # type: ignore[import-untyped] # it brings no types
from hypothesis import given, settings
from hypothesis import strategies as st

from injector.core.admit import admit
from injector.core.model import Conflict, Endpoint, Policy
from injector.manifests.chunks import split
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError
from tests.unit.manifests.working import inject, uninject

words = st.sampled_from(["a", "web", "on", "1", "x y", "#", "- a", "é", "'", '"', "", "{", "a: b", "\U0001f600", "|"])
refs = st.fixed_dictionaries(
    {"name": st.sampled_from(["s", "t", "1", "no"]), "key": st.sampled_from(["token", "k"])},
    optional={"optional": st.booleans()},
)
uses = st.sampled_from(
    ["$(DAPR_API_TOKEN)", "a=$(APP_API_TOKEN),b", "$$(DAPR_API_TOKEN)", "$(APP_API_TOKEN)$(DAPR_API_TOKEN)"]
)
variables = st.fixed_dictionaries(
    {"name": st.sampled_from(["A", "DAPR_API_TOKEN", "APP_API_TOKEN"])},
    optional={"value": words | uses, "valueFrom": st.fixed_dictionaries({"secretKeyRef": refs})},
)
containers = st.fixed_dictionaries(
    {"name": st.sampled_from(["daprd", "web", "b"])},
    optional={
        "image": words,
        "env": st.one_of(st.none(), st.lists(variables, max_size=3)),
        "args": st.lists(words, max_size=2),
        "restartPolicy": st.just("Always"),
    },
)
templates = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {
                "annotations": st.fixed_dictionaries(
                    {"dapr.io/enabled": st.sampled_from(["true", "on", "no"])},
                    optional={
                        "dapr.io/api-token-secret": st.sampled_from(["s", "1", "on", "Bad_Name"]),
                        "dapr.io/app-token-secret": st.sampled_from(["t", "0x1"]),
                        "dapr-token-injector/app-containers": st.sampled_from(["*", "web"]),
                        "note": words,
                    },
                )
            }
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(containers, min_size=1, max_size=3)},
            optional={"initContainers": st.lists(containers, max_size=2), "nodeName": words},
        ),
    }
)
policies = st.builds(Policy, conflict=st.sampled_from(Conflict))


def written(value: object, style: str) -> str:
    """A value as text in one of several styles."""
    if style == "json":
        return json.dumps(value)
    if style == "pretty":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    text: str = yaml.safe_dump(
        value,
        sort_keys=False,
        allow_unicode=style != "narrow",
        default_flow_style=style == "flow",
        width=40 if style == "narrow" else 4096,
        indent=4 if style == "indented" else 2,
        line_break="\r\n" if style == "crlf" else "\n",
    )
    return text


styles = st.sampled_from(["json", "pretty", "flow", "block", "narrow", "indented", "crlf"])


def wrapped(template: dict[str, Any], kind: str) -> dict[str, Any]:
    """A template in an object that has one."""
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": "Pod", **template}
    return {"apiVersion": "x/v1", "kind": kind, "spec": {"template": template}}


def patched_by_the_webhook(template: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """What the API server would make of the template's Pod."""
    request = {
        "uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "object": template,
    }
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
    answer = admit(body, endpoint=Endpoint.MUTATE, policy=policy)
    patch = json.loads(answer.body)["response"].get("patch")
    if patch is None:
        return template
    changed: dict[str, Any] = jsonpatch.apply_patch(template, json.loads(base64.b64decode(patch)))
    return changed


def injected(template: dict[str, Any], kind: str, style: str, policy: Policy | None = None) -> tuple[str, str] | None:
    """A template's object as text before and after; None where an entry has no place but an empty `env`."""
    before = written(wrapped(template, kind), style)
    patched = patched_by_the_webhook(template, policy or Policy())
    pairs = zip(containers_of(template), containers_of(patched), strict=True)
    if any("env" in old and not old["env"] and new["env"] for old, new in pairs):
        with pytest.raises(ManifestError, match="env is empty, and uninject could not restore it; remove it here"):
            inject(before, policy)
        return None
    return before, inject(before, policy)


@settings(deadline=None)
@given(templates, st.sampled_from(["Pod", "Rollout"]), styles, policies)
def test_inject_is_the_webhooks_patch_applied(template: dict[str, Any], kind: str, style: str, policy: Policy) -> None:
    texts = injected(template, kind, style, policy)
    if texts is None:
        return
    (document,) = read(texts[1], "f")
    assert document.value == wrapped(patched_by_the_webhook(template, policy), kind)


def containers_of(template: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of both lists."""
    spec = template.get("spec") or {}
    return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]


@settings(deadline=None)
@given(templates, styles)
def test_uninject_restores_the_injected_file(template: dict[str, Any], style: str) -> None:
    texts = injected(template, "Pod", style)
    if texts is None:
        return
    text, changed = texts
    if '"replaced":true' in changed.replace("\\", ""):
        return  # the replaced entry is not recorded
    names = [container.get("name") for container in containers_of(template)]
    if len(names) != len(set(names)):
        return  # the record names containers, and an API server demands different names
    assert uninject(changed) == text


@settings(deadline=None)
@given(templates, styles, policies)
def test_second_inject_changes_nothing(template: dict[str, Any], style: str, policy: Policy) -> None:
    texts = injected(template, "Pod", style, policy)
    if texts is not None:
        assert inject(texts[1], policy) == texts[1]


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), words, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)


@settings(deadline=None)
@given(values)
def test_json_reads_back_as_itself(value: object) -> None:
    holder = {"v": value}
    for text in (json.dumps(holder), json.dumps(holder, indent=1, ensure_ascii=False)):
        (document,) = read(text, "f")
        assert document.value == holder


@settings(deadline=None)
@given(st.lists(templates, max_size=4), styles)
def test_joined_chunks_are_the_text_and_positions_match(several: list[dict[str, Any]], style: str) -> None:
    text = "---\n".join(written(wrapped(template, "Pod"), style).rstrip() + "\n" for template in several)
    assert "".join(piece.text for piece in split([text])) == text
    lines = text.split("\n")
    found = list(read(text, "f"))
    assert len(found) == len(several)
    for document in found:
        place = document.position(("spec", "containers"))
        assert lines[place.line - 1][place.column - 1 :].lstrip('"').startswith("containers")


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="ab:-#[]{}&*!|>'\"\n\r\t ?,%<", max_size=40))
def test_any_text_is_read_or_rejected(text: str) -> None:
    errors: list[ManifestError] = []
    list(read(text, "f", on_error=errors.append))
    assert all(error.line >= 1 for error in errors)
    assert "".join(piece.text for piece in split([text])) == text
