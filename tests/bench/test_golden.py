import base64
import json

import pytest

from injector.core.admit import admit
from injector.core.model import Endpoint, Policy
from tests.bench import bodies, golden, peers


def _answer(response: bodies.Json) -> bytes:
    response = {"uid": bodies.UID, "allowed": True, **response}
    return bodies.encode({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


def _case(name: str) -> golden.Case:
    return next(case for case in golden.RULES if case.name == name)


@pytest.mark.parametrize("case", golden.RULES, ids=lambda case: case.name)
def test_core_passes_check_of_every_peer(case: golden.Case) -> None:
    answer = admit(case.body, endpoint=Endpoint.MUTATE, policy=Policy())
    assert golden.problems(case, 200, answer.body) == []


@pytest.mark.parametrize("size", bodies.SIZES)
def test_core_passes_check_of_every_timed_body(size: str) -> None:
    test_core_passes_check_of_every_peer(golden.timed(size))


def test_answer_without_the_patch_is_caught() -> None:
    assert golden.problems(_case("sidecar with variables of its own"), 200, _answer({})) == [
        f"tokens is {{}} instead of {{'containers/daprd': [{golden.REFERENCE!r}]}}"
    ]


def test_patch_that_cannot_be_applied_is_caught() -> None:
    patch = base64.b64encode(b'[{"op":"add","path":"/spec/containers/9/env/-","value":1}]').decode()
    (problem,) = golden.problems(golden.RULES[0], 200, _answer({"patchType": "JSONPatch", "patch": patch}))
    assert "not a usable answer" in problem


def test_error_status_and_garbage_are_caught() -> None:
    assert "HTTP 503" in golden.problems(golden.RULES[0], 503, b"")[0]
    assert "not a usable answer" in golden.problems(golden.RULES[0], 200, b"{")[0]


def test_second_entry_of_the_same_name_is_caught() -> None:
    operation = {"op": "add", "path": "/spec/containers/1/env/-", "value": golden.REFERENCE}
    patch = base64.b64encode(json.dumps([operation]).encode()).decode()
    (problem,) = golden.problems(_case("injected before"), 200, _answer({"patchType": "JSONPatch", "patch": patch}))
    assert problem.startswith("tokens is")


def test_constant_of_nginx_is_an_answer_to_the_timed_bodies() -> None:
    response = json.loads(peers.constant_answer())["response"]
    assert response["uid"] == bodies.UID
    assert base64.b64decode(response["patch"], validate=True)
