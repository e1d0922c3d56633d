"""No token leaves by any way but into its Secret: output, errors, argument lists, environments, completion."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.kubelet import Kubelet
from tests.cluster.objects import SECRET
from tests.cluster.tokencommands import Commands, marker, workload
from tests.controlplane.polling import wait_for
from tests.fake_cluster.http_json import kubeconfig, read_json, send_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.controlplane.api import Json
    from tests.controlplane.kubectl import Kubectl


def forms(token: str) -> tuple[str, ...]:
    """A token as it could turn up."""
    return token, base64.b64encode(token.encode()).decode()[:20], token[6:22]


@pytest.fixture
def commands(kubectl: Kubectl) -> Commands:
    return Commands(kubectl, kubectl.kubeconfig)


def test_no_command_shows_the_marked_token(commands: Commands, tmp_path: Path) -> None:
    first, second = marker(), marker()
    namespace = commands.kubectl.namespace
    file = tmp_path / "token"
    file.write_text(second)
    file.chmod(0o600)
    with Kubelet(commands.kubectl):
        commands.kubectl.create(workload("Deployment", "web", replicas=1))
        for arguments, stdin in (
            (("secret", "create", commands.secret, "--token-stdin", "--dry-run", "server"), first),
            (("secret", "create", commands.secret, "--token-stdin"), first),
            (("secret", "create", commands.secret, "--token-stdin"), first),
            (("secret", "create", commands.secret, f"{namespace}-no/x", "--token-stdin"), first),
            (("secret", "list"), ""),
            (("secret", "list", "-o", "json"), ""),
            (("secret", "rotate", commands.secret, "--token-file", str(file), "--dry-run"), ""),
            (
                (
                    "secret",
                    "rotate",
                    commands.secret,
                    "--token-file",
                    str(file),
                    "--restart",
                    "--propagation-delay",
                    "0s",
                ),
                "",
            ),
            (("secret", "rotate", commands.secret, "--token-file", str(file), "--key", "no"), ""),
            (("secret", "rotate", f"{namespace}/{first}"), ""),
            (("secret", "revoke", commands.secret, "--token-stdin", "-o", "json", "--timeout", "1s"), second),
            (("secret", "rotate", commands.secret, "--token-stdin"), f"{second}\n"),
            (("token", "verify", str(file)), ""),
            (("token", "verify"), first),
        ):
            commands.run(*arguments, stdin=stdin)
        objects = commands.kubectl.run("get", "deployments,replicasets,pods,events", "-o", "json").stdout
    everything = "".join(commands.output) + objects
    meta = json.dumps(commands.kubectl.get("secret", SECRET)["metadata"])
    assert commands.value() == second
    for form in (*forms(first), *forms(second)):
        assert form not in everything.replace(f"{namespace}/{first}", "")
        assert form not in meta


def test_process_arguments_and_environment_contain_no_token(commands: Commands) -> None:
    token = marker()
    assert commands.run("secret", "create", commands.secret).code == 0
    with Kubelet(commands.kubectl, never_ready="broken") as kubelet:
        web = workload("Deployment", "web", replicas=1)
        commands.kubectl.create(web)
        wait_for(
            "the Pod", lambda: any(one["status"].get("containerStatuses") for one in commands.kubectl.list("pods"))
        )
        kubelet.never_ready = "app"
        process = subprocess.Popen(
            [sys.executable, "-m", "injector", "secret", "rotate", commands.secret, "--token-stdin", "--restart"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBECONFIG": str(commands.kubeconfig)},
        )
        assert process.stdin is not None
        process.stdin.write(token)
        process.stdin.close()
        wait_for("the new token", lambda: commands.value() == token)
        seen = b"".join(Path(f"/proc/{process.pid}/{part}").read_bytes() for part in ("cmdline", "environ", "comm"))
        process.kill()
        process.wait()
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            output = process.stdout.read() + process.stderr.read()
    for form in forms(token):
        assert form.encode() not in seen
        assert form not in output


def test_completion_offers_names_and_no_value(commands: Commands) -> None:
    token = marker()
    assert commands.run("secret", "create", commands.secret, "--token-stdin", stdin=token).code == 0
    for words in ("secret rotate ", "secret rotate --", "secret list ", "token generate --signing-key "):
        done = subprocess.run(
            [sys.executable, "-m", "injector"],
            env={
                **os.environ,
                "KUBECONFIG": str(commands.kubeconfig),
                "_DAPR_TOKEN_INJECTOR_COMPLETE": "bash_complete",
                "COMP_WORDS": f"dapr-token-injector {words}",
                "COMP_CWORD": str(len(words.split()) + words.endswith(" ")),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert token not in done.stdout + done.stderr
        assert (commands.secret in done.stdout) is (words == "secret rotate ")


class EchoingServer(http.server.BaseHTTPRequestHandler):
    """An API server (or a proxy before one) that puts what it was sent into its errors."""

    status = 422
    secret: Json | None = None

    def do_GET(self) -> None:
        """Every namespace is there, and no Secret but `secret`."""
        if self.secret is not None:
            send_json(self, 200, self.secret)
            return
        found = "/secrets/" not in self.path
        name = self.path.partition("?")[0].rpartition("/")[2]
        send_json(self, 200 if found else 404, {"metadata": {"name": name}} if found else {"reason": "NotFound"})

    def do_POST(self) -> None:
        """No Secret is taken."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "dryRun" in self.path:
            send_json(self, 201, json.loads(body))
        else:
            send_json(
                self, self.status, {"kind": "Status", "reason": "Invalid", "message": f"Secret is invalid: {body}"}
            )

    def do_PUT(self) -> None:
        """An answer that no API server gives: the value where its metadata belongs."""
        send_json(self, 200, {"metadata": read_json(self)["data"]["token"]})

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[Path]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EchoingServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig(f"http://127.0.0.1:{server.server_port}")))
    try:
        yield path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [400, 403, 409, 422, 500])
def test_api_server_echo_of_the_request_is_not_shown(
    commands: Commands, echoing: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(EchoingServer, "status", status)
    token = marker()
    done = Commands(commands.kubectl, echoing).run("secret", "create", "shop/s", "--token-stdin", stdin=token)
    assert done.code == 2
    assert "cannot create secrets/s in namespace shop" in done.err
    for form in forms(token):
        assert form not in done.out + done.err


def test_unexpected_answer_to_a_write_is_not_shown(
    commands: Commands, echoing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, token = marker(), marker()
    monkeypatch.setattr(EchoingServer, "secret", a_secret(old))
    done = Commands(commands.kubectl, echoing).run("secret", "rotate", "shop/s", "--token-stdin", stdin=token)
    assert done.code == 2
    assert "cannot update secrets/s in namespace shop: not confirmed: " in done.err
    for form in (*forms(old), *forms(token)):
        assert form not in done.out + done.err


def test_internal_error_shows_code_locations_without_values(
    commands: Commands, echoing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that no API server gives: the value where the labels belong."""
    old, token = marker(), marker()
    monkeypatch.setattr(EchoingServer, "secret", a_secret(old, labels=old))
    done = Commands(commands.kubectl, echoing).run("secret", "rotate", "shop/s", "--token-stdin", stdin=token)
    assert done.code == 3
    assert "internal error (ValueError)" in done.err
    for form in (*forms(old), *forms(token)):
        assert form not in done.out + done.err


def a_secret(token: str, **meta: str) -> Json:
    labels = {"app.kubernetes.io/managed-by": "dapr-token-injector"}
    data = {"token": base64.b64encode(token.encode()).decode()}
    return {"metadata": {"namespace": "shop", "name": "s", "labels": labels, **meta}, "data": data}


def test_live_table_is_for_terminals_and_not_in_the_result(commands: Commands) -> None:
    assert commands.run("secret", "create", commands.secret).code == 0
    with Kubelet(commands.kubectl):
        commands.kubectl.create(workload("Deployment", "web", replicas=1))
        wait_for(
            "the Pod", lambda: any(one["status"].get("containerStatuses") for one in commands.kubectl.list("pods"))
        )
        controller, terminal = pty.openpty()
        shown = bytearray()
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "injector", "secret", "rotate", commands.secret, "--restart", "-o", "json"],
                stdout=subprocess.PIPE,
                stderr=terminal,
                env={**os.environ, "KUBECONFIG": str(commands.kubeconfig), "TERM": "xterm", "COLUMNS": "100"},
            ) as process:
                os.set_blocking(controller, False)

                def drained() -> bool:
                    try:
                        shown.extend(os.read(controller, 65536))
                    except BlockingIOError:
                        return process.poll() is not None
                    return False

                wait_for("the end", drained)
                assert process.stdout is not None
                result = json.loads(process.stdout.read())
        finally:
            os.close(terminal)
            os.close(controller)
    assert [one["state"] for one in result["workloads"]] == ["ready"]
    assert b"WORKLOAD" in shown
    assert b"Deployment" in shown
    assert b"\x1b[?25h" in shown, "the cursor comes back"
    assert commands.value().encode() not in shown
