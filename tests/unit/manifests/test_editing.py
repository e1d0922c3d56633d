"""Where entries go and what they look like, what is refused, and that everything can be taken out again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from injector.core.model import Conflict, Policy
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError
from injector.manifests.uninjecting import EntryOutcome, UninjectOutcome, evaluate
from tests import builders
from tests.unit.manifests.working import HEAD, inject, pod, uninject

_EMPTY = "env is empty, and uninject could not restore it; remove it here"
_BY_MERGE = r"env comes by a merge key \(<<\); write it out here instead"
_BY_ALIAS = r"env comes by the alias \*l; write it out here instead"
ENTRY = "{name: DAPR_API_TOKEN, valueFrom: {secretKeyRef: {name: s, key: token}}}"


def changed(spec: str, policy: Policy | None = None) -> str:
    """What becomes of a Pod's spec, the record left out."""
    text = inject(pod(spec), policy)
    lines = [line for line in text.splitlines(keepends=True) if "dapr-token-injector/status" not in line]
    return "".join(line.removeprefix("  ") for line in lines[len(HEAD.splitlines()) :])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("containers: [{name: daprd}]", f"containers: [{{name: daprd, env: [{ENTRY}]}}]"),
        ("containers: [{name: daprd, }]", f"containers: [{{name: daprd, env: [{ENTRY}], }}]"),
        (
            "containers: [{name: daprd, env: [{name: A}]}]",
            f"containers: [{{name: daprd, env: [{{name: A}}, {ENTRY}]}}]",
        ),
        (
            "containers:\n- name: daprd\n  env: [{name: A}]",
            f"containers:\n- name: daprd\n  env: [{{name: A}}, {ENTRY}]",
        ),
    ],
)
def test_flow_text_stays_on_its_line(before: str, after: str) -> None:
    assert changed(before) == after
    assert uninject(inject(pod(before))) == pod(before)


def test_entry_replaces_empty_entry_only() -> None:
    before = 'containers:\n- name: daprd\n  env:\n  - name: DAPR_API_TOKEN # c\n    value: ""   # empty\n  - name: B\n'
    assert changed(before) == (
        "containers:\n- name: daprd\n  env:\n  - name: DAPR_API_TOKEN\n    valueFrom:\n      secretKeyRef:\n"
        "        name: s\n        key: token   # empty\n  - name: B\n"
    )


@pytest.mark.parametrize(
    "entry", ["{name: DAPR_API_TOKEN}", "{name: DAPR_API_TOKEN, valueFrom: {secretKeyRef: {name: o, key: k}}}"]
)
def test_replacing_works_in_flow_text_json_and_behind_an_alias(entry: str) -> None:
    policy = Policy(conflict=Conflict.REPLACE)
    assert changed(f"containers: [{{name: daprd, env: [{entry}]}}]", policy) == (
        f"containers: [{{name: daprd, env: [{ENTRY}]}}]"
    )
    aliased = f"volumes: [&v {entry}]\ncontainers:\n- name: daprd\n  env:\n  - *v\n  - name: B\n"
    assert "  - name: DAPR_API_TOKEN\n    valueFrom:\n" in changed(aliased, policy)
    assert f"&v {entry}" in changed(aliased, policy)


def test_replacing_in_json_keeps_its_lines() -> None:
    head = '{"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"dapr.io/enabled": "true", '
    head += '"dapr.io/api-token-secret": "s"}}, "spec": {"containers": [{"name": "daprd", "env": [\n'
    text = inject(head + '  {\n    "name": "DAPR_API_TOKEN"\n  },\n  {"name": "B"}\n]}]}}')
    assert text.endswith(
        '  {\n    "name": "DAPR_API_TOKEN",\n    "valueFrom": {\n      "secretKeyRef": {\n        "name": "s",\n'
        '        "key": "token"\n      }\n    }\n  },\n  {"name": "B"}\n]}]}}'
    )
    assert '"DAPR_API_TOKEN", "valueFrom"' in inject(head + '  {"name": "DAPR_API_TOKEN", "value": ""}]}]}}')


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "containers:\n- name: daprd\n  env: &e [{name: A}]\n- {name: b, env: *e}",
            "&e",
        ),
        ("initContainers:\n- &c\n  name: daprd\ncontainers:\n- *c\n", r"comes by the alias \*c; write"),
        ("containers:\n- &c\n  name: daprd\nvolumes: [*c]\n", "&c, which line 12 also uses"),
        ("initContainers: [&c {name: daprd}]\ncontainers: [*c]\n", "comes by the alias "),
        ("initContainers: []\ncontainers:\n- {name: daprd, env: }\n", _EMPTY),
        ("containers: [{name: daprd, env: []}]\n", _EMPTY),
        ("containers:\n- name: daprd\n  env: []", _EMPTY),
        ("containers:\n- name: daprd\n  env: null", _EMPTY),
        ("containers:\n- name: daprd\n  env: ~ # c", _EMPTY),
        ("containers:\n- name: daprd\n  env: # c\n", _EMPTY),
        ("containers:\n- name: daprd\n  env: &nothing\n- {name: b, env: *nothing}\n", _EMPTY),
        ("volumes: [&n ~]\ncontainers:\n- name: daprd\n  env: *n\n", _EMPTY),
        ("volumes: [&l []]\ncontainers:\n- name: daprd\n  env: *l\n", _EMPTY),
        ("containers:\n- name: daprd\n  <<: {env: [{name: A}]}\n", _BY_MERGE),
        ("containers:\n- name: daprd\n  <<: {env: [{name: DAPR_API_TOKEN}]}\n", _BY_MERGE),
        ("volumes: [&l [{name: A}]]\ncontainers:\n- name: daprd\n  env: *l\n", _BY_ALIAS),
        ("volumes: [&l [{name: A}]]\ncontainers:\n- {name: daprd, env: *l}\n", _BY_ALIAS),
        ("volumes: [&l [{name: DAPR_API_TOKEN}]]\ncontainers:\n- name: daprd\n  env: *l\n", _BY_ALIAS),
        ("volumes: [&l [{name: A}]]\ncontainers:\n- {name: daprd, env: &m [{name: A}]}\n- {name: b, env: *m}\n", "&m"),
        ("containers:\n- name: daprd\n  env:\n  - name: A\n    value: |\n      x", "leaves no place"),
        ("x: &s {containers: [{name: daprd}]}\n<<: *s\n", "comes by a merge key"),
    ],
)
def test_change_of_shared_anchor_is_refused(spec: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        inject(pod(spec))


def test_shared_annotations_are_refused_or_merged() -> None:
    head = "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {}\nspec:\n  containers: [{name: daprd}]\n"
    own = 'dapr.io/enabled: "true", dapr.io/api-token-secret: s'
    shared = head.replace("annotations: {}", f"annotations: &a {{{own}}}\n  labels: *a")
    with pytest.raises(ManifestError, match="the annotations is in the anchor &a"):
        inject(shared)
    aliased = head.replace("annotations: {}", f"labels: &a {{{own}}}\n  annotations: *a")
    assert "annotations: {<<: *a, dapr-token-injector/status: '" in inject(aliased)
    assert uninject(inject(aliased)) == aliased
    by_merge = head.replace("annotations: {}", f"<<: {{annotations: {{{own}}}}}")
    with pytest.raises(ManifestError, match="the annotations come by a merge key"):
        inject(by_merge)


def test_existing_record_is_replaced() -> None:
    for stood in ("old", "", "|\n      two\n      lines", "*x"):
        text = (
            pod("containers: [{name: daprd}]\n")
            .replace("  name: x\n", "  name: &x x\n")
            .replace("spec:\n", f"    dapr-token-injector/status: {stood}\nspec:\n", 1)
        )
        assert text.count("dapr-token-injector/status") == 1
        assert """dapr-token-injector/status: '{"v":1,"injected":[""" in inject(text)
    odd = pod("containers: [{name: daprd}]\n").replace(
        "spec:\n", "    dapr-token-injector/status:\n      a: b\nspec:\n", 1
    )
    with pytest.raises(ManifestError, match="dapr-token-injector/status is a collection"):
        inject(odd)


@pytest.mark.parametrize("value", ["true", "1", "[a]", "{}"])
def test_annotation_that_is_not_text_is_reported_with_line(value: str) -> None:
    with pytest.raises(ManifestError, match=r"the annotation dapr.io/enabled is a .*; put it into quotes") as caught:
        inject(pod("containers: [{name: daprd}]").replace('"true"', value))
    assert caught.value.line == 6


@pytest.mark.parametrize("env", ["1", "{}", "text"])
def test_env_that_is_not_a_list_is_reported_with_line(env: str) -> None:
    with pytest.raises(ManifestError, match="not a list of variables") as caught:
        inject(pod(f"initContainers: [{{name: a}}]\ncontainers:\n- name: daprd\n  env: {env}\n"))
    assert caught.value.line == 12


def test_malformed_template_is_reported() -> None:
    with pytest.raises(ManifestError, match="does not match its kind"):
        inject(pod("containers: [{name: 5}]\n"))


# --- the other way round ---


def entry_outcomes(text: str) -> list[EntryOutcome]:
    return [outcome for document in read(text, "f") for result in evaluate(document) for _, outcome in result.entries]


def test_uninject_removes_only_identical_entries() -> None:
    text = inject(pod("containers:\n- name: daprd\n- name: web\n  env:\n  - name: DAPR_API_TOKEN\n"))
    edited = text.replace("key: token", "key: other")
    assert entry_outcomes(text) == [EntryOutcome.REMOVED]
    assert entry_outcomes(edited) == [EntryOutcome.CHANGED]
    assert "key: other" in uninject(edited)
    assert "status" not in uninject(edited)
    gone = text.replace("- name: DAPR_API_TOKEN", "- name: ANOTHER", 1)
    assert entry_outcomes(gone) == [EntryOutcome.GONE]


def test_uninject_keeps_entry_that_replaced_another() -> None:
    text = inject(pod("containers:\n- name: daprd\n  env:\n  - name: DAPR_API_TOKEN\n"))
    assert entry_outcomes(text) == [EntryOutcome.REPLACED]
    assert uninject(text) == "".join(line for line in text.splitlines(keepends=True) if "/status" not in line)


def test_invalid_record_is_not_modified() -> None:
    text = pod("containers: [{name: daprd}]\n").replace("spec:\n", "    dapr-token-injector/status: x\nspec:\n", 1)
    assert uninject(text) == text
    assert [result.outcome for document in read(text, "f") for result in evaluate(document)] == [
        UninjectOutcome.BAD_RECORD
    ]
    assert [result.outcome for document in read(pod("containers: []\n"), "f") for result in evaluate(document)] == [
        UninjectOutcome.NO_RECORD
    ]


RECORD = '{"v":1,"injected":[{"container":"daprd","env":"DAPR_API_TOKEN","name":"s","key":"token"}]}'


def recorded(spec: str) -> str:
    """A Pod with a record, edited after the injection."""
    return pod(spec).replace("spec:\n", f"    dapr-token-injector/status: '{RECORD}'\nspec:\n", 1)


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        (
            f"containers: [{{env: [{ENTRY}, {{name: B}}], name: daprd}}]",
            "containers: [{env: [{name: B}], name: daprd}]",
        ),
        (f"containers: [{{env: [{ENTRY}], name: daprd}}]", "containers: [{name: daprd}]"),
        (f"containers:\n- env:\n  - {ENTRY}\n  name: daprd", "containers:\n- env: []\n  name: daprd"),
        (f"containers:\n- name: daprd\n  env: [{ENTRY}]", "containers:\n- name: daprd\n  env: []"),
        (
            f"containers:\n- name: daprd\n  env:\n  - {ENTRY}\n  - name: B",
            "containers:\n- name: daprd\n  env:\n  - name: B",
        ),
        (
            f"containers:\n- name: daprd\n  env: [\n    {{name: A}}, # a\n    {ENTRY}\n  ]\n",
            "containers:\n- name: daprd\n  env: [\n    {name: A} # a\n  ]\n",
        ),
    ],
)
def test_uninject_removes_moved_entry(spec: str, left: str) -> None:
    assert uninject(recorded(spec)) == pod(left)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (f"volumes: [&l [{ENTRY}]]\ncontainers:\n- name: daprd\n  env: *l\n", "env comes by the alias \\*l"),
        (f"containers:\n- name: daprd\n  <<: {{env: [{ENTRY}]}}\n", "env comes by a merge key"),
        (f"containers:\n- name: daprd\n  env: &e\n  - {ENTRY}\n- {{name: b, env: *e}}\n", "is in the anchor &e"),
    ],
)
def test_uninject_refuses_change_of_shared_anchor(spec: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        uninject(recorded(spec))


USE = "{name: H, value: $(DAPR_API_TOKEN)}"
H = "  - name: H\n    value: $(DAPR_API_TOKEN)\n"
OURS = "- name: DAPR_API_TOKEN\n    valueFrom:\n      secretKeyRef:\n        name: s\n        key: token\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f"- name: A\n{H}  - name: B\n",
            f"- name: A\n  {OURS}{H}  - name: B\n",
        ),
        (
            "- name: H # first\n    value: $(DAPR_API_TOKEN)\n",
            f"{OURS}  - name: H # first\n    value: $(DAPR_API_TOKEN)\n",
        ),
        (
            f"# a\n\n  # b\n# c\n{H}",
            f"# a\n\n  {OURS}  # b\n# c\n{H}",
        ),
        (
            f"- name: A\n    value: |+\n      a\n      # in A\n\n  # of H\n{H}",
            f"- name: A\n    value: |+\n      a\n      # in A\n\n  {OURS}  # of H\n{H}",
        ),
        (
            f"- name: A\n    value: |\n      # in A\n  - &u\n    {H[4:]}  - *u\n",
            f"- name: A\n    value: |\n      # in A\n  {OURS}  - &u\n    {H[4:]}  - *u\n",
        ),
    ],
)
def test_entry_is_inserted_above_its_first_use_and_the_comments_of_that(before: str, after: str) -> None:
    head = "containers:\n- name: daprd\n  env:\n  "
    assert changed(head + before) == head + after
    for text in (pod(head + before), pod(head + before).replace("\n", "\r\n")):
        assert uninject(inject(text)) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"[{USE}]", f"[{ENTRY}, {USE}]"),
        (f"[ {USE}, {{name: B}}]", f"[ {ENTRY}, {USE}, {{name: B}}]"),
        (f"[{{name: A}} ,{USE}]", f"[{{name: A}}, {ENTRY} ,{USE}]"),
        (f"[{{name: A}} # a\n    , {USE}]", f"[{{name: A}}, {ENTRY} # a\n    , {USE}]"),
        (f"[ # all\n    {USE}\n  ]", f"[ # all\n    {ENTRY},\n    {USE}\n  ]"),
        (
            f"[{{name: A}}, # a\n    # of H\n    {USE},\n  ]",
            f"[{{name: A}}, # a\n    {ENTRY},\n    # of H\n    {USE},\n  ]",
        ),
    ],
)
def test_entry_is_inserted_before_its_first_use_in_flow_text(before: str, after: str) -> None:
    head = "containers:\n- name: daprd\n  env: "
    assert changed(head + before) == head + after
    assert uninject(inject(pod(head + before))) == pod(head + before)


@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"separators": (",", ":")}])
@pytest.mark.parametrize("uses", ["$(APP_API_TOKEN)$(DAPR_API_TOKEN)", "$(APP_API_TOKEN)", "$(DAPR_API_TOKEN)"])
def test_both_entries_are_inserted_into_json_and_removed_again(style: dict[str, Any], uses: str) -> None:
    env = [{"name": "A", "value": "$(DAPR_API_TOKEN"}, {"name": "H", "value": uses}, {"name": "I", "value": USE}]
    text = json.dumps(
        builders.pod(builders.asking(app_token_secret="t"), [builders.sidecar(*env)]), ensure_ascii=False, **style
    )

    changed_text = inject(text)

    found = [entry["name"] for entry in json.loads(changed_text)["spec"]["containers"][0]["env"]]
    before = ["DAPR_API_TOKEN"] if "DAPR" in uses else []
    last = [] if before else ["DAPR_API_TOKEN"]
    app = ["APP_API_TOKEN"] if "APP" in uses else []
    tail = [] if app else ["APP_API_TOKEN"]
    assert found == ["A", *before, *app, "H", *last, "I", *tail]
    assert uninject(changed_text) == text


def test_entry_is_inserted_before_one_that_is_replaced() -> None:
    env = '[{name: DAPR_API_TOKEN, value: ""}, {name: H, value: $(APP_API_TOKEN)}, {name: APP_API_TOKEN}]'
    head = HEAD.replace("api-token-secret: s", "api-token-secret: s\n    dapr.io/app-token-secret: t")
    text = head + f"  containers: [{{name: daprd, env: {env}}}]\n"
    own = text.replace('value: ""', "value: $(APP_API_TOKEN)").replace(", {name: APP_API_TOKEN}]", "]")
    app = ENTRY.replace("DAPR", "APP").replace("name: s", "name: t")

    assert f"env: [{ENTRY}, {{name: H, value: $(APP_API_TOKEN)}}, {app}]" in inject(text)
    assert f"env: [{app}, {ENTRY}, {{name: H, value: $(APP_API_TOKEN)}}]" in inject(
        own, Policy(conflict=Conflict.REPLACE)
    )


def test_entry_is_refused_where_the_list_begins_on_the_line_of_its_key() -> None:
    spec = "containers:\n- name: daprd\n  ? env\n  : - name: H\n      value: $(DAPR_API_TOKEN)\n"
    with pytest.raises(ManifestError, match="there is more on its line; write env as a list of lines"):
        inject(pod(spec))


def test_open_references_and_comments_do_not_move_the_entry() -> None:
    env = "".join(f"  # c\n  - name: A{i}\n    value: $(DAPR_API_TOKEN{'$(' * 20}\n" for i in range(300))
    spec = f"containers:\n- name: daprd\n  env:\n{env}  - {USE}\n"
    assert changed(spec) == spec.replace(f"  - {USE}\n", f"  {OURS}  - {USE}\n")
