"""The pipeline, and its output for logs and metrics."""

from __future__ import annotations

import json

import pytest

from injector.core import decision, names
from injector.core.errors import MalformedJSONError, MalformedObjectError
from injector.core.model import Endpoint, Policy, Reason, SealMode, Verdict
from tests.builders import UID, Json, ask, asking, encode, operations_of, pod, response_of, review, workload

SEALING = Policy(seal_image="seal:1")


def test_injection_is_reported() -> None:
    found = ask(review(pod()))

    assert (found.verdict, found.reason, found.uid, found.namespace) == (Verdict.INJECT, Reason.INJECTED, UID, "shop")
    assert found.warnings == 0
    assert response_of(found)["auditAnnotations"] == {"injected-sidecar": "daprd/DAPR_API_TOKEN"}
    assert [operation["path"] for operation in operations_of(found)] == [
        "/spec/containers/1/env/-",
        "/metadata/annotations/dapr-token-injector~1status",
    ]


def test_equal_pods_have_the_same_patch() -> None:
    first, second = (ask(review(pod(), uid=uid)) for uid in ("1", "2"))

    assert operations_of(first) == operations_of(second)
    assert [response_of(found)["uid"] for found in (first, second)] == ["1", "2"]


@pytest.mark.parametrize(
    ("annotations", "kept"),
    [
        (asking(), 1),
        (asking(dapr_env="A=1"), 0),
        (asking() | {names.APP_CONTAINERS: "x," * 16 * 1024}, 0),
    ],
    ids=["ordinary", "values of variables", "large"],
)
def test_kept_annotations_are_small_and_have_no_values(annotations: dict[str, str], kept: int) -> None:
    first, second = (ask(review(pod(annotations))) for _ in range(2))

    assert first == second
    assert decision._remembered.cache_info().currsize == kept


def test_skip_is_reported() -> None:
    found = ask(review(pod({})))

    assert (found.verdict, found.reason, found.warnings) == (Verdict.SKIP, Reason.DAPR_NOT_ENABLED, 0)
    assert response_of(found) == {"uid": UID, "allowed": True}


@pytest.mark.parametrize(
    ("annotations", "reason", "code"),
    [
        (asking("A"), "invalid-secret-name", 422),
        (asking(api_token_key=".."), "invalid-secret-key", 422),
        (asking("x"), "secret-not-allowed", 403),
    ],
)
def test_denial_is_reported(annotations: Json, reason: str, code: int) -> None:
    found = ask(review(pod(annotations | {"dapr.io/env": "DAPR_API_TOKEN=x"})), Policy(allowed_secrets=("s",)))

    response = response_of(found)
    assert (found.verdict, found.reason, found.warnings) == (Verdict.DENY, reason, 1)
    assert response["allowed"] is False
    assert (response["status"]["reason"], response["status"]["code"]) == (reason, code)
    assert response["status"]["message"].startswith("annotation ")
    assert response["auditAnnotations"]["denied"].startswith(f"{reason}:")
    assert len(response["warnings"]) == 1
    assert "patch" not in response


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        (None, ""),
        ({}, ""),
        ({"name": "web", "generateName": "web-"}, "web"),
        ({"generateName": "web-7d9-"}, "web-7d9-"),
        ({"name": "web", "ownerReferences": []}, "web"),
        ({"name": "web", "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": False}]}, "web"),
        (
            {
                "name": "web",
                "ownerReferences": [
                    {"kind": "Note", "name": "n"},
                    {"kind": "ReplicaSet", "name": "web-7d9", "controller": True},
                ],
            },
            "ReplicaSet/web-7d9",
        ),
    ],
)
def test_owner_is_the_controller_of_the_pod(metadata: Json | None, owner: str) -> None:
    assert ask(review({**pod(), "metadata": metadata})).owner == owner


def test_owner_of_a_workload_is_its_name() -> None:
    assert ask(review(workload(pod())), endpoint=Endpoint.WARN).owner == "web"


def test_skipped_object_has_no_owner() -> None:
    assert ask(review({"apiVersion": "x/v1", "kind": "Widget", "metadata": 5})).owner == ""


def test_missing_namespace_is_empty() -> None:
    assert ask(review(pod(), namespace=None)).namespace == ""


def pod_with_room(size: int, annotations: Json | None = None) -> Json:
    """A Pod whose annotations can grow by `size` bytes before an API server rejects it."""
    found = pod(annotations or asking())
    taken = sum(len(key) + len(value.encode()) for key, value in found["metadata"]["annotations"].items())
    found["metadata"]["annotations"]["x"] = "x" * (256 * 1024 - taken - len("x") - size)
    return found


RECORD = '{"v":1,"injected":[{"container":"daprd","env":"DAPR_API_TOKEN","name":"s","key":"token"}]}'
NEEDED = len("dapr-token-injector/status") + len(RECORD)


@pytest.mark.parametrize(("size", "written"), [(NEEDED, True), (NEEDED - 1, False), (0, False), (-1, False)])
def test_record_is_written_while_annotations_are_below_the_limit(size: int, *, written: bool) -> None:
    found = ask(review(pod_with_room(size)))

    paths = [operation["path"] for operation in operations_of(found)]
    assert paths[0] == "/spec/containers/1/env/-"
    assert (paths[1:] == ["/metadata/annotations/dapr-token-injector~1status"]) == written
    assert found.warnings == (0 if written else 1)


def test_annotation_size_is_counted_in_bytes() -> None:
    annotations = asking() | {"y": "\u00e9" * 1000}
    assert len(operations_of(ask(review(pod_with_room(NEEDED, annotations))))) == 2
    assert len(operations_of(ask(review(pod_with_room(NEEDED - 1, annotations))))) == 1


def test_replaced_record_does_not_count_against_the_limit() -> None:
    annotations = asking() | {"dapr-token-injector/status": RECORD}

    assert len(operations_of(ask(review(pod_with_room(0, annotations))))) == 2


@pytest.mark.parametrize("count", [4000, 8000])
def test_thousands_of_containers_are_injected_without_a_record(count: int) -> None:
    found = pod(asking(app_containers="*"))
    found["spec"]["containers"] += [{"name": f"c{n}"} for n in range(count)]

    operations = operations_of(ask(review(found)))

    assert len(operations) == count + 2
    assert not any("annotations" in operation["path"] for operation in operations)


@pytest.mark.parametrize("odd", [None, 1, {"a": "x" * 300}, ["x"]])
def test_annotation_that_is_not_text_has_no_size(odd: object) -> None:
    found = pod_with_room(NEEDED)
    found["metadata"]["annotations"]["odd"] = odd

    assert len(operations_of(ask(review(found)))) == 2


def test_deeply_nested_annotation_has_no_size() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    found = json.dumps(review(pod_with_room(NEEDED))).replace('"x": "', f'"deep": {deep}, "x": "')

    assert len(operations_of(ask(found.encode()))) == 2


def test_annotation_that_is_not_unicode_has_no_measurable_size() -> None:
    found = json.dumps(review(pod_with_room(0))).encode().replace(b'"x": "', b'"odd": "\xff", "x": "')

    with pytest.raises(MalformedJSONError):
        ask(found)


def _with_seal(*, escaped: bool, **spec: object) -> bytes:
    found = pod(asking(seal="true"))
    found["spec"] |= spec
    body = encode(review(found))
    return body.replace(names.SEAL.encode(), names.SEAL.replace("/", "\\/").encode()) if escaped else body


@pytest.mark.parametrize("mode", [SealMode.ON_REQUEST, SealMode.ALWAYS])
def test_escaped_seal_annotation_has_the_same_answer(mode: SealMode) -> None:
    policy = Policy(seal_image="seal:1", seal=mode)

    plain, escaped = (ask(_with_seal(escaped=escaped), policy) for escaped in (False, True))

    assert "/spec/initContainers" in [operation["path"] for operation in operations_of(plain)]
    assert plain == escaped


def test_seal_annotation_is_ignored_if_policy_does_not_allow_it() -> None:
    found = ask(_with_seal(escaped=False), Policy(seal_image="seal:1", seal=SealMode.OFF))

    assert found.warnings == 1
    assert "/spec/initContainers" not in [operation["path"] for operation in operations_of(found)]


@pytest.mark.parametrize("escaped", [False, True])
def test_malformed_field_for_sealing_is_an_error_of_sealed_pods_only(escaped: bool) -> None:  # noqa: FBT001
    with pytest.raises(MalformedObjectError, match="to be sealed"):
        ask(_with_seal(escaped=escaped, volumes=1), SEALING)

    unsealed = pod({**asking(), "note": names.SEAL})
    unsealed["spec"]["volumes"] = 1
    assert ask(review(unsealed), SEALING).reason is Reason.INJECTED
