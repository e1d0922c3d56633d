from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from injector.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def key(tmp_path: Path, capsys: Capture) -> Path:
    path = tmp_path / "key.json"
    assert main(["token", "generate", "--signing-key", str(path), "--create-key"]) == 0
    assert "created a signing key" in capsys.readouterr().err
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("flags", [(), ("--alg", "Ed25519"), ("--alg", "ES256")])
def test_token_goes_to_a_pipe_without_a_newline(flags: tuple[str, ...], capsys: Capture) -> None:
    assert main(["token", "generate", *flags]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("eyJ")
    assert "\n" not in output.out
    assert "signed with a new key that was not kept; use --signing-key to keep one" in output.err


def test_terminal_output_has_note_and_newline() -> None:
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "injector", "token", "generate", "--format", "opaque"],
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        shown = os.read(controller, 4096)
    finally:
        os.close(terminal)
        os.close(controller)
    assert shown.endswith(b"\r\n")
    assert len(shown) == 45
    assert "the token is a secret and stays in the terminal's history; use --out FILE" in done.stderr


def test_out_file_has_mode_0600_and_is_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "token"
    assert main(["token", "generate", "--format", "opaque", "--out", str(out)]) == 0
    first = out.read_bytes()
    assert (mode(out), len(first)) == (0o600, 43)

    assert main(["token", "generate", "--format", "opaque", "--out", str(out)]) == 2
    assert "file exists and was not modified; use --force to replace it" in capsys.readouterr().err
    assert out.read_bytes() == first

    out.chmod(0o644)
    assert main(["token", "generate", "--format", "opaque", "--out", str(out), "--force"]) == 0
    assert out.read_bytes() != first
    assert mode(out) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_out_that_is_not_a_file_is_never_replaced(tmp_path: Path, capsys: Capture) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main(["token", "generate", "--out", str(pipe), "--force"]) == 2
    assert "not a regular file, so it is not overwritten" in capsys.readouterr().err
    assert pipe.is_fifo()


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "token")
    assert main(["token", "generate", "--out", str(tmp_path / "link"), "--force"]) == 0
    assert (tmp_path / "link").is_symlink()
    assert mode(tmp_path / "token") == 0o600


def test_out_in_a_missing_folder_is_named(tmp_path: Path, capsys: Capture) -> None:
    assert main(["token", "generate", "--out", str(tmp_path / "no" / "token")]) == 2
    error = capsys.readouterr().err
    assert "\nError: --out " in error
    assert error.endswith(": cannot be written: no such file or directory\n")


def test_options_that_make_a_token_too_long_are_named(capsys: Capture) -> None:
    assert main(["token", "generate", *(f"--claim={name}={'x' * 900}" for name in "abcd")]) == 2
    assert "Error: --claim, --aud: not a token: it has more than 4,096 bytes" in capsys.readouterr().err


def test_signing_key_is_created_only_on_request(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "key.json"
    assert main(["token", "generate", "--signing-key", str(path)]) == 2
    assert "not found; create it with `token generate --create-key`" in capsys.readouterr().err
    assert not path.exists()


def test_created_key_has_mode_0600_and_is_reused(key: Path) -> None:
    content = key.read_bytes()
    assert mode(key) == 0o600
    assert main(["token", "generate", "--signing-key", str(key), "--create-key"]) == 0
    assert key.read_bytes() == content


def test_token_verifies_by_public_half_after_rotation(key: Path, tmp_path: Path, capsys: Capture) -> None:
    out, public = tmp_path / "token", tmp_path / "jwks.json"
    assert main(["token", "generate", "--signing-key", str(key), "--out", str(out)]) == 0
    assert main(["token", "generate", "--signing-key", str(key), "--rotate-key"]) == 0
    capsys.readouterr()
    assert main(["token", "jwks", "--signing-key", str(key)]) == 0
    public.write_text(capsys.readouterr().out)
    assert len(json.loads(public.read_text())["keys"]) == 2
    assert mode(key) == 0o600
    assert main(["token", "verify", str(out), "--signing-key", str(public)]) == 0
    output = capsys.readouterr().out
    assert "signature  fine   Ed25519" in output
    assert "does not check: signature, exp and nbf" in output


def test_verify_reports_failed_check_and_exits_with_1(key: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "token"
    assert main(["token", "generate", "--aud", "other", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["token", "verify", str(out), "--signing-key", str(key), "-o", "json"]) == 1
    output = json.loads(capsys.readouterr().out)
    assert {one["what"] for one in output["findings"] if one["fine"] is False} == {"signature", "audience"}
    assert output["dapr"]["checksNot"]


def test_key_readable_by_others_is_noted(key: Path, capsys: Capture) -> None:
    key.chmod(0o640)
    assert main(["token", "generate", "--signing-key", str(key)]) == 0
    assert f"note: {key}: other users can read it" in capsys.readouterr().err


def test_callers_secret_signs_by_hs256(tmp_path: Path, capsys: Capture) -> None:
    secret, out = tmp_path / "secret", tmp_path / "token"
    secret.write_text("marker-marker-marker-marker-marker\n")
    hs256 = ["--alg", "HS256", "--signing-key", str(secret)]
    assert main(["token", "generate", *hs256, "--out", str(out)]) == 0
    assert main(["token", "verify", str(out), *hs256]) == 0
    assert main(["token", "jwks", "--signing-key", str(secret)]) == 2
    assert "marker" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--expires-in", "90"], '--expires-in: "90" has no unit; use 90s, 90m or 1h'),
        (["--expires-in", "59s"], '--expires-in: "59s" is out of range; use 60s to 520w'),
        (["--claim", "exp=1"], "--claim exp: already set by --expires-in; use another name"),
        (["--claim", "team"], "--claim: no value; use NAME=VALUE"),
        (["--claim", "a=1", "--claim", "a=2"], "--claim: the same name twice"),
        (["--iss", ""], "--iss: not valid; use printable ASCII"),
        (
            ["--format", "opaque", "--sub", "x", "--alg", "ES256"],
            "--alg, --sub: no effect with --format opaque, which has no claims and no signature; remove them",
        ),
        (["--format", "opaque", "--iss", "x"], "--iss: no effect with --format opaque"),
        (["--format", "opaque", "--aud", "x"], "--aud: no effect with --format opaque"),
        (["--create-key"], "require --signing-key, where the key is kept"),
        (["--alg", "HS256"], "--alg HS256 requires --signing-key, a secret of 32 bytes or more"),
        (
            ["--alg", "HS256", "--signing-key", "no", "--create-key"],
            "--signing-key no: HS256 keys are not generated; supply a secret of 32 random bytes",
        ),
        (["--signing-key", "secret:shop"], "--signing-key: invalid Secret; use secret:NAMESPACE/NAME"),
        (["--signing-key", "secret:Shop/x"], "--signing-key: invalid Secret; use secret:NAMESPACE/NAME"),
        (["--signing-key", "/"], "is a directory"),
        (["--signing-key", "none/key", "--create-key"], "--signing-key none/key: no such file or directory"),
        (["--force"], "--force requires --out"),
        (["--claim", f"long={'x' * 4096}"], "16 to 4,096"),
    ],
)
def test_usage_error_of_generate_is_reported(
    flags: list[str], why: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["token", "generate", *flags]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert why in output.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"marker-0123456789abc\n", "ends with a newline"),
        (b"marker", "it has 6 bytes"),
        (b"", "it is empty"),
        (b"marker 0123456789abc", "is a space"),
        (b"x" * 5000, "it has more than 4,096 bytes"),
    ],
)
def test_invalid_token_is_rejected_with_the_reason(content: bytes, why: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    assert main(["token", "verify", str(path)]) == 2
    output = capsys.readouterr()
    assert why in output.err
    assert "marker" not in output.out + output.err


def test_invalid_claims_create_no_key(tmp_path: Path) -> None:
    assert main(["token", "generate", "--signing-key", str(tmp_path / "key"), "--create-key", "--sub", ""]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["generate", "verify", "jwks"])
def test_help_fits_80_columns(name: str, capsys: Capture) -> None:
    assert main(["token", name, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
