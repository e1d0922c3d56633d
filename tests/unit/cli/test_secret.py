from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped] # it brings no types
from rich.console import Console

from injector.cli.main import main
from injector.cli.secret.progress import ProgressTable, lines, live_rows, message_of
from injector.core.rollout import (
    CANCELLED,
    UNCERTAIN,
    Action,
    PlannedAction,
    Progress,
    SkipReason,
    State,
    initial_progress,
)
from injector.core.token_state import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
WEB = Ref("Deployment", "shop", "web")


@pytest.fixture(autouse=True)
def _no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["create", "rotate", "revoke", "list"])
def test_help_fits_80_columns_and_names_exit_codes(name: str, capsys: Capture) -> None:
    assert main(["secret", name, "--help"]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "Exit codes: 0" in output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["create"], "no Secret given; use NAMESPACE/NAME"),
        (["create", "s"], '"s": no namespace; use NAMESPACE/NAME'),
        (["create", "Shop/s"], "invalid name; use lower-case letters"),
        (["create", "shop/"], "invalid name; use lower-case letters"),
        (["create", "/s"], "invalid name; use lower-case letters"),
        (["create", "a/b/c"], "invalid name; use lower-case letters"),
        (
            ["create", "shop/s", "--namespace-selector", "a=b"],
            "--namespace-selector selects the namespaces; give only the name",
        ),
        (["create", "shop/s", "--key", ".."], '--key: ".." is not a valid key'),
        (["create", "shop/s", "--store", "vault"], "--store and --remote-key require --print-manifest"),
        (["create", "shop/s", "--print-manifest"], "--print-manifest requires --store"),
        (
            ["create", "s", "--namespace-selector", "a", "--print-manifest", "--store", "v"],
            "--namespace-selector: no effect with --print-manifest",
        ),
        (
            ["create", "a/s", "b/s", "--print-manifest", "--store", "v", "--remote-key", "k"],
            "--remote-key: one key for several Secrets",
        ),
        (["create", "shop/s", "--expires-in", "90"], 'Error: --expires-in: "90" has no unit; use 90s, 90m or 1h'),
        (["rotate", "shop/s", "--resume"], "--resume requires --restart"),
        (
            ["rotate", "shop/s", "--resume", "--restart", "--same"],
            "--same: no effect with --resume, which writes no token; remove it",
        ),
        (["rotate", "shop/s", "--restart", "--timeout", "10"], '--timeout: "10" has no unit; use 10s, 10m or 1h'),
        (
            ["rotate", "shop/s", "--wait=false", "--max-concurrent-per-namespace", "3"],
            "--wait, --max-concurrent-per-namespace: no effect without --restart; remove them",
        ),
        (
            ["rotate", "shop/s", "--propagation-delay", "1s"],
            "--propagation-delay: no effect without --restart; remove it",
        ),
        (["rotate", "shop/s", "--include-uncertain"], "--include-uncertain: no effect without --restart; remove it"),
        (
            ["rotate", "shop/s", "--skip-admission-check"],
            "--skip-admission-check: no effect without --restart; remove it",
        ),
        (["rotate", "shop/s", "--timeout", "1m"], "--timeout: no effect without --restart; remove it"),
        (["rotate", "shop/s", "--restart", "--propagation-delay", "2"], '--propagation-delay: "2" has no unit; use 2s'),
        (["rotate", "shop/s", "--restart", "--timeout", "0s"], '"0s" is out of range; use 1s to 520w'),
        (["rotate", "shop/s", "--restart", "--max-concurrent-per-namespace", "0"], "0 is not in the range"),
        (["rotate", "shop/s", "--restart", "--at-once", "3"], "No such option"),
        (["rotate", "s"], '"s": no namespace; use NAMESPACE/NAME'),
        (["rotate", "a/s", "-A"], '"a/s": --all-namespaces selects the namespaces; give only the name'),
        (["revoke", "a/s", "--namespace-selector", "x"], "--namespace-selector selects the namespaces; give only"),
        (["create", "s", "--namespace-selector", " "], "--namespace-selector: empty; use -A for all namespaces"),
        (
            ["create", "s", "--namespace-selector", "x", "-A"],
            "--namespace-selector and --all-namespaces cannot be combined; use one of them",
        ),
        (["list", "-n", "a", "-A"], "--namespace and --all-namespaces cannot be combined; use one of them"),
        (["rotate", "a/s", "--force", "--skip-foreign"], "--force and --skip-foreign cannot be combined"),
        (
            ["rotate", "a/s", "--restart", "--resume", "--force"],
            "--force: no effect with --resume, which writes no Secret; remove it",
        ),
        (
            ["rotate", "a/s", "--restart", "--wait=false", "--max-concurrent", "3", "--keep-going", "--timeout", "1m"],
            "--max-concurrent, --keep-going, --timeout: no effect with --wait=false, which begins all restarts at once",
        ),
        (["rotate", "a/s", "--keep-going"], "--keep-going: no effect without --restart; remove it"),
        (
            ["list", "-n", "A B"],
            "--namespace: \"A B\" is not a valid name; use lower-case letters, digits, '-' and '.'",
        ),
        (["list", "-n", ""], '--namespace: "" is not a valid name'),
        (["create", "a/s", "--token-file", "/no/such"], "--token-file /no/such: no such file or directory"),
        (["list", "--fail-on", "late"], "--fail-on: unknown state: late; use outdated, open, expiring"),
        (["list", "--fail-on", "open,new,old"], "--fail-on: unknown state: new, old; use outdated"),
        (["list", "--expiring-within", "7"], '--expiring-within: "7" has no unit; use 7s'),
        (["revoke"], "no Secret given"),
        (["rotate", "shop/s", "--token-file", "nope"], "nope"),
    ],
)
def test_usage_error_is_reported_before_any_request(arguments: list[str], why: str, capsys: Capture) -> None:
    assert main(["secret", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert why in output.err


@pytest.mark.parametrize("name", ["create", "rotate", "revoke"])
def test_pasted_token_in_place_of_a_name_is_not_shown(name: str, capsys: Capture) -> None:
    assert main(["secret", name, "eyJhbGciOiJIUzI1NiJ9.marker.c2lnbmF0dXJl"]) == 2
    assert "marker" not in capsys.readouterr().err


def test_invalid_token_is_rejected_before_any_request(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "token"
    path.write_text("marker-0123456789abcdef\n")
    for name in ("create", "rotate"):
        assert main(["secret", name, "shop/s", "--token-file", str(path)]) == 2
        output = capsys.readouterr().err
        assert "ends with a newline" in output
        assert "marker" not in output


def test_client_dry_run_needs_no_cluster(capsys: Capture) -> None:
    assert main(["secret", "create", "shop/s", "shop/s", "b/t", "--dry-run=client", "-o", "json"]) == 0
    output = json.loads(capsys.readouterr().out)["secrets"]
    assert [(row["namespace"], row["name"], row["outcome"]) for row in output] == [
        ("b", "t", "would-create"),
        ("shop", "s", "would-create"),
    ]


def test_manifests_for_git_hold_no_value(capsys: Capture) -> None:
    flags = ["--print-manifest", "--store", "SecretStore/vault", "--key", "k"]
    assert main(["secret", "create", "a/s", "b/s", *flags]) == 0
    one, other = yaml.safe_load_all(capsys.readouterr().out)
    assert one["kind"] == "ExternalSecret"
    assert one["metadata"] == {"name": "s", "namespace": "a"}
    assert one["spec"]["secretStoreRef"] == {"kind": "SecretStore", "name": "vault"}
    assert one["spec"]["data"] == [{"secretKey": "k", "remoteRef": {"key": "dapr/a/s"}}]
    assert other["metadata"]["namespace"] == "b"


@pytest.mark.parametrize("arguments", [["list"], ["create", "shop/s"], ["rotate", "shop/s"], ["revoke", "shop/s"]])
def test_missing_kubeconfig_is_one_line_with_advice(arguments: list[str], capsys: Capture) -> None:
    assert main(["secret", *arguments]) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "there is no file" in output
    assert "name one with --kubeconfig or the variable KUBECONFIG" in output


def test_report_is_a_line_for_each_workload() -> None:
    job, db = Ref("Job", "shop", "j"), Ref("StatefulSet", "shop", "db")
    printed = list(
        lines(
            [
                Progress(ref=WEB, state=State.READY),
                Progress(ref=job, state=State.SKIPPED, message="job: wait", outdated=tuple("abcde")),
                Progress(ref=db, state=State.NOT_INJECTED, message="why", uncertain=("u",), missing=("m",)),
                Progress(ref=db, state=State.PLANNED, outdated=tuple("abc")),
            ]
        )
    )
    assert printed == [
        "Deployment shop/web  ready",
        "Job shop/j           skipped       job: wait; outdated: a, b, c, and 2 more",
        "StatefulSet shop/db  not-injected  why; uncertain: u; without a token: m",
        "StatefulSet shop/db  planned       outdated: a, b, c",
    ]
    assert list(lines([])) == ["no running Pod uses these Secrets"]


def test_progress_without_terminal_is_one_line_per_change(capsys: Capture) -> None:
    with ProgressTable() as table:
        for state in (State.NOT_STARTED, State.RESTARTING, State.RESTARTING, State.READY, State.READY):
            table.show(Progress(ref=WEB, state=state))
        table.note("a note")
    assert capsys.readouterr().err.splitlines() == [
        "Deployment shop/web: restarting",
        "Deployment shop/web: ready",
        "a note",
    ]


class CountedRef(Ref):
    """A workload that counts how often its row is made."""

    made = 0

    def __str__(self) -> str:
        type(self).made += 1
        return super().__str__()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_on(height: int, states: Sequence[State]) -> list[str]:
    """The lines of the live table on a terminal with 80 columns, for one workload in each state."""
    message = "a long message " * 20
    progress = [
        Progress(ref=Ref("Deployment", "shop", f"w{number}"), state=state, message=message)
        for number, state in enumerate(states)
    ]
    file = io.StringIO()
    Console(width=80, file=file).print(live_rows(progress, height - 1))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("height", [1, 2, 3, 10, 24])
@pytest.mark.parametrize("running", [0, 2, 100])
def test_live_table_fits_the_terminal(height: int, running: int) -> None:
    states = [State.READY] * 30 + [State.RESTARTING] * running + [State.PLANNED] * 50
    lines = shown_on(height, states)
    assert len(lines) <= max(height - 1, 2)
    rows = [line for line in lines if "restarting " in line and line.startswith("Deployment")]
    assert len(rows) == min(running, max(height - 3, 0))
    last = f"and {80 + running - len(rows)} more"
    assert lines[-1].startswith(last)
    assert "30 ready, " in lines[-1]


def test_live_table_shows_all_rows_that_fit() -> None:
    lines = shown_on(24, [State.READY, State.RESTARTING, State.PLANNED] * 7)
    assert len(lines) == 22
    assert not any(line.startswith("and ") for line in lines)


def test_rows_of_the_live_table_are_not_made_at_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "1000")
    count = 300
    with ProgressTable() as table:
        for state in (State.PLANNED, State.RESTARTING, State.READY):
            for number in range(count):
                table.show(Progress(ref=CountedRef("Deployment", "shop", f"w{number}"), state=state))
    # Four times a second and at the end; each of them at each change would be 3 * count * count.
    assert count <= CountedRef.made <= 100 * count


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        (
            Progress(ref=WEB, state=State.UNCERTAIN, message=UNCERTAIN),
            "started within the tolerances of clocks and caches; restart with --include-uncertain",
        ),
        (
            Progress(ref=WEB, state=State.RESTARTING, message=CANCELLED, is_cancelled=True),
            "its template changed, which cancels the restart; continue with --resume",
        ),
        (Progress(ref=WEB, state=State.FAILED, message="x"), "x"),
    ],
)
def test_message_of_a_workload_names_the_option_that_continues(progress: Progress, message: str) -> None:
    assert message_of(progress) == message


def test_paused_workload_is_restarted_by_another_run() -> None:
    paused = PlannedAction(ref=WEB, action=Action.SKIP, skip_reason=SkipReason.PAUSED)
    assert message_of(initial_progress([paused])[WEB]) == (
        "paused: the Deployment is paused; resume it, then run this again with --resume"
    )
