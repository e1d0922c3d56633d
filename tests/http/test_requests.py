"""What is answered to what: rows H1 to H8 and H12."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.http.client import Connection, head
from tests.http.reviews import UID, pod, review
from tests.http.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Answer
    from tests.http.serving import Serving

MIB = 1024 * 1024


def refused(answer: Answer, status: int, error: str) -> None:
    reported = answer.json()
    assert (answer.status, reported["error"]) == (status, error)
    assert set(reported) == {"error", "message"}
    assert reported["message"].endswith(".")
    assert "Traceback" not in reported["message"]


def healthy(server: Serving) -> None:
    answer = server.post(review())
    assert answer.status == 200
    assert answer.json()["response"]["allowed"] is True


def test_h1_empty_body_is_refused(server: Serving) -> None:
    refused(server.post(b""), 400, "malformed-json")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_h2_other_methods_are_refused(server: Serving, method: str) -> None:
    with server.connect() as connection:
        answer = connection.request(b"", method=method)
        refused(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "POST"


def test_h2_answer_to_head_has_no_body(server: Serving) -> None:
    with server.connect() as connection:
        answer = connection.request(b"", method="HEAD")
        assert (answer.status, answer.body) == (405, b"")
        assert connection.request(review()).status == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"],
)
def test_h3_json_is_accepted_whatever_the_charset(server: Serving, content_type: str) -> None:
    with server.connect() as connection:
        assert connection.request(review(), headers={"Content-Type": content_type}).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/yaml", "application/jsonp", "", None])
def test_h4_other_content_types_are_refused(server: Serving, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    with server.connect() as connection:
        refused(connection.request(review(), headers=headers), 415, "unsupported-media-type")
        assert connection.request(review()).status == 200


def test_h5_malformed_json_is_refused_and_counted_apart(server: Serving) -> None:
    series = 'admission_errors_total{error="malformed-json"}'
    before = server.sample(series)
    refused(server.post(review()[:-1]), 400, "malformed-json")
    assert server.sample(series) == before + 1


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"kind":"AdmissionReview"}', review(uid="")])
def test_h5_json_that_is_not_a_review_is_refused(server: Serving, body: bytes) -> None:
    refused(server.post(body), 400, "not-a-review")


def test_h6_yaml_sent_as_json_is_refused(server: Serving) -> None:
    refused(server.post(b"apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n"), 400, "malformed-json")


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_h7_both_versions_are_answered_in_kind(server: Serving, version: str) -> None:
    reported = server.post(review(version=version)).json()
    assert (reported["apiVersion"], reported["kind"]) == (f"admission.k8s.io/{version}", "AdmissionReview")
    assert reported["response"]["uid"] == UID
    operations = json.loads(base64.b64decode(reported["response"]["patch"]))
    assert operations[0]["path"].startswith("/spec/containers/1/env")


def _send_until_answered(connection: Connection, pieces: int, framed: bool) -> Answer:  # noqa: FBT001 - a test's own
    data = b"x" * MIB
    piece = b"%x\r\n%s\r\n" % (len(data), data) if framed else data
    for _ in range(pieces):
        if connection.is_readable():
            break
        connection.socket.sendall(piece)
    return connection.answer()


@pytest.mark.parametrize("framed", [True, False], ids=["streamed", "announced"])
def test_h8_body_of_50_mib_is_refused_with_flat_memory(server: Serving, framed: bool) -> None:  # noqa: FBT001 - a case
    healthy(server)
    before = server.peak_memory()
    length = {"Transfer-Encoding": "chunked"} if framed else {"Content-Length": str(50 * MIB)}
    with server.connect() as connection:
        connection.socket.sendall(head("/mutate", headers={"Content-Type": "application/json", **length}))
        answer = _send_until_answered(connection, 50, framed)
        refused(answer, 413, "body-too-large")
        assert answer.headers["connection"] == "close"
        assert connection.is_ended()
    assert server.peak_memory() - before < 24 * MIB
    healthy(server)


def test_h8_body_at_the_limit_is_read(server: Serving) -> None:
    body = review()
    largest = body + b" " * (8 * MIB - len(body))
    answer = server.post(largest)
    if answer.status == 503:  # shed once where the machine is busy; a review that comes again is answered
        answer = server.post(largest)
    assert answer.status == 200
    refused(server.post(body + b" " * (8 * MIB - len(body) + 1)), 413, "body-too-large")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 10_000 + b"]" * 10_000, 400),
        (review({"spec": {"x": "NEST"}}).replace(b'"NEST"', b"[" * 10_000 + b"]" * 10_000), 200),
        (review().replace(b'"uid":', b'"uid": "another", "uid":', 1), 200),
        (review(pod(resourceVersion=0)).replace(b'"resourceVersion": 0', b'"resourceVersion": 1e999'), 200),
        (review(pod(x="\\ud800")), 200),
        (b"\xff\xfe" + review(), 400),
        (b"\x00" * 1000, 400),
        (review([1, 2]), 400),
        (review(pod(annotations={"dapr.io/enabled": 1})), 400),
    ],
    ids=[
        "nested",
        "nested-inside",
        "duplicate-key",
        "1e999",
        "lone-surrogate",
        "not-utf8",
        "zeros",
        "no-object",
        "bad-type",
    ],
)
def test_h12_hostile_json_is_refused_or_answered(server: Serving, body: bytes, status: int) -> None:
    answer = server.post(body)
    assert answer.status == status
    assert b"Traceback" not in answer.body
    healthy(server)


def test_deep_nesting_outside_what_a_rule_reads_never_crashes(server: Serving) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    answer = server.post(review(pod(x="NEST")).replace(b'"NEST"', deep))
    assert answer.status == 200
    assert answer.json()["response"]["patch"]
    healthy(server)


@pytest.mark.parametrize("path", ["/", "/mutate/", "/Mutate", "/livez", "/readyz", "/metrics", "/docs", "/%ff"])
def test_admission_port_serves_nothing_else(server: Serving, path: str) -> None:
    with server.connect() as connection:
        assert connection.request(b"", path=path, method="GET").status == 404


@pytest.mark.parametrize("target", ["/%6dutate?timeout=5s", "https://webhook.test/mutate"], ids=["escaped", "absolute"])
def test_other_spellings_of_a_path_are_the_same_path(server: Serving, target: str) -> None:
    assert server.post(review(), target).json()["response"]["allowed"] is True


def test_default_endpoint_without_a_default_is_a_configuration_error(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for _ in range(5):
            refused(server.post(review(), "/mutate/default"), 500, "policy-gap")
        assert server.sample('admission_errors_total{error="policy-gap"}') == 5
        assert server.sample('admission_errors_total{error="internal"}') == 0
        server.terminate()
        server.wait_for_line("draining")
        assert [line["error"] for line in server.logged("request rejected")] == ["policy-gap"]


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        (head("/mutate", headers={"Content-Length": "0" * 5000 + "9" * 12}), 413, "body-too-large"),
        (head("/mutate", headers={"Content-Length": "9" * 5000}), 400, "malformed-http"),
        (head("/mutate", headers={"Content-Length": "-1"}), 400, "malformed-http"),
        (head("/mutate", headers={"X-Filler": "y" * 100_000}), 431, "headers-too-large"),
        (head("/mutate", headers={f"X-{number}": "y" for number in range(200)}), 431, "headers-too-large"),
        (head("/mutate?" + "y" * 10_000), 431, "headers-too-large"),
        (head("/mutate").replace(b"HTTP/1.1", b"HTTP/2.0"), 400, "malformed-http"),
        (head("/mutate").replace(b"HTTP/1.1", b"HTTP/0.9"), 400, "malformed-http"),
    ],
    ids=["zeros", "digits", "negative", "long header", "many headers", "long target", "HTTP/2.0", "HTTP/0.9"],
)
def test_client_errors_are_4xx_and_logged_once(tmp_path: Path, request_: bytes, status: int, error: str) -> None:
    with serving(tmp_path) as server:
        for _ in range(5):
            with server.connect() as connection:
                connection.socket.sendall(request_)
                refused(connection.answer(), status, error)
                assert connection.is_ended()
        healthy(server)
        assert server.sample('admission_errors_total{error="internal"}') == 0
        assert server.sample(f'admission_errors_total{{error="{error}"}}') == 5
        server.terminate()
        server.wait_for_line("draining")
        warnings = [json.loads(line) for line in server.lines if '"level":"info"' not in line]
        assert [(line["message"], line["error"]) for line in warnings] == [("request rejected", error)]


def test_warn_allows_and_never_patches(server: Serving) -> None:
    template = pod()
    template["metadata"]["annotations"]["dapr.io/api-token-secret"] = "NOT A NAME"
    body = review({"spec": {"template": template}}, kind=("apps", "v1", "Deployment"))
    reported = server.post(body, "/warn?timeout=5s").json()["response"]
    assert reported["allowed"] is True
    assert "patch" not in reported
    assert "not a Secret name" in reported["warnings"][0]


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01junk\r\n\r\n",
        b"POST /mutate HTTP/3.9\r\n\r\n",
        b"POST  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"hello\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(server: Serving, junk: bytes) -> None:
    with server.connect() as connection:
        connection.socket.sendall(junk)
        refused(connection.answer(), 400, "malformed-http")
        assert connection.is_ended()
    healthy(server)


def test_endless_headers_are_refused(server: Serving) -> None:
    with server.connect() as connection:
        connection.socket.sendall(b"POST /mutate HTTP/1.1\r\n" + b"x-filler: " + b"y" * 100_000)
        answer = connection.answer()
        refused(answer, 431, "headers-too-large")
        assert connection.is_ended()


def test_target_that_is_not_a_url_is_refused(server: Serving) -> None:
    with server.connect() as connection:
        connection.socket.sendall(b"POST http://[x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.answer().status == 400


def test_connections_are_kept(server: Serving) -> None:
    with server.connect() as connection:
        for _ in range(3):
            answer = connection.request(review())
            assert answer.status == 200
            assert "connection" not in answer.headers


def test_connection_close_of_client_is_honoured(server: Serving) -> None:
    with server.connect() as connection:
        answer = connection.request(review(), headers={"Content-Type": "application/json", "Connection": "close"})
        assert answer.headers["connection"] == "close"
        assert connection.is_ended()


def test_requests_sent_in_one_piece_are_answered_in_order(server: Serving) -> None:
    first, second = review(uid="first"), review(uid="second")
    with server.connect() as connection:
        for body in (first, second):
            connection.socket.sendall(
                head("/mutate", headers={"Content-Type": "application/json", "Content-Length": str(len(body))}) + body
            )
        assert connection.answer().json()["response"]["uid"] == "first"
        assert connection.answer().json()["response"]["uid"] == "second"


def test_client_that_expects_100_continue_gets_it(server: Serving) -> None:
    body = review()
    with server.connect() as connection:
        length = {"Content-Length": str(len(body)), "Expect": "100-continue"}
        connection.socket.sendall(head("/mutate", headers={"Content-Type": "application/json", **length}))
        assert connection.socket.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.socket.sendall(body)
        assert connection.answer().status == 200


def test_upgrade_is_not_followed(server: Serving) -> None:
    headers = {"Content-Type": "application/json", "Connection": "Upgrade", "Upgrade": "websocket"}
    with server.connect() as connection:
        assert connection.request(b"", headers=headers).status == 400
        assert connection.is_ended()
    healthy(server)


def test_chunked_body_is_read(server: Serving) -> None:
    body = review()
    with server.connect() as connection:
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        connection.socket.sendall(head("/mutate", headers=headers))
        for start in range(0, len(body), 100):
            piece = body[start : start + 100]
            connection.socket.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.socket.sendall(b"0\r\n\r\n")
        assert connection.answer().status == 200
