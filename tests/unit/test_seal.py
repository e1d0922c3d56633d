"""`seal` and `seal --check`; tests/node/test_sealed_pods.py has what a kubelet reads."""

from __future__ import annotations

import base64
import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from injector import seal
from injector.cli.main import main
from injector.core import names
from injector.core.claims import TokenSpec
from injector.seal import SealError, check, plain_call
from injector.tokens.minting import mint_jwt
from tests.controlplane.netns import reason_unavailable
from tests.controlplane.requirement import require
from tests.forkserver import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

API, APP = names.TOKEN_VARIABLES
VALUE: Final = b"marker-0123456789abcdef"
# What an env file holds literally; `'` cannot be in it.
SPECIAL: Final = b'marker-$HOME$(x)\\\\n"#=`;!~*'
# By flaw: the value, and how the sentence begins.
BAD: Final = {
    "empty": (b"", "it is empty"),
    "newline": (VALUE + b"\n", "it ends with a newline"),
    "line-break": (VALUE + b"\r\nX='y'", "byte 24 is a line break"),
    "space": (b"marker 0123456789abcdef", "byte 7 is a space"),
    "control-character": (VALUE + b"\x7f", "byte 24 is a control character"),
    "not-ascii": (VALUE + "ü".encode(), "byte 24 is not ASCII"),
    "quote": (VALUE + b"'", "byte 24 is a single quote; a token is"),
    "short": (b"marker", "it has 6 bytes"),
    "long": (b"marker-" * 1000, "it has more than 4,096 bytes"),
}
bad: Final = pytest.mark.parametrize(("value", "why"), BAD.values(), ids=BAD)


class Outcome:
    """What a call left: exit code, standard error, termination message, and the files of the volume."""

    def __init__(self, code: int, stderr: str, message: str, folder: Path) -> None:
        self.code, self.stderr, self.message = code, stderr, message
        self.files = {one.name: one.read_bytes() for one in folder.iterdir()} if folder.is_dir() else {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.fixture
def run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command line, with the volume and the termination log in the test's folder."""
    log = tmp_path / "termination-log"
    log.write_text("of the previous run")
    monkeypatch.setattr(names, "SEAL_DIRECTORY", str(folder))
    monkeypatch.setattr(seal, "TERMINATION_LOG", str(log))
    for variable in names.TOKEN_VARIABLES:
        monkeypatch.delenv(variable, raising=False)

    def call(*words: str, **variables: bytes) -> Outcome:
        for name, value in variables.items():
            monkeypatch.setenv(name, os.fsdecode(value))
        code = main(["seal", *words])
        captured = capsys.readouterr()
        assert captured.out == ""
        return Outcome(code, captured.err, log.read_text(), folder)

    return call


def test_file_has_each_variable_on_a_line(run: Callable[..., Outcome], folder: Path) -> None:
    done = run(API, APP, DAPR_API_TOKEN=SPECIAL, APP_API_TOKEN=VALUE)

    assert (done.code, done.stderr, done.message) == (0, "", "")
    assert done.files == {names.SEAL_FILE: b"DAPR_API_TOKEN='" + SPECIAL + b"'\nAPP_API_TOKEN='" + VALUE + b"'\n"}
    assert (folder / names.SEAL_FILE).stat().st_mode & 0o777 == 0o600


def test_second_run_replaces_the_file(run: Callable[..., Outcome], folder: Path) -> None:
    (folder / f"{names.SEAL_FILE}.new").write_text("of a run that was killed, and longer than the new content" * 9)
    run(API, API, DAPR_API_TOKEN=VALUE)

    done = run(API, DAPR_API_TOKEN=VALUE * 2)

    assert (done.code, done.files) == (0, {names.SEAL_FILE: b"DAPR_API_TOKEN='" + VALUE * 2 + b"'\n"})


@bad
@pytest.mark.parametrize("flag", [(), ("--check",)], ids=["seal", "check"])
def test_bad_value_is_one_sentence_without_it(
    run: Callable[..., Outcome], flag: Sequence[str], value: bytes, why: str
) -> None:
    if flag and not value:
        why = "empty, so the kubelet of this node does not read env files; upgrade the node"

    done = run(*flag, APP, API, DAPR_API_TOKEN=value, APP_API_TOKEN=VALUE)

    assert (done.code, done.files) == (1, {})
    assert done.message.startswith(f"{API}: {why}")
    assert done.stderr == f"Error: {done.message}\n"
    assert "\n" not in done.message
    assert "marker" not in done.message


def test_absent_variable_is_one_sentence(run: Callable[..., Outcome]) -> None:
    assert run(API).message == f"{API}: not set in this container; set it from a key of a Secret"
    assert run("--check", API).message.startswith(f"{API}: empty, so the kubelet of this node")


def test_check_accepts_valid_variables_and_writes_nothing(run: Callable[..., Outcome]) -> None:
    done = run("--check", API, APP, DAPR_API_TOKEN=VALUE, APP_API_TOKEN=SPECIAL)

    assert (done.code, done.stderr, done.message, done.files) == (0, "", "of the previous run", {})


@pytest.mark.parametrize(
    "words", [(), ("--check",), ("marker-0123456789abcdef",), (API, "--nonsense"), (API, "PATH"), ("",), (API, "")]
)
def test_usage_error_is_exit_code_2(run: Callable[..., Outcome], words: Sequence[str]) -> None:
    done = run(*words, DAPR_API_TOKEN=VALUE)

    assert (done.code, done.files) == (2, {})
    assert plain_call(["seal", *words]) is None
    assert "0123456789" not in done.stderr


def test_only_complete_calls_need_no_command_line() -> None:
    assert plain_call(["seal", API]) == ([API], False)
    assert plain_call(["seal", "--check", API, APP]) == ([API, APP], True)
    assert [plain_call(words) for words in ([], ["version"], ["seal", "--help"], ["seal", API, "--check"])] == [
        None
    ] * 4


# --- the file cannot be written ---


def test_missing_directory_is_one_sentence(run: Callable[..., Outcome], folder: Path) -> None:
    folder.rmdir()

    done = run(API, DAPR_API_TOKEN=VALUE)

    wanted = f"cannot write {folder}/tokens.env: no such file or directory; mount a writable volume with free space"
    assert (done.code, done.message) == (1, f"{wanted} at {folder}")


@pytest.mark.parametrize("name", ["tokens.env", "tokens.env.new"])
def test_directory_in_place_of_the_file_is_one_sentence(folder: Path, name: str) -> None:
    (folder / name / "x").mkdir(parents=True)

    with pytest.raises(SealError, match="is a directory"):
        seal.seal([API], {API.encode(): VALUE}, str(folder))
    assert [one.name for one in folder.iterdir()] == [name]


def test_link_in_place_of_the_new_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "tokens.env.new").symlink_to(tmp_path / "other")

    with pytest.raises(SealError, match="too many levels of symbolic links"):
        seal.seal([API], {API.encode(): VALUE}, str(folder))

    assert not (tmp_path / "other").exists()


def test_full_volume_keeps_the_previous_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal.seal([API], {API.encode(): VALUE}, str(folder))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SealError, match="no space left on device") as caught:
        seal.seal([API], {API.encode(): VALUE * 2}, str(folder))

    assert "marker" not in str(caught.value)
    assert [one.read_bytes() for one in folder.iterdir()] == [b"DAPR_API_TOKEN='" + VALUE + b"'\n"]


def test_unexpected_error_shows_no_value(run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: bytes) -> None:
        raise ValueError(value)

    monkeypatch.setattr(seal, "parse_sealable_token", broken)

    done = run(API, DAPR_API_TOKEN=VALUE)

    assert done.code == 3
    assert done.message.startswith("internal error (ValueError); please report it with these locations:\n  seal.py:")
    assert "marker" not in done.stderr + done.message


# --- the public id ---


def jws(payload: bytes) -> bytes:
    return b".".join((b"eyJhbGciOiJub25lIn0", base64.urlsafe_b64encode(payload).rstrip(b"="), b"c2ln"))


def test_message_has_the_public_ids_of_our_tokens(run: Callable[..., Outcome]) -> None:
    minted = [mint_jwt(TokenSpec(), None, now=0) for _ in names.TOKEN_VARIABLES]
    api, app = (one.value.reveal().encode() for one in minted)

    both = run(API, APP, DAPR_API_TOKEN=api, APP_API_TOKEN=app)
    one = run(API, APP, DAPR_API_TOKEN=VALUE, APP_API_TOKEN=app)

    assert both.message == f"{API}: id {minted[0].id}\n{APP}: id {minted[1].id}"
    assert one.message == f"{APP}: id {minted[1].id}"


@pytest.mark.parametrize(
    "value",
    [
        b"marker.0123456789abcdef.x",
        b"marker.0123456789abcde\xff.x".replace(b"\xff", b"~"),
        jws(b""),
        jws(b"\xff\xfe"),
        jws(b"[" * 2900),
        jws(b'{"a":' * 500),
        jws(b"[1]"),
        jws(b"null"),
        jws(b"9" * 2900),
        jws(b'{"jti":7}'),
        jws(b'{"jti":["bcdfghjklm.c2VjcmV0LXJhbmRvbS1iaX"]}'),
        jws(b'{"jti":"bcdfghjklm"}'),
        jws(b'{"jti":"bcdfghjklm.marker"}'),
        jws(b'{"jti":"bcdfghjklm\\n.c2VjcmV0LXJhbmRvbS1iaX"}'),
        jws(b'{"jti":"' + b"bcdfghjklm" * 250 + b'"}'),
    ],
    ids=range(15),
)
def test_other_tokens_have_no_message(run: Callable[..., Outcome], value: bytes) -> None:
    done = run(API, DAPR_API_TOKEN=value)

    assert (done.code, done.stderr, done.message) == (0, "", "")


# --- as a process ---


def test_call_imports_the_standard_library_and_no_command_line() -> None:
    script = (
        "import sys; before = set(sys.modules); sys.argv = ['', 'seal', '--check', 'DAPR_API_TOKEN']\n"
        "from injector.__main__ import main\n"
        "assert main() == 0\n"
        "print(*sorted(set(sys.modules) - before))"
    )

    environment = {**os.environ, API: VALUE.decode()}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=True)

    loaded = done.stdout.decode().split()
    ours = {"injector", "injector.core", *(f"injector.core.{name}" for name in ("errors", "names", "token"))}
    assert {name for name in loaded if name.partition(".")[0] == "injector"} == ours | {
        "injector.__main__",
        "injector.files",
        "injector.frames",
        "injector.seal",
    }
    assert {name.partition(".")[0] for name in loaded} <= sys.stdlib_module_names | {"injector"}
    assert not {"dataclasses", "json", "pathlib", "socket", "subprocess", "logging"} & set(loaded)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_exit_code_does_not_depend_on_the_streams(redirect: str) -> None:
    shell = f"exec {sys.executable} -m injector seal --check {API} {redirect}"

    assert [
        subprocess.run(["sh", "-c", shell], cwd=ROOT, env={**os.environ, API: value}, check=False).returncode
        for value in (VALUE.decode(), "")
    ] == [0, 1]


def test_full_volume_in_memory_is_one_sentence(tmp_path: Path) -> None:
    require(reason_unavailable())
    script = f"""
set -e
mount -t tmpfs -o size=16k tmpfs {tmp_path}
run() {{ {sys.executable} -c "$CALL" seal DAPR_API_TOKEN; }}
run; run
dd if=/dev/zero of={tmp_path}/full bs=4k 2>/dev/null || true
run || echo "code $?"
ls -A {tmp_path}
"""
    call = (
        "import sys\n"
        "from injector.core import names\n"
        f"names.SEAL_DIRECTORY = {str(tmp_path)!r}\n"
        "from injector.__main__ import main\n"
        "sys.exit(main())"
    )
    environment = {**os.environ, "CALL": call, "PYTHONPATH": str(ROOT), API: VALUE.decode()}

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout.splitlines() == [
        "code 1",
        "full",
        "tokens.env",
    ], done.stderr
    assert f"cannot write {tmp_path}/tokens.env: no space left on device" in done.stderr


def test_check_reports_all_variables_in_order() -> None:
    with pytest.raises(SealError, match=APP):
        check([API, APP], {API.encode(): VALUE})
    with pytest.raises(SealError, match=API):
        check([API, APP], {APP.encode(): VALUE})
