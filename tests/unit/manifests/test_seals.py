"""What uninject takes out of a sealed Pod, and what it leaves."""

from __future__ import annotations

from typing import Any, Final

import pytest

from injector.core.model import Policy, SealMode
from injector.manifests.documents import read
from injector.manifests.errors import ManifestError
from injector.manifests.uninjecting import EntryOutcome, evaluate
from tests.unit.manifests.working import inject, patched, pod, uninject

SEALING: Final = Policy(seal=SealMode.ALWAYS, seal_image="registry/seal", seal_image_pull_secrets=("pull",))
SPEC: Final = "containers:\n- name: daprd\n- name: web\n"


def _spec(text: str) -> dict[str, Any]:
    (document,) = read(text, "f")
    value: Any = document.value
    spec: dict[str, Any] = value["spec"]
    return spec


def _seal_reader(text: str) -> str:
    (document,) = read(text, "f")
    (result,) = evaluate(document)
    return result.seal_reader


def test_entry_that_replaced_another_becomes_an_ordinary_reference() -> None:
    replaced = pod("containers:\n- name: daprd\n  env:\n  - name: DAPR_API_TOKEN # c\n    value: ''\n")
    sealed = inject(replaced, SEALING)
    assert "fileKeyRef" in sealed
    assert uninject(sealed) == uninject(inject(replaced))
    assert "secretKeyRef:\n          name: s\n          key: token\n" in uninject(sealed)


def test_seal_stays_while_another_entry_reads_from_it() -> None:
    own = (
        "  env:\n  - name: OWN\n    valueFrom: {fileKeyRef: {volumeName: dapr-token-injector-seal, path: p, key: k}}\n"
    )
    sealed = inject(pod(SPEC), SEALING).rstrip("\n").replace("  - name: web\n", f"  - name: web\n{_indented(own)}")

    assert _seal_reader(sealed) == "web"
    left = _spec(uninject(sealed))
    assert [one["name"] for one in left["initContainers"]] == [
        "dapr-token-injector-seal",
        "dapr-token-injector-seal-check",
    ]
    assert left["imagePullSecrets"] == [{"name": "pull"}]
    assert "env" not in left["containers"][0]


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("medium: Memory", "medium: ''"),
        ('seal, "--check"]', "seal]"),
        ("key: token", "key: token\n          optional: true"),
    ],
)
def test_changed_seal_and_its_entries_stay(old: str, new: str) -> None:
    sealed = inject(pod(SPEC), SEALING).replace(old, new)
    (document,) = read(sealed, "f")
    (result,) = evaluate(document)

    assert [outcome for _, outcome in result.entries] == [EntryOutcome.CHANGED]
    assert _spec(uninject(sealed)) == _spec(sealed)


@pytest.mark.parametrize(
    ("old", "new"), [("registry/seal", "registry/seal:2"), ("imagePullPolicy: IfNotPresent", "imagePullPolicy: Always")]
)
def test_seal_with_another_image_is_removed(old: str, new: str) -> None:
    assert uninject(inject(pod(SPEC), SEALING).replace(old, new)) == pod(SPEC)


def test_seal_without_a_record_stays() -> None:
    sealed = inject(pod(SPEC), SEALING)
    unrecorded = "".join(line for line in sealed.splitlines(keepends=True) if "/status" not in line)
    assert uninject(unrecorded) == unrecorded


def test_only_added_pull_secrets_are_removed() -> None:
    for own in ("imagePullSecrets: [{name: own}]\n", "imagePullSecrets:\n- name: pull\n", ""):
        assert uninject(inject(pod(SPEC + own), SEALING)) == pod(SPEC + own)
    sealed = inject(pod(SPEC), SEALING).replace("- name: pull\n", "- name: pull\n  - name: later\n")
    assert _spec(uninject(sealed))["imagePullSecrets"] == [{"name": "later"}]


def test_containers_and_volumes_of_the_user_stay_where_they_are() -> None:
    sealed = inject(pod(SPEC), SEALING)
    added = sealed.replace("  volumes:\n", "  volumes:\n  - name: v\n    emptyDir: {}\n").replace(
        "  initContainers:\n", "  initContainers:\n  - name: first\n"
    )
    left = _spec(uninject(added))
    assert left["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert left["initContainers"] == [{"name": "first"}]


_WIDE: Final = """\
initContainers:
    -   name: i # i
        image: x

    # of daprd
    -   name: daprd
        restartPolicy: Always
containers: [{name: web}]
"""


@pytest.mark.parametrize(
    "spec",
    [
        "x: [&i {name: i}]\ninitContainers:\n- *i\n- {name: daprd, restartPolicy: Always}\ncontainers:\n- name: web\n",
        "initContainers:\n- &i\n  name: i\n- *i\ncontainers:\n- name: daprd\n",
        "initContainers: &l\n- name: i\ncontainers:\n- name: daprd\n",
        _WIDE,
        "initContainers: [\n  {name: i}, # i\n  # of daprd\n  {name: daprd, restartPolicy: Always},\n]\ncontainers: []",
        "initContainers:\n-\n  name: i\n-\n  name: daprd\n  restartPolicy: Always\ncontainers: [{name: web}]\n",
        "containers:\n- name: daprd\n  command:\n  - |\n    x\n\n\n# end\n",
        "containers:\n- name: daprd\n  image: |+\n    x\n\n# end\n",
    ],
)
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_odd_layout_is_sealed_and_restored(spec: str, eol: str) -> None:
    text = pod(spec).replace("\n", eol)
    sealed = inject(text, SEALING)
    assert "dapr-token-injector-seal-check" in sealed
    assert "\n" not in sealed.replace(eol, "")
    assert inject(sealed, SEALING) == sealed
    assert uninject(sealed) == text


def test_shared_list_of_the_spec_is_refused() -> None:
    for key in ("initContainers", "volumes"):
        shared = pod(f"{key}: &l\n- name: i\ncontainers:\n- name: daprd\nx: *l\n")
        with pytest.raises(ManifestError, match=f"{key} is in the anchor &l, which line"):
            inject(shared, SEALING)
        assert "seal-check" in str(patched(shared, SEALING))


def test_malformed_field_for_sealing_is_reported_with_its_line() -> None:
    with pytest.raises(
        ManifestError, match="a field of the Pod that is to be sealed does not match its kind"
    ) as caught:
        inject(pod("containers:\n- name: daprd\nvolumes: 5\n"), SEALING)
    assert caught.value.line == 8


def test_hundreds_of_init_containers_and_documents_are_sealed() -> None:
    many = "initContainers:\n" + "".join(f"- name: i{i}\n" for i in range(200)) + SPEC
    text = "---\n".join([pod(many), *[pod(SPEC)] * 20])
    sealed = inject(text, SEALING)
    assert sealed.count("- name: dapr-token-injector-seal-check\n") == 21
    assert uninject(sealed) == text
