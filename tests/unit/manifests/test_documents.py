from __future__ import annotations

from typing import Any

import msgspec
import pytest

from injector.manifests.chunks import split
from injector.manifests.documents import Document, Position, read
from injector.manifests.errors import ManifestError
from injector.manifests.yaml_nodes import MAX_DEPTH
from tests.unit.manifests.working import pod


def one(text: str) -> Document:
    (document,) = read(text, "f")
    return document


_STREAM = "%YAML 1.1\n# c\n--- # one\na: 1\n...\n---\n# none\n---\nb: |\n  --- x\nc: '\n  ---'\n---\r\nd: 1\n---"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
def test_blocks_of_any_size_give_same_chunks(size: int) -> None:
    pieces = list(split(_STREAM[i : i + size] for i in range(0, len(_STREAM), size)))
    assert pieces == list(split([_STREAM]))
    assert "".join(piece.text for piece in pieces) == _STREAM


def test_counts_documents_and_lines_from_one() -> None:
    found = [(document.index, document.line, document.value) for document in read(_STREAM, "f")]
    assert found == [(1, 4, {"a": 1}), (2, 8, None), (3, 9, {"b": "--- x\n", "c": " ---"}), (4, 14, {"d": 1})]


def test_marker_at_the_very_end_and_alone() -> None:
    assert [piece.text for piece in split(["a: 1\n---"])] == ["a: 1\n", "---"]
    assert [piece.text for piece in split(["---"])] == ["---"]
    assert list(split([])) == []
    assert list(read("# nothing\n", "f")) == []


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("\ufeffa: 1\n---\n\ufeffa: 2\n", [(1, {"a": 1}), (3, {"a": 2})]),
        ("---\n\ufeffa: 1\n--- # c\r\n# c\r\n\r\n\ufeffa: 2\n", [(2, {"a": 1}), (6, {"a": 2})]),
        ("---\n\ufeff---\na: 1\nb: 2\n", [(3, {"a": 1, "b": 2})]),
        ("\ufeff\ufeffa: 1\nb: 2\n", [(1, {"a": 1, "b": 2})]),
        ('\ufeff{"a": 1}\n\ufeff{"a": 2}\n---\n\ufeff{"a": 3}\n', [(1, {"a": 1}), (2, {"a": 2}), (4, {"a": 3})]),
        ("a: 1\n\ufeff# c\n", [(1, {"a": 1})]),
    ],
)
def test_byte_order_mark_may_begin_each_document(text: str, places: list[tuple[int, object]]) -> None:
    """As for kubectl, which cuts the stream at `---` and parses each piece."""
    assert [(document.line, document.value) for document in read(text, "f")] == places


@pytest.mark.parametrize("text", ["a: 1\n\ufeff---\nb: 1\n", "a: 1\n\ufeffb: 2\n", "--- \ufeff\na: 1\n"])
def test_byte_order_mark_elsewhere_is_an_error(text: str) -> None:
    with pytest.raises(ManifestError, match="not YAML"):
        list(read(text, "f"))


def test_positions_count_from_one_and_fall_back_to_the_nearest_ancestor() -> None:
    document = one("# c\na:\n  - b: 1\n    c: {d: 2}\n")
    assert document.position(()) == Position(2, 1)
    assert document.position(("a",)) == Position(2, 1)
    assert document.position(("a", 0, "c", "d")) == Position(4, 9)
    assert document.position(("a", 0, "c", "x", "y")) == Position(4, 5)
    assert document.position(("a", 7)) == Position(2, 1)
    assert document.position(("a", 0, "b", "x")) == Position(3, 5)


def test_positions_follow_aliases_and_merge_keys() -> None:
    document = one("a: &a {x: 1}\nb: *a\nc: {<<: *a}\nd: {<<: [{y: 1}, *a]}\ne: {<<: {<<: *a}}\n")
    assert document.position(("b", "x")) == Position(1, 8)
    assert document.position(("c", "x")) == Position(1, 11)
    assert document.position(("d", "x")) == Position(1, 11)
    assert document.position(("e", "x")) == Position(1, 11)


def test_json_is_read_as_json_one_object_after_another() -> None:
    first, second = read('{"a": "\\ud83d\\ude00\\/"}\n{"b":\t[1, -2.5e1, true, null, "x", [], {}]}', "f")
    assert (first.value, first.is_json) == ({"a": "\N{GRINNING FACE}/"}, True)
    assert second.value == {"b": [1, -25.0, True, None, "x", [], {}]}
    assert second.position(("b", 2)) == Position(2, 19)


def test_flow_text_that_is_not_json_is_read_as_yaml() -> None:
    for text in ("{a: 1}", '{"a": 1,}', '{"a" 1}', '{"a": [1 2]}', '{"a": [1,]}', '{"a": x}', '{"a": "\\q"}', "{"):
        found: list[ManifestError] = []
        assert all(not document.is_json for document in read(text, "f", on_error=found.append))


def test_byte_order_mark_is_not_content() -> None:
    assert one("\ufeffa: 1\nb: 2\n").value == {"a": 1, "b": 2}
    assert one('\ufeff{"a": 1}').value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\n---\nb: {{ .Values.b }}\n", 3, "render it first"),
        ("a: 1\n{{- if .x }}\nb: 1\n{{- end }}\n", 3, "not YAML: .*; if it is a Helm template"),
        ("a: 1\nb: [1\n", 3, "not YAML: "),
        ("a:\n\t- b\n", 2, "cannot start any token"),
        ("a: \x01", 1, "control character; is the file binary"),
        ("a: ä\nb: \x02", 2, "control character"),
        ("a: *b", 1, "an alias without its anchor"),
        ("a: &a [*a]", 1, "an alias to what it is a part of"),
        ("a: 1\n? [b]\n: 1\n", 2, "a mapping or a list where a key belongs"),
        ("~: 1", 1, "a key is null"),
        ("a: .inf", 1, "a number that JSON cannot hold"),
        ("a: !!int x", 1, "not what its tag !!int says"),
        ("a: !!binary '*'", 1, "not base64"),
        ("<<: 1", 1, "<< takes a mapping or a list of mappings"),
        ('{"a": 1, "a": 2}', 1, "duplicate key in a mapping"),
        ("[" * 1000, 1, f"nested more than {MAX_DEPTH} levels deep"),
        ('{"a":' * 1000, 1, f"nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_error_has_file_document_and_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        list(read(text, "some.yaml"))
    # Where a text ends too early, the line is the last one or the one after it.
    assert line - 1 <= caught.value.line <= line
    assert str(caught.value).startswith(f"some.yaml:{caught.value.line}: document {caught.value.document}: ")


def test_documents_after_invalid_one_are_read() -> None:
    errors: list[ManifestError] = []
    found = [document.value for document in read("a: 1\n---\n[\n---\nb: 1\n", "f", on_error=errors.append)]
    assert found == [{"a": 1}, {"b": 1}]
    assert [error.document for error in errors] == [2]


def test_aliases_that_unfold_to_millions_are_refused() -> None:
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30)]
    with pytest.raises(ManifestError, match="too large once its aliases are written out"):
        list(read("\n".join(lines), "f"))


def test_templates_are_found_by_shape() -> None:
    text = """\
    apiVersion: v1
    kind: List
    items:
      - {apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: ns},
         spec: {template: {spec: {containers: [{name: a}]}}}}
      - {apiVersion: x/v1, kind: Odd, metadata: {generateName: o-},
         spec: {groups: [{template: {spec: {containers: [{name: b}]}}},
         {spec: {containers: [{name: c, spec: {containers: [{name: no}]}}]}}, 1]}}
      - {apiVersion: v1, kind: Pod}
      - {apiVersion: v1, kind: PodTemplateList,
         items: [{apiVersion: v1, kind: PodTemplate, template: {spec: {containers: [{name: e}]}}}]}
      - {apiVersion: v1, kind: Secret, spec: {containers: []}, data: {containers: [1]},
         x: {spec: {containers: [{image: nameless}]}}}
      - {kind: NoVersion}
      - text
    """
    objects = list(one(text).objects())
    assert [(each.kind, each.name, each.namespace) for each in objects] == [
        ("Deployment", "d", "ns"),
        ("Odd", "o-", ""),
        ("Pod", "", ""),
        ("PodTemplate", "", ""),
        ("Secret", "", ""),
    ]
    paths = [[template.path[2:] for template in each.templates()] for each in objects]
    assert paths == [
        [("spec", "template")],
        [("spec", "groups", 0, "template"), ("spec", "groups", 1)],
        [()],
        [("items", 0, "template")],
        [],
    ]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("containers: [{image: a}]", [["user-container"], []]),
        ("containers: [{name: web}]", [["web"], []]),
        (
            "containers: [{image: a}, {name: b}, {name: }, {name: ''}]",
            [["user-container-0", "b", "user-container-2", "user-container-3"], []],
        ),
        ("containers: [{}], initContainers: [{image: a}, text]", [["user-container"], ["init-container-0", None]]),
        ("containers: []", None),
        ("containers: [text]", None),
    ],
)
def test_unnamed_containers_of_knative_get_its_names(spec: str, names: list[list[str | None]] | None) -> None:
    (each,) = one(
        f"{{apiVersion: serving.knative.dev/v1, kind: Service, spec: {{template: {{spec: {{{spec}}}}}}}}}"
    ).objects()
    before = msgspec.json.encode(each.value)
    found: list[Any] = [template.value["spec"] for template in each.templates()]
    assert msgspec.json.encode(each.value) == before
    parts = [[spec["containers"], spec.get("initContainers", [])] for spec in found]
    named = [[[each["name"] if isinstance(each, dict) else None for each in part] for part in two] for two in parts]
    assert named == ([] if names is None else [names])


def test_value_that_is_not_an_object_has_no_templates() -> None:
    assert list(one("- 1\n").objects()) == []
    assert [template.path for each in one(pod("containers: []\n")).objects() for template in each.templates()] == [()]


def test_pod_is_its_own_template_whatever_its_metadata() -> None:
    (each,) = one("{apiVersion: v1, kind: Pod, metadata: [], spec: {}}").objects()
    assert each.name == ""


_PATCH = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  template:
    metadata: {annotations: {dapr.io/enabled: "true"}}
    spec:
      containers:
        - name: daprd
"""


@pytest.mark.parametrize(
    ("lines", "directive"),
    [
        ("          env: [{name: DAPR_API_TOKEN, $patch: delete}]\n", "$patch"),
        ("          $patch: replace\n", "$patch"),
        ("          $setElementOrder/env: [{name: DAPR_API_TOKEN}]\n", "$setElementOrder"),
        ("          env: []\n          $deleteFromPrimitiveList/args: [x]\n", "$deleteFromPrimitiveList"),
        ("  strategy: {$retainKeys: [type], type: Recreate}\n", "$retainKeys"),
        ("x: &a {$patch: delete}\ny: *a\n", "$patch"),
        ('"\\x24patch": delete\n', "$patch"),
    ],
)
def test_strategic_merge_patch_is_refused_with_its_line(lines: str, directive: str) -> None:
    errors: list[ManifestError] = []
    documents = list(read(f"a: 1\n---\n{_PATCH}{lines}---\nb: 1\n", "f", on_error=errors.append))
    line = 2 + len((_PATCH + lines).splitlines()) - (directive == "$patch" and "y:" in lines)
    assert [document.value for document in documents] == [{"a": 1}, {"b": 1}]
    (error,) = errors
    assert str(error) == (
        f"f:{line}: document 2: a strategic merge patch ({directive}) is not a whole object; "
        "render it first (kubectl kustomize)"
    )


@pytest.mark.parametrize(
    "text",
    [
        _PATCH,
        _PATCH + "          env: [{name: $patch, value: $retainKeys}]\n",
        _PATCH + "          $patched: 1\n",
        "apiVersion: v1\nkind: ConfigMap\ndata: {$patch: delete, a: dapr.io}\n",
        # Nothing in it concerns us, so a folder of overlays is not full of errors.
        _PATCH.replace("dapr", "x") + "          $patch: delete\n",
    ],
)
def test_document_that_is_not_a_patch_of_ours_is_read(text: str) -> None:
    assert one(text).index == 1
