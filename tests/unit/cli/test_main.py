from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from injector import __version__
from injector.cli import main as cli
from injector.cli.main import COMMANDS, main
from injector.config.settings import Settings, flag, variable
from tests.http.certificates import DAY, NOW, Files, Issuer, key_pem, new_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(command in output for command in COMMANDS)


def test_missing_command_is_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage:" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["nonsense"], ["serve", "--nonsense"], ["completion", "tcsh"], ["serve", "--port"]])
def test_usage_error_is_exit_code_2_on_stderr(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err


def test_help_of_serve_has_every_flag_grouped_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"{flag(name)} " in output.replace("\n", " \n") for name in Settings.model_fields)
    assert all(heading in output for heading in ("Listening:", "TLS:", "Limits:", "Deadlines (seconds):"))
    assert "default: 10250" in output
    assert max(map(len, output.splitlines())) <= 80


def test_version_in_both_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["version", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__


def test_version_option_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dapr-token-injector {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    output = capsys.readouterr().out
    assert "dapr-token-injector" in output
    assert f"{shell}_complete" in output


def test_all_errors_are_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("colour: red\nshadow: 1\n")
    key = new_key()
    files = Files.write(tmp_path, Issuer().issue(key, hosts=(), until=NOW + DAY), key_pem(new_key()))
    flags = ["--tls-mode", "files", "--tls-cert-file", str(files.chain), "--tls-private-key-file", str(files.key)]
    assert main(["serve", *flags, "--policy-file", str(policy), "--port", "x", "--max-lag", "0"]) == 2
    output = capsys.readouterr().err.splitlines()
    assert all(line.startswith("Error: ") for line in output)
    for part in (
        "--port",
        "--max-lag",
        "policy.yaml:1",
        "policy.yaml:2",
        "no subject alternative name",
        "does not match",
    ):
        assert any(part in line for line in output), part
    assert len(output) == 6


def test_missing_policy_and_files_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--tls-mode", "files", "--policy-file", "/nowhere/p.yaml"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_all_missing_settings_are_reported_outside_a_cluster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POD_NAMESPACE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert main(["serve"]) == 2
    output = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in output] == ["--namespace", "--kubeconfig"]


def test_missing_kubeconfig_file_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--namespace", "dapr", "--kubeconfig", "/nowhere/config"]) == 2
    assert capsys.readouterr().err == "Error: --kubeconfig: /nowhere/config is not a file\n"


def test_cert_manager_mode_reads_files_and_needs_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--tls-mode", "cert-manager", "--tls-cert-file", "/nowhere/tls.crt"]) == 2
    assert capsys.readouterr().err == "Error: --tls-private-key-file: is required with --tls-mode cert-manager\n"


def test_internal_error_is_exit_code_3_without_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> int:
        raise ValueError("hunter2")

    monkeypatch.setattr(cli.commands, "main", failing)
    assert main([]) == 3
    output = capsys.readouterr().err
    assert "ValueError" in output
    assert "hunter2" not in output
    assert "failing" in output


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 2), (click.Abort(), 2)],
    ids=["int", "abort"],
)
def test_exception_ends_with_its_exit_code(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(cli.commands, "main", failing)
    assert main([]) == code


def test_closed_output_pipe_is_exit_code_0() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "injector", "version"], check=False, stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_module_without_command_is_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "invalid", ("tests.unit.cli.invalid_command", "Invalid."))
    assert main(["invalid"]) == 3


@pytest.mark.parametrize("argv", [["--help"], ["version"], ["serve", "--help"], ["status", "--help"]])
def test_help_imports_neither_kubernetes_nor_fastapi(argv: list[str]) -> None:
    program = (
        f"import sys; from injector.cli.main import main; main({argv!r}); "
        "sys.exit(any(name in sys.modules for name in ('kubernetes', 'fastapi', 'uvicorn')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_serving_from_files_imports_no_kubernetes() -> None:
    program = "import sys; import injector.webhook.compose; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "injector", "version"], check=True, capture_output=True, text=True)
    assert __version__ in done.stdout


@pytest.mark.parametrize(
    "argv",
    [
        ["token", "verify", "{}"],
        ["token", "{}"],
        ["token", "generate", "{}"],
        ["token", "generate", "--alg", "HS256", "--signing-key={}"],
        ["probe", "{}"],
        ["run", "--token-file", "{}", "--", "true"],
        ["secret", "create", "shop/x", "--token-file", "{}"],
    ],
)
@pytest.mark.parametrize("token", ["eyJhbGciOiJIUzI1NiJ9." + "x1" * 120, "Zk3q9vLw2Xy7Tt5Rr1Pp8Oo4Nn6Mm0"])
def test_pasted_token_in_place_of_a_file_is_not_shown(
    argv: list[str], token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part.format(token) for part in argv]) == 2
    captured = capsys.readouterr()
    assert token not in captured.out + captured.err
    assert "not shown: it may be a token" in captured.err


def test_path_whose_folder_is_there_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Zk3q9vLw2Xy7Tt5Rr1Pp8Oo4Nn6Mm0"
    assert main(["token", "verify", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")])
@pytest.mark.parametrize("command", [["lint"], ["inject", "-f"], ["explain", "-f"]])
def test_output_to_a_closed_stream_is_lost_and_nothing_else(
    command: list[str], closed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "x.yaml"
    manifest.write_text("kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n")
    for name in closed:
        monkeypatch.setattr(sys, name, None)  # as the interpreter has it after `>&-`

    assert main([*command, str(manifest)]) == 0

    for name in closed:
        getattr(sys, name).close()


def test_closed_standard_input_holds_nothing() -> None:
    command = f"exec {sys.executable} -m injector token verify <&-"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "internal error" not in done.stderr
    assert done.stderr.count("\n") <= 4


def test_full_disk_is_reported_in_one_line() -> None:
    command = f"exec {sys.executable} -m injector version > /dev/full"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "Error: the output cannot be written: no space left on device\n")


def test_empty_lifetime_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "generate", "--expires-in", ""]) == 2
    assert capsys.readouterr().out == ""
