"""Every golden case, and the properties of all of them."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import pytest

from injector.core.errors import InjectorError
from tests.builders import Json, ask, encode, operations_of, patched, response_of
from tests.golden.cases import Golden, folders, is_error, is_patched, load

if TYPE_CHECKING:
    from pathlib import Path

    from injector.core.admit import Admission

ALL = folders()


def _each(found: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("golden", found, indirect=True, ids=lambda folder: folder.name)


each = _each([folder for folder in ALL if not is_error(folder)])
each_patched = _each([folder for folder in ALL if is_patched(folder)])
each_error = _each([folder for folder in ALL if is_error(folder)])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


@each_error
def test_example_fails_with_the_expected_error(golden: Golden) -> None:
    with pytest.raises(InjectorError) as failed:
        _ask(golden)
    assert failed.value.reason == golden.case.error


@each
def test_example_has_the_expected_answer(golden: Golden) -> None:
    case = golden.case
    found = golden.review["request"].get("object")
    before = copy.deepcopy(found)

    admission = _ask(golden)

    response = response_of(admission)
    assert (admission.verdict, admission.reason) == (case.verdict, case.reason)
    assert response["allowed"] == (case.verdict != "deny")
    if golden.want is None:
        assert "patch" not in response
    else:
        assert patched(found, admission) == golden.want
    assert found == before
    assert response.get("auditAnnotations", {}) == case.audit


@each
def test_example_has_the_expected_decision(golden: Golden) -> None:
    case = golden.case
    admission = _ask(golden)
    response = response_of(admission)

    warnings = response.get("warnings", [])
    assert len(warnings) == len(case.warnings) == admission.warnings, warnings
    for warning, fragments in zip(warnings, case.warnings, strict=True):
        for fragment in fragments:
            assert fragment in warning
        assert warning.isascii()
        assert warning.isprintable()
        assert len(warning) < 120
    status: Json = response.get("status", {})
    assert status.get("code", 0) == case.code
    assert status.get("reason", "") == (case.reason if case.verdict == "deny" else "")
    for fragment in case.message:
        assert fragment in status["message"]
    everything = json.dumps([json.loads(admission.body), operations_of(admission)], ensure_ascii=False)
    for hidden in case.hides:
        assert json.dumps(hidden, ensure_ascii=False)[1:-1] not in everything


@each
def test_answer_echoes_version_kind_and_uid(golden: Golden) -> None:
    answer = json.loads(_ask(golden).body)

    assert set(answer) == {"apiVersion", "kind", "response"}
    assert answer["apiVersion"] == golden.review["apiVersion"]
    assert answer["kind"] == "AdmissionReview"
    assert answer["response"]["uid"] == golden.review["request"]["uid"]


@each_patched
def test_patched_example_needs_no_change(golden: Golden) -> None:
    again = copy.deepcopy(golden.review)
    again["request"]["object"] = copy.deepcopy(golden.want)

    admission = ask(encode(again), golden.policy, golden.case.endpoint)

    assert admission.verdict == "skip"
    assert operations_of(admission) == []


def _ask(golden: Golden) -> Admission:
    return ask(encode(golden.review), golden.policy, golden.case.endpoint)
