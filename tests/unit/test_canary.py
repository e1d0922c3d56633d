"""The script of `helm test` against servers that are not the API server, or lead away from it."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.controlplane.helm import CHART
from tests.http.certificates import Issuer, key_pem, new_key
from tests.unit.probe.servers import page, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

ENTRY: Final = {"name": "DAPR_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}
POD: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "dapr-token-injector-canary-x7f2c", "namespace": "shop"},
    "spec": {"containers": [{"name": "daprd", "env": [ENTRY]}]},
}


def answering(content: bytes, received: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """A server that reads one request as a whole: what it left unread would reset the connection."""

    def answer(connection: socket.socket) -> None:
        request = b""
        while piece := connection.recv(65536):
            request += piece
            head, end, body = request.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: ([0-9]+)", head)
            if end and len(body) >= int(length[1] if length else 0):
                break
        if received is not None:
            received.append(request)
        connection.sendall(content)

    return answer


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    issuer, key = Issuer(), new_key()
    (tmp_path / "chain").write_bytes(issuer.issue(key))
    (tmp_path / "key").write_bytes(key_pem(key))
    (tmp_path / "ca.crt").write_bytes(issuer.pem)
    (tmp_path / "token").write_text("credential-of-the-account")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    return context


@pytest.fixture
def run(tmp_path: Path) -> Callable[[int], tuple[int, str]]:
    """The script, for an API server at a port of loopback."""

    def running(port: int) -> tuple[int, str]:
        variables = {
            "CANARY_ACCOUNT": str(tmp_path),
            "CANARY_NAMESPACE": "shop",
            "CANARY_SECRET": "s",
            "CANARY_KEY": "token",
            "CANARY_SHADOW": "false",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(port),
        }
        script = CHART / "files/canary.py"
        done = subprocess.run(
            [sys.executable, "-I", str(script)],
            env=variables,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.stderr == ""
        assert "credential" not in done.stdout
        return done.returncode, done.stdout

    return running


def test_pod_with_its_token_passes(tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]) -> None:
    with serving(answering(page("201 Created", json.dumps(POD).encode())), tls) as at:
        code, output = run(at)

    assert code == 0
    assert output.startswith("OK: ")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_reported_and_not_followed(
    status: int, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    arrived: list[bytes] = []
    with serving(answering(page("201 Created", json.dumps(POD).encode()), received=arrived)) as other:
        target = f"http://127.0.0.1:{other}/there"
        moved = page(f"{status} Moved\r\nLocation: {target}?a=b", b"")
        with serving(answering(moved), tls) as at:
            code, output = run(at)

    assert code == 1
    assert f"FAILED: the API server redirects to {target} (status {status}), and no redirect is followed" in output
    assert arrived == []


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("X: y", "without naming a target (status 307)"),
        ("Location: https://[x", "to a target that is not a URL (status 307)"),
        ("Location: https://u:p@h:99/a b?c#d", "to https://h:99/a?b (status 307)"),
        (f"Location: https://h/{'x' * 9000}", f"to https://h/{'x' * 190} (status 307)"),
    ],
)
def test_target_of_a_redirect_is_one_short_line(
    header: str, words: str, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    with serving(answering(page(f"307 Moved\r\n{header}", b"")), tls) as at:
        code, output = run(at)

    assert code == 1
    assert f"redirects {words}" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"Pod"',
        b'{"kind":"Status","status":"Success"}',
        json.dumps({**POD, "kind": "PodList"}).encode(),
        json.dumps({**POD, "metadata": {**POD["metadata"], "namespace": "other"}}).encode(),
        json.dumps({**POD, "metadata": {**POD["metadata"], "name": "web"}}).encode(),
        json.dumps({**POD, "metadata": "x"}).encode(),
        json.dumps({**POD, "spec": {}}).encode(),
    ],
)
def test_answer_other_than_the_pod_is_reported(
    body: bytes, tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]
) -> None:
    with serving(answering(page("200 OK", body)), tls) as at:
        code, output = run(at)

    assert code == 1
    assert output.startswith("FAILED: the answer is not the Pod that was sent")


def test_answer_that_is_not_http_is_reported(tls: ssl.SSLContext, run: Callable[[int], tuple[int, str]]) -> None:
    with serving(answering(b"SSH-2.0-x\r\n"), tls) as at:
        code, output = run(at)

    assert code == 1
    assert output.startswith("FAILED: the API server cannot be reached: ")
