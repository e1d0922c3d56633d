from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from injector.cli.main import main
from injector.lint.catalogue import RULES

if TYPE_CHECKING:
    from pathlib import Path

BAD = """\
apiVersion: v1
kind: Pod
metadata:
  name: orders
  annotations:
    dapr.io/enabled: "true"
    dapr.io/api-token-secret: Bad_Name
spec: {containers: [{name: web}]}
"""
FINE = "apiVersion: v1\nkind: Pod\nmetadata: {name: orders}\nspec: {containers: [{name: web}]}\n"
UNFOLLOWED = "a: 1 # dapr-token-injector: ignore DTI007 -- gone\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `lint`."""
    code = main(["lint", *argv])
    message = capsys.readouterr()
    return code, message.out, message.err


def test_nothing_found_is_exit_code_0_and_silence_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(FINE)
    assert run(capsys, ".") == (0, "", "0 errors, 0 warnings in 1 file\n")


def test_findings_are_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD)
    for argv in ((".",), ("a.yaml",), ("-f", "a.yaml"), ("-f", ".")):
        code, out, err = run(capsys, *argv)
        assert code == 1
        assert out.startswith("a.yaml:7:5: error DTI004 ")
        assert err == "1 error, 0 warnings in 1 file\n"


def test_bad_input_is_exit_code_2_and_the_other_files_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text("a: b: c\n")
    (folder / "b.yaml").write_text(BAD)
    (folder / "c.yaml").write_bytes(b"\xff")
    code, out, err = run(capsys, ".", "absent.yaml")
    assert code == 2
    assert out.startswith("b.yaml:7:5: error DTI004 ")
    assert err.splitlines() == [
        "Error: a.yaml:1: document 1: not YAML: mapping values are not allowed in this context",
        "Error: c.yaml: not UTF-8 text",
        "Error: absent.yaml: no such file or directory",
        "1 error, 0 warnings in 4 files; 3 documents could not be read",
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["--nonsense"],
        ["-o", "xml"],
        ["--fail-on", "never"],
        ["--disable", "DTI000"],
        ["--show-rule", "nonsense"],
        ["--policy-file", "absent.yaml"],
        ["--baseline", "absent.json"],
        ["--baseline", "a.yaml"],
        ["--baseline", "a.json", "--write-baseline", "b.json"],
        ["--write-baseline", "absent/b.json"],
    ],
)
def test_wrong_use_is_exit_code_2_and_a_sentence(
    argv: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text(FINE)
    code, out, err = run(capsys, *argv, "a.yaml")
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "level", "code"),
    [
        (BAD, "error", 1),
        (BAD.replace("Bad_Name", "fine"), "warning", 1),
        (BAD.replace("Bad_Name", "fine"), "error", 0),
        (UNFOLLOWED, "info", 1),
        (UNFOLLOWED, "warning", 0),
    ],
)
def test_the_level_that_fails_can_be_chosen(
    text: str, level: str, code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text(text)
    assert run(capsys, ".", "--fail-on", level)[0] == code


def test_rules_can_be_switched_off_by_id_and_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD.replace("Bad_Name", "fine"))
    assert run(capsys, ".", "--disable", "DTI012")[0] == 0
    assert run(capsys, ".", "--disable", "app-without-token", "--disable", "dti001")[0] == 0


def test_nothing_is_read_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(FINE)
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "nothing to read" in err


def test_folder_without_manifests_is_not_a_success(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.txt").write_text(BAD)
    code, out, err = run(capsys, ".")
    assert (code, out) == (2, "")
    assert err.startswith("Error: .: no file in this folder ends with ")


def test_a_policy_file_is_heard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.yaml").write_text('allowedSecrets: ["dapr-*"]\n')
    (folder / "a.yaml").write_text(BAD.replace("Bad_Name", "other"))
    _, out, _ = run(capsys, "--policy-file", "policy.yaml", "a.yaml")
    assert "DTI006" in out


def test_folders_can_be_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "charts").mkdir()
    (folder / "charts/template.yaml").write_text("{{ if }}\n")
    (folder / "a.yaml").write_text(FINE)
    assert run(capsys, ".", "--exclude", "charts")[0] == 0
    code, _, err = run(capsys, ".")
    assert code == 2
    assert "helm template" in err


def test_a_baseline_is_written_and_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD)
    assert run(capsys, "a.yaml", "--write-baseline", "known.json") == (0, "", "known.json: 1 known findings\n")
    assert list(folder.glob(".known*")) == []
    (folder / "known.json").chmod(0o664)
    assert run(capsys, "a.yaml", "--baseline", "known.json") == (
        0,
        "",
        "0 errors, 0 warnings in 1 file; 1 known by the baseline\n",
    )
    (folder / "b.yaml").write_text(BAD.replace("orders", "other"))
    code, out, _ = run(capsys, "a.yaml", "b.yaml", "--baseline", "known.json")
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["b.yaml"]


def test_a_baseline_is_readable_as_other_files_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD)
    run(capsys, "a.yaml", "--write-baseline", "known.json")
    mode = stat.S_IMODE((folder / "known.json").stat().st_mode)
    assert mode == stat.S_IMODE((folder / "a.yaml").stat().st_mode)


def test_a_baseline_is_not_written_from_half_of_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD + "---\na: b: c\n")
    code, _, err = run(capsys, "a.yaml", "--write-baseline", "known.json")
    assert code == 2
    assert "known.json was not written" in err
    assert not (folder / "known.json").exists()


@pytest.mark.parametrize("output", ["json", "sarif"])
def test_machines_get_json_alone_on_stdout(output: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD)
    code, out, err = run(capsys, ".", "-o", output)
    assert code == 1
    assert json.loads(out)
    assert err == "1 error, 0 warnings in 1 file\n"


def test_github_gets_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(BAD)
    _, out, _ = run(capsys, ".", "-o", "github")
    assert out.startswith("::error file=a.yaml,line=7,col=5,title=DTI004 bad-secret-name::")


def test_standard_input_is_read_as_a_process_gets_it() -> None:
    argv = [sys.executable, "-m", "injector", "lint", "-"]
    done = subprocess.run(argv, input=BAD.encode(), capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout.decode().startswith("<stdin>:7:5: error DTI004 ")


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_colour_and_progress_and_a_pipe_neither(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        (folder / f"{number}.yaml").write_text(BAD)
    code, out, err = run(capsys, ".")
    assert code == 1
    assert "\x1b" not in out + err
    assert "10 of 10" not in err
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert main(["lint", "."]) == 1
    assert "\x1b[31merror\x1b[0m" in stdout.getvalue()
    assert "10 of 10" not in stdout.getvalue()
    assert "10 of 10 files" in stderr.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", plain := Terminal())
    assert main(["lint", "."]) == 1
    assert "\x1b" not in plain.getvalue()


def test_help_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help")
    assert max(map(len, out.splitlines())) <= 80
    for words in ("--baseline", "--fail-on", "--policy-file", "Exit codes", "ignore RULE -- REASON"):
        assert words in out


def test_rules_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list-rules")
    assert code == 0
    assert all(rule.id in out for rule in RULES)
    code, out, _ = run(capsys, "--show-rule", "not-enabled")
    assert code == 0
    assert out.startswith("# DTI002 not-enabled\n")


@pytest.mark.parametrize("command", ["inject", "uninject", "explain", "lint"])
def test_commands_take_files_as_arguments_and_by_option(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.yaml", "b.yaml"):
        (folder / name).write_text("kind: Gone\napiVersion: v1\n")
    printed = set()
    for arguments in (["a.yaml", "b.yaml"], ["-f", "a.yaml", "-f", "b.yaml"], ["a.yaml", "-f", "b.yaml"]):
        assert main([command, *arguments]) == 0
        printed.add(capsys.readouterr())
    assert len(printed) == 1


def test_shells_complete_rule_ids(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [rule.id for rule in RULES]
    for option in ("--disable", "--show-rule"):
        for shown, typed in ((ids, ""), ([ids[0]], ids[0].lower()), (["not-enabled"], "not-en")):
            monkeypatch.setenv("_DAPR_TOKEN_INJECTOR_COMPLETE", "bash_complete")
            monkeypatch.setenv("COMP_WORDS", f"dapr-token-injector lint {option} {typed}")
            monkeypatch.setenv("COMP_CWORD", "3")
            with pytest.raises(SystemExit):
                main([])
            assert capsys.readouterr().out.splitlines() == [f"plain,{one}" for one in shown]
