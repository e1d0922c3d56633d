"""What leaves the process: one line per mutation or denial, and never anything else of a body."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.controlplane.polling import wait_for
from tests.http.reviews import UID, pod, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.http.serving import Serving


def test_unread_log_loses_lines_and_no_request(tmp_path: Path) -> None:
    owner = {"apiVersion": "v1", "kind": "Job", "name": "o" * 253, "uid": "x", "controller": True}
    body = review(pod(ownerReferences=[owner]), namespace="n" * 253)
    with serving(tmp_path, deaf=True) as server:
        with server.connect() as connection:
            # A pipe and the buffer behind it hold less than this.
            for _ in range(2000):
                assert connection.request(body).status == 200
        assert server.sample("logs_dropped_total") > 0
        assert server.ops("/readyz").status == 200


# Looks like a token on purpose: long, mixed, and nothing that a person would call a Secret.
CANARY = "eyJhbGciOiJIUzI1NiJ9canary0Zm9vYmFyYmF6"


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A process that logs as much as it can."""
    with serving(tmp_path_factory.mktemp("talkative"), "--log-level", "debug") as running:
        yield running


def test_mutation_is_one_line_with_owner_and_reason(tmp_path: Path) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f", "uid": "x", "controller": True}
    refused = pod(annotations={"dapr.io/enabled": "true", "dapr.io/api-token-secret": "NO"})
    untouched = pod(annotations={})
    with serving(tmp_path) as server:
        for body in (review(pod(ownerReferences=[owner])), review(), review(refused, uid="two"), review(untouched)):
            assert server.post(body).status == 200
        server.terminate()
        server.wait_for_line("draining")
        lines = server.logged("review answered")
    assert [(line["uid"], line["namespace"], line["owner"], line["decision"], line["reason"]) for line in lines] == [
        (UID, "shop", "ReplicaSet/web-7d9f", "inject", "injected"),
        (UID, "shop", "web-7d9f-", "inject", "injected"),
        ("two", "shop", "web-7d9f-", "deny", "invalid-secret-name"),
    ]
    assert all(0 <= line["duration_ms"] < 60_000 for line in lines)


def test_debug_level_logs_skips(talkative: Serving) -> None:
    assert talkative.post(review(pod(annotations={}), uid="skipped")).status == 200
    found = wait_for(
        "the line", lambda: [line for line in talkative.logged("review answered") if line["uid"] == "skipped"]
    )
    assert found[0]["decision"] == "skip"


def _planted() -> Iterator[tuple[str, bytes]]:
    """Bodies with the canary in every place, one place each, and then in bodies that are not reviews."""
    whole: dict[str, Any] = json.loads(review())
    whole["request"]["object"]["spec"]["containers"][1]["env"] = [
        {"name": "DAPR_API_TOKEN", "value": "old"},
        {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "x", "controller": True}
    whole["request"]["object"]["metadata"]["ownerReferences"] = [owner]
    whole["request"]["object"]["metadata"]["annotations"] |= {
        "dapr-token-injector/api-token-key": "token",
        "dapr-token-injector/app-containers": "app",
        "dapr.io/app-token-secret": "app",
        "dapr-token-injector/status": "{}",
        "dapr.io/env": "A=b",
    }
    yield from _replaced(whole, whole, "")
    yield "cut", json.dumps(whole).encode()[:-2] + CANARY.encode()
    yield "text", CANARY.encode()
    yield "string", json.dumps(CANARY).encode()
    yield "key", json.dumps({CANARY: 1}).encode()


def _replaced(whole: Any, part: Any, path: str) -> Iterator[tuple[str, bytes]]:  # noqa: ANN401 - JSON
    for key in list(part) if isinstance(part, dict) else range(len(part)):
        value = part[key]
        if isinstance(value, dict | list):
            yield from _replaced(whole, value, f"{path}/{key}")
        part[key] = CANARY
        yield f"{path}/{key}", json.dumps(whole).encode()
        part[key] = value
        if isinstance(part, dict):
            part[CANARY] = value
            yield f"{path}/{key}+", json.dumps(whole).encode()
            del part[CANARY]


# What the API server itself asks to have back: the uid and the version of its question.
_ECHOED = ("/request/uid", "/apiVersion", "/kind")


def test_no_output_contains_parts_of_a_body(talkative: Serving) -> None:
    with talkative.connect() as connection:
        for endpoint in ("/mutate", "/warn", "/mutate/default"):
            for place, body in _planted():
                answer = connection.request(body, path=endpoint)
                assert answer.status in {200, 400, 500}, place
                leaked = CANARY.encode() in answer.body
                assert not leaked or place in _ECHOED or _is_name_shown_on_purpose(place), place
    assert CANARY not in talkative.ops("/metrics").body.decode()
    assert CANARY not in talkative.ops("/readyz").body.decode()
    talkative.terminate()
    talkative.wait_for_line("draining")
    assert CANARY not in talkative.log


def _is_name_shown_on_purpose(place: str) -> bool:
    """Audit annotations name the container that was patched; the API server has that name already."""
    return place.endswith("/name")
