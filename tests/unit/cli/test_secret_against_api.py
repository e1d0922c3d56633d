"""The `secret` commands against an API server on loopback: first-day errors, many objects, and how they are ended."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import main
from tests.controlplane.polling import wait_for
from tests.fake_cluster.http_json import kubeconfig
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.objects import admitted, deployment, namespace, pod, replica_set, secret

if TYPE_CHECKING:
    from collections.abc import Iterator

Capture = pytest.CaptureFixture[str]
ROOT: Final = Path(__file__).parents[3]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as running:
        running.put("namespaces", namespace("shop"))
        yield running


def run(server: ApiServer, *arguments: str) -> int:
    return main(["secret", *arguments, "--kubeconfig", str(server.kubeconfig)])


# --- the first day ---

FIRST: Final = ("secret", "create", "shop/dapr-api-token")


def one_line(capsys: Capture, *arguments: str) -> str:
    """What a refused command says."""
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    return output.err


def test_missing_kubeconfig_is_reported(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "none"
    assert one_line(capsys, *FIRST, "--kubeconfig", str(path)) == (
        f"Error: cannot read the kubeconfig {path}: there is no file {path}; "
        "name one with --kubeconfig or the variable KUBECONFIG\n"
    )


def test_unknown_context_is_reported(server: ApiServer, capsys: Capture) -> None:
    output = one_line(capsys, *FIRST, "--kubeconfig", str(server.kubeconfig), "--context", "prod")
    assert output == (
        f"Error: cannot read the kubeconfig {server.kubeconfig}: context prod does not exist; known contexts: c; "
        "select one of them with --context\n"
    )


def test_kubeconfig_without_current_context_is_reported(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({**kubeconfig("http://127.0.0.1:1"), "current-context": ""}))
    output = one_line(capsys, *FIRST, "--kubeconfig", str(path))
    assert output.endswith(": no current context is set; known contexts: c; select one of them with --context\n")


@pytest.mark.parametrize("content", ["", "{{{", "<html>"])
def test_file_that_is_not_a_kubeconfig_is_reported(content: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    assert ": not a valid kubeconfig; name one" in one_line(capsys, *FIRST, "--kubeconfig", str(path))


@pytest.mark.parametrize("command", ["no-such-plugin", "false"])
def test_failing_credential_plugin_is_reported(command: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "kubeconfig"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command}
    path.write_text(
        json.dumps({**kubeconfig("http://127.0.0.1:1"), "users": [{"name": "u", "user": {"exec": plugin}}]})
    )
    assert ": its credential plugin failed: " in one_line(capsys, *FIRST, "--kubeconfig", str(path))


def test_address_without_tls_is_reported(server: ApiServer, capsys: Capture) -> None:
    text = server.kubeconfig.read_text()
    server.kubeconfig.write_text(text.replace("http://", "https://"))
    output = one_line(capsys, *FIRST, "--kubeconfig", str(server.kubeconfig))
    assert "cannot speak TLS with 127.0.0.1:" in output


def test_unreachable_api_server_is_reported(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig("http://127.0.0.1:1")))
    output = one_line(capsys, *FIRST, "--kubeconfig", str(path))
    assert "cannot connect to 127.0.0.1:1 (connection refused); " in output
    assert output.endswith("run it again when the API server is back, or check --context\n")


def test_unknown_api_server_name_is_reported(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig("http://nowhere.invalid:6443")))
    output = one_line(capsys, *FIRST, "--kubeconfig", str(path))
    assert "cannot connect to nowhere.invalid:6443 (" in output


def test_missing_namespace_without_permission_to_read_it(server: ApiServer, capsys: Capture) -> None:
    wanted = "Error: namespace away not found; create it, or check --context\n"
    flags = ("--kubeconfig", str(server.kubeconfig))
    assert one_line(capsys, "secret", "create", "away/s", *flags) == wanted
    message = 'namespaces "away" is forbidden: User "jane" cannot get resource "namespaces" in API group ""'
    server.refusals = [Refusal("GET .*/namespaces/away$", 403, message)]
    assert one_line(capsys, "secret", "create", "away/s", *flags) == wanted


def test_missing_permission_is_reported(server: ApiServer, capsys: Capture) -> None:
    message = (
        'secrets is forbidden: User "jane" cannot create resource "secrets" in API group "" in the namespace "shop"'
    )
    server.refusals = [Refusal("POST .*/secrets", 403, message, "Forbidden")]
    output = one_line(capsys, *FIRST, "--kubeconfig", str(server.kubeconfig))
    assert output == (
        f"Error: cannot create secrets/dapr-api-token in namespace shop: not allowed: {message}; "
        "request that permission, or use another --context\n"
    )


def test_expired_credentials_are_reported(server: ApiServer, capsys: Capture) -> None:
    server.refusals = [Refusal("GET", 401, "Unauthorized", "Unauthorized")]
    output = one_line(capsys, *FIRST, "--kubeconfig", str(server.kubeconfig))
    assert output.endswith("; log in again, or use another --context\n")


def test_failing_cluster_webhook_is_named(server: ApiServer, capsys: Capture) -> None:
    message = 'Internal error occurred: failed calling webhook "w.example": failed to call webhook: connection refused'
    server.refusals = [Refusal("POST .*/secrets", 500, message, "InternalError")]
    assert message in one_line(capsys, *FIRST, "--kubeconfig", str(server.kubeconfig))


# --- Secrets that exist ---


@pytest.mark.parametrize("dry_run", [(), ("--dry-run=server",)])
def test_create_again_ends_with_0(server: ApiServer, capsys: Capture, dry_run: tuple[str, ...]) -> None:
    assert run(server, "create", "shop/a", "shop/b") == 0
    before = dict(server.objects)
    assert run(server, "create", "shop/a", "shop/b", *dry_run) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "shop/b: exists (not modified; no other tool manages it)"
    assert run(server, "create", "shop/a", "shop/b", "--fail-if-exists", *dry_run) == 1
    assert server.objects == before
    server.put("namespaces", {"metadata": {"name": "new", "labels": {"dapr": "on"}}})
    server.objects["namespaces", "", "shop"]["metadata"]["labels"] = {"dapr": "on"}
    assert run(server, "create", "a", "--namespace-selector", "dapr=on") == 0
    assert run(server, "create", "a", "--namespace-selector", "dapr=on") == 0
    assert ("secrets", "new", "a") in server.objects


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "no valid token: no key token"),
        ({"other": "MDEyMzQ1Njc4OWFiY2RlZg=="}, "no valid token: no key token"),
        ({"token": ""}, "no valid token: it is empty"),
        ({"token": None}, "no valid token: it is empty"),
        ({"token": "bWFya2VyLTAxMjM0NTY3ODlhYmNkZWYK"}, "no valid token: it ends with a newline"),
        ({"token": "AAAA"}, "no valid token: byte 1 is a control character"),
    ],
)
def test_existing_secret_without_a_valid_token_ends_with_1(
    server: ApiServer, capsys: Capture, data: dict[str, str], why: str
) -> None:
    server.put("secrets", {**secret("s"), "data": data})
    assert run(server, "create", "shop/s", "shop/new") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "shop/new: created"
    assert lines[1].startswith(f"shop/s: invalid (not modified; no other tool manages it; {why}")
    assert "marker" not in lines[1]
    assert run(server, "create", "shop/s", "shop/more", "--same") == 1


def test_existing_secret_that_is_being_deleted_ends_with_1(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("s"))["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert run(server, "create", "shop/s") == 1
    assert capsys.readouterr().out.endswith("; it is being deleted)\n")


def test_existing_secret_that_cannot_be_read_is_unknown(server: ApiServer, capsys: Capture) -> None:
    server.put("secrets", secret("s"))
    server.refusals = [Refusal("GET .*/secrets/s", 403, "no", "Forbidden")]
    assert run(server, "create", "shop/s") == 1
    assert capsys.readouterr().out == (
        "shop/s: unknown (it exists and you may not read it, so its token was not checked; request get secrets)\n"
    )


# --- options that would do nothing ---


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        (("--token-file", "x"), "--token-file"),
        (("--token-stdin", "--same"), "--token-stdin, --same"),
        (("--dry-run", "client"), "--dry-run"),
        (("-o", "json"), "--output"),
        (("--format", "opaque"), "--format"),
        (("--signing-key", "k", "--create-key"), "--signing-key, --create-key"),
        (("--expires-in", "1d", "--aud", "x"), "--expires-in, --aud"),
        (("--context", "c"), "--context"),
        (("--namespace-selector", "a=b"), "--namespace-selector"),
    ],
)
def test_print_manifest_rejects_options_without_effect(flags: tuple[str, ...], wrong: str, capsys: Capture) -> None:
    name = "s" if "--namespace-selector" in flags else "shop/s"
    assert main(["secret", "create", name, "--print-manifest", "--store", "v", *flags]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert (
        f"{wrong}: no effect with --print-manifest, which creates no token and does not access the cluster; remove "
        in output.err
    )


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--store", "Vault/v"), '--store: "Vault" is not a kind of store; use ClusterSecretStore or SecretStore'),
        (("--store", "SecretStore/"), '--store: "" is not a valid name'),
        (("--store", "My_Store"), '--store: "My_Store" is not a valid name'),
        (("--store", ""), "--print-manifest requires --store"),
        (("--store", "v", "--remote-key", " "), "--remote-key: empty"),
    ],
)
def test_invalid_store_is_rejected(flags: tuple[str, ...], why: str, capsys: Capture) -> None:
    assert main(["secret", "create", "shop/s", "--print-manifest", *flags]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "direction"), [((), "api"), (("--app-token",), "app")])
def test_manifest_labels_the_secret_for_its_direction(flag: tuple[str, ...], direction: str, capsys: Capture) -> None:
    assert main(["secret", "create", "shop/s", "--print-manifest", "--store", "v", *flag]) == 0
    assert f"dapr-token-injector/token: {direction}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ("create", "shop/s", "--format", "opaque"),
            "--format: no effect on a token that is given by --token-file or --token-stdin",
        ),
        (
            ("rotate", "shop/s", "--signing-key", "k"),
            "--signing-key: no effect on a token that is given by --token-file or --token-stdin",
        ),
    ],
)
def test_given_token_rejects_minting_options(
    arguments: tuple[str, ...], why: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef")
    path.chmod(0o600)
    assert main(["secret", *arguments, "--token-file", str(path)]) == 2
    assert why in capsys.readouterr().err


# --- many objects ---


def test_list_restarts_when_continue_token_has_expired(server: ApiServer, capsys: Capture) -> None:
    for number in range(700):
        server.put("secrets", secret(f"s{number}"))
    for number in range(1100):
        server.put("pods", pod("web", number, secret=f"s{number % 700}"))
    server.put("replicasets", replica_set("web"))
    server.put("deployments", deployment("web"))
    server.expires = 2
    assert run(server, "list", "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)["secrets"]
    assert len(rows) == 700
    assert sum(row["pods"] for row in rows) == 1100
    assert {tuple(row["workloads"]) for row in rows} == {("Deployment/web",)}
    assert len(server.calls) < 30, "pages, and not a call per Pod or Secret"


def test_list_fails_when_continue_token_keeps_expiring(server: ApiServer, capsys: Capture) -> None:
    for number in range(501):
        server.put("pods", pod("web", number))
    server.expires = 99
    output = one_line(capsys, "secret", "list", "--kubeconfig", str(server.kubeconfig))
    assert output.startswith("Error: cannot list pods in all namespaces: the resource version is too old")
    assert output.endswith("; run it again\n")


# --- completion ---


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("secret list -n ", ["b", "shop"]),
        ("secret list --namespace s", ["shop"]),
        ("ca rotate -n ", ["b", "shop"]),
        ("secret create ", ["b/dapr-api-token", "shop/dapr-api-token"]),
        ("secret create sh", ["shop/dapr-api-token"]),
        ("secret create -A ", ["dapr-api-token"]),
        ("secret rotate ", ["shop/other", "shop/s"]),
        ("secret rotate shop/s ", ["shop/other", "shop/s"]),
        ("secret revoke shop/o", ["shop/other"]),
        ("secret rotate b/", []),
        ("secret rotate -A ", ["other", "s"]),
        ("secret rotate --namespace-selector a=b o", ["other"]),
    ],
)
@pytest.mark.parametrize("answers", [True, False])
def test_shells_complete_names_of_the_cluster(
    server: ApiServer,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    offered: list[str],
    *,
    answers: bool,
) -> None:
    server.put("namespaces", namespace("b"))
    server.put("secrets", secret("s"))
    server.put("secrets", secret("other"))
    server.put("secrets", {**secret("unlabelled"), "metadata": {"namespace": "shop", "name": "unlabelled"}})
    if not answers:
        server.refusals = [Refusal(".*", 403, "no", "Forbidden")]
    group, command, rest = typed.split(" ", 2)
    words = f"dapr-token-injector {group} {command} --kubeconfig {server.kubeconfig} {rest}"
    monkeypatch.setenv("_DAPR_TOKEN_INJECTOR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(f"{words}x".split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    printed = capsys.readouterr()
    is_offline = typed == "secret create -A "
    lines = [line for line in printed.out.splitlines() if line]
    assert lines == [f"plain,{name}" for name in offered if answers or is_offline]
    assert printed.err == ""


# --- at a terminal ---


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (b"\xff\xfe-abcdefghijklmnop", "byte 1 is not ASCII"),
        ("pässword-abcdefghijkl".encode(), "byte 2 is not ASCII"),
        (b"a" * 4096, "a terminal cuts lines after 4,095 bytes; use --token-file"),
    ],
    ids=["no-text", "no-ascii", "too-long"],
)
def test_invalid_token_at_the_prompt_is_rejected(typed: bytes, why: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "injector", *FIRST, "--token-stdin", "--kubeconfig", str(tmp_path / "none")]
    process, terminal = pty.fork()
    if not process:
        os.chdir(ROOT)
        os.execv(sys.executable, command)  # noqa: S606 - ours, in a terminal of its own
    shown = bytearray()
    with contextlib.suppress(OSError):  # Linux ends a terminal that all processes left so
        while b"Token" not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, typed + b"\n")
        while block := os.read(terminal, 4096):
            shown += block
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 2
    assert f"standard input: not a token: {why}" in shown.decode()
    assert typed[-8:] not in shown


@pytest.mark.parametrize(
    ("number", "ignored"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        (signal.SIGHUP, (signal.SIGINT,)),  # as in the background of a shell's script
    ],
)
def test_interrupted_rotation_restores_cursor_and_names_next_command(
    server: ApiServer, number: signal.Signals, ignored: tuple[signal.Signals, ...]
) -> None:
    server.put("secrets", secret("s"))
    for plural, item in (("pods", pod("web")), ("replicasets", replica_set("web")), ("deployments", deployment("web"))):
        server.put(plural, item)
    controller, terminal = pty.openpty()
    server.admitted = admitted
    flags = ["--restart", "--propagation-delay", "0s", "--kubeconfig", str(server.kubeconfig)]
    command = ["secret", "rotate", "shop/s", *flags]
    shown = bytearray()
    try:
        traps = "".join(f"trap '' {one.name.removeprefix('SIG')}; " for one in ignored)
        with subprocess.Popen(
            ["/bin/sh", "-c", f'{traps}exec "$@"', "sh", sys.executable, "-m", "injector", *command],
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
            cwd=ROOT,
        ) as process:
            os.set_blocking(controller, False)

            def has_shown(what: bytes) -> bool:
                with contextlib.suppress(BlockingIOError):
                    shown.extend(os.read(controller, 65536))
                return what in shown

            wait_for("the live table", lambda: has_shown(b"restarting"))
            process.send_signal(number)
            wait_for("the end", lambda: has_shown(b"--resume") and process.poll() is not None)
            has_shown(b"")
            code = process.returncode
    finally:
        os.close(terminal)
        os.close(controller)
    assert code == 2
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "hidden, and then shown"
    again = f"rotate --restart shop/s --propagation-delay=0s --kubeconfig={server.kubeconfig} --resume"
    at = "restarting: Deployment shop/web"
    assert f"interrupted; {at}; continue with: dapr-token-injector secret {again}" in shown.decode().replace("\r\n", "")
