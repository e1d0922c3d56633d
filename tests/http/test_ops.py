"""The ops port, the description of the API, and what a scraper sees."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http.client import PATIENCE, Connection
from tests.http.reviews import pod, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.serving import Serving


def test_probes_answer_in_json(server: Serving) -> None:
    assert server.ops("/livez").json() == {"status": "ok"}
    reported = server.ops("/readyz").json()
    assert reported["status"] == "ok"
    assert set(reported["checks"]) == {"serving", "certificate"}
    assert reported["checks"]["certificate"]["seconds_left"] > 0


def test_every_decision_is_counted_once(server: Serving) -> None:
    injected = 'admission_requests_total{decision="inject",reason="injected"}'
    denied = 'admission_requests_total{decision="deny",reason="invalid-secret-name"}'
    before = [server.sample(series) for series in (injected, denied, "admission_duration_seconds_count")]
    assert server.post(review()).json()["response"]["allowed"] is True
    refused = pod(annotations={"dapr.io/enabled": "true", "dapr.io/api-token-secret": "NO"})
    assert server.post(review(refused)).json()["response"]["allowed"] is False
    after = [server.sample(series) for series in (injected, denied, "admission_duration_seconds_count")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 2]


def test_every_metric_has_the_prefix(server: Serving) -> None:
    families = list(text_string_to_metric_families(server.ops("/metrics").body.decode()))
    assert families
    assert all(family.name.startswith("dapr_token_injector_") for family in families)


def test_admission_is_not_answered_without_tls(server: Serving) -> None:
    assert server.ops("/mutate").status == 404


def test_openapi_describes_every_path_on_both_ports(server: Serving) -> None:
    reported = server.ops("/openapi.json").json()
    assert {"/mutate", "/mutate/default", "/warn", "/livez", "/readyz", "/metrics"} <= set(reported["paths"])
    with server.connect() as connection:
        assert connection.request(b"", path="/openapi.json", method="GET", headers={}).json() == reported


def test_docs_page_is_served_if_enabled(tmp_path: Path) -> None:
    with serving(tmp_path, "--docs") as server:
        assert b"openapi.json" in server.ops("/docs").body
        with server.connect() as connection:
            assert connection.request(b"", path="/docs", method="GET", headers={}).status == 200


def test_request_sent_before_the_last_answer_ends_the_connection_after_it(server: Serving) -> None:
    # Only routes that run in a task can be overtaken; an admission is answered before the next byte is looked at.
    with server.connect() as connection:
        connection.socket.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert connection.answer("GET").status == 200
        assert connection.is_ended()


def test_refused_request_is_logged_once_a_minute_by_its_class(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for _ in range(20):
            assert server.post(b"").status == 400
        assert server.sample('admission_errors_total{error="malformed-json"}') == 20
        server.process.terminate()
        server.wait_for_line("draining")
        assert [line["error"] for line in server.logged("request rejected")] == ["malformed-json"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_accept_get_and_head(server: Serving, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.ops_port), PATIENCE) as plain:
        connection = Connection(plain)
        answer = connection.request(b"", path=path, method="HEAD", headers={})
        assert (answer.status, answer.body) == (200, b"")
        answer = connection.request(b"", path=path, method="POST", headers={})
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
