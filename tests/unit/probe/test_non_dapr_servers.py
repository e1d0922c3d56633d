"""Servers other than daprd are reported and never get the token."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from injector.cli.main import main
from tests.controlplane.processes import free_port
from tests.unit.probe.servers import MARKER, REFUSAL, page, saying, serving, silent

if TYPE_CHECKING:
    import socket
    import ssl

NOT_DAPRD = "not daprd"


def probed(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2, verdict: str = "unknown"
) -> list[dict[str, str]]:
    """The ports of the one target."""
    assert main(["probe", "-o", "json", "--timeout", "60", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "marker" not in captured.out
    (target,) = json.loads(captured.out)["targets"]
    assert target["verdict"] == verdict
    ports = target["ports"]
    return ports if isinstance(ports, list) and ports else [{"failure": target.get("failure", "")}]


@pytest.mark.parametrize("scheme", ["http", "grpc", "https", "grpcs"])
def test_closed_port_is_reported(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = probed(capsys, f"{scheme}://127.0.0.1:{free_port()}")

    assert port["failure"] == "nothing listens there (connection refused)"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_unknown_host_is_reported(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = probed(capsys, f"{scheme}://no-such-host.invalid:3500")

    assert port["failure"] == "host not found"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_silent_server_times_out(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(silent) as at:
        (port,) = probed(capsys, f"{scheme}://127.0.0.1:{at}", "--timeout", "0.5")

    assert port["failure"] == "no answer within 0.5 s"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((page("200 OK", b"hello"),), f"{NOT_DAPRD} (status 200 for /v1.0/metadata)"),
        ((page("200 OK", b'{"id":"x"}'),), f"{NOT_DAPRD} (status 200 for /v1.0/metadata)"),
        ((page("401 Unauthorized", b"log in first"),), f"{NOT_DAPRD} (status 401 for /v1.0/metadata)"),
        (
            (page("302 Found", b""),),
            "the server redirects without naming a target (status 302), and no redirect is followed",
        ),
        ((page("502 Bad Gateway", b""),), f"{NOT_DAPRD} (status 502 for /v1.0/metadata)"),
        ((b"SSH-2.0-x\r\n",), "the server does not speak HTTP"),
        ((b"\0" * 100,), "the server does not speak HTTP"),
        ((), "the connection was closed without an answer"),
        ((b"HTTP/1.1 ",), "the connection was closed without an answer"),
    ],
)
def test_other_http_server_is_not_daprd(
    answer: tuple[bytes, ...], why: str, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    received: list[bytes] = []
    with serving(saying(*answer, received=received)) as at:
        (port,) = probed(capsys, f"http://127.0.0.1:{at}", "--token-file", token)

    assert port["failure"] == why
    assert received
    assert not any(MARKER.encode() in request for request in received)


@pytest.mark.parametrize("answer", [page("200 OK", b"hello"), b"\0" * 100, b""])
def test_other_grpc_protocol_is_not_daprd(answer: bytes, token: str, capsys: pytest.CaptureFixture[str]) -> None:
    received: list[bytes] = []
    with serving(saying(answer, received=received)) as at:
        (port,) = probed(capsys, f"grpc://127.0.0.1:{at}", "--token-file", token)

    assert port["failure"] == "the server does not speak gRPC"
    assert not any(MARKER.encode() in request for request in received)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_port_without_tls_is_reported(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(saying(page("400 Bad Request", b""))) as at:
        (port,) = probed(capsys, f"{scheme}://127.0.0.1:{at}")

    assert port["failure"].startswith("TLS: the handshake failed")


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_untrusted_certificate_is_rejected(
    scheme: str, tls: tuple[ssl.SSLContext, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(saying(REFUSAL), tls[0]) as at:
        (port,) = probed(capsys, f"{scheme}://localhost:{at}")

    assert port["failure"].startswith("TLS: the certificate is not trusted")


def test_trusted_certificate_is_accepted(tls: tuple[ssl.SSLContext, str], capsys: pytest.CaptureFixture[str]) -> None:
    with serving(saying(REFUSAL), tls[0]) as at:
        (port,) = probed(capsys, f"https://localhost:{at}", "--ca-file", tls[1], code=0, verdict="closed")

    assert (port["without"], port["wrong"], port["right"]) == ("refused", "refused", "-")


def test_token_is_sent_only_after_refusal_by_daprd(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    received: list[bytes] = []
    with serving(saying(REFUSAL, received=received)) as at:
        (port,) = probed(capsys, f"http://127.0.0.1:{at}", "--token-file", token, code=1, verdict="open")

    assert port["right"] == "refused"
    assert [MARKER.encode() in request for request in received] == [False, False, True]
    wrong = received[1].split(b"dapr-api-token: ")[1].split(b"\r\n")[0]
    assert len(wrong) >= 43


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a TARGET, or select Pods with -A or -l SELECTOR"),
        (["nonsense"], "invalid target '"),
        (["http://127.0.0.1"], "invalid target '"),
        (["ftp://127.0.0.1:1"], "invalid target '"),
        (["http://:1"], "invalid target '"),
        (["http://127.0.0.1:1/v1.0"], "invalid target '"),
        (["http://127.0.0.1:99999"], "invalid target: malformed address or port"),
        (["http://[::1:1"], "invalid target: malformed address or port"),
        (["http://user:marker@127.0.0.1:1"], "invalid target: contains a user or password"),
        (["pod/"], "invalid target '"),
        (["pod/a/b"], "invalid target '"),
        (["secret/x"], "invalid target '"),
        (
            ["http://127.0.0.1:1", "--token-file", "x", "--token-stdin"],
            "--token-file and --token-stdin cannot be combined; use one of them",
        ),
        (["http://127.0.0.1:1", "--token-file", "/no/such"], "no such file"),
        (["http://127.0.0.1:1", "--accept", "everything"], "is not one of"),
        (["https://127.0.0.1:1", "--ca-file", "/dev/null"], "--ca-file: no PEM certificates in the file"),
        (["http://127.0.0.1:1", "--timeout", "0"], "0.1<=x"),
        (["pod/x", "--kubeconfig", "/no/such"], "kubeconfig"),
    ],
)
def test_usage_error_is_reported(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *arguments]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "marker" not in captured.err


def test_missing_kubeconfig_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert main(["probe", "pod/x"]) == 2

    output = capsys.readouterr().err
    assert f"there is no file {tmp_path}/.kube/config" in output
    assert output.count("\n") == 1


def test_probe_shows_no_token_in_arguments_or_environment(token: str) -> None:
    asked = threading.Event()

    def wait(connection: socket.socket) -> None:
        asked.set()
        silent(connection)

    with serving(wait) as at:
        command = [sys.executable, "-m", "injector", "probe", f"http://127.0.0.1:{at}", "--token-file", token]
        with subprocess.Popen([*command, "--timeout", "60"], stdout=subprocess.DEVNULL) as process:
            try:
                assert asked.wait(60)
                for name in ("cmdline", "environ", "comm", "status"):
                    assert MARKER.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes()
            finally:
                process.kill()
