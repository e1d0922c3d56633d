from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped] # it brings no types

from injector.cli.main import main
from injector.cli.secret.progress import Table, lines
from injector.core.rollout import Progress, Ref, State

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
WEB = Ref("Deployment", "shop", "web")


@pytest.fixture(autouse=True)
def _no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["create", "rotate", "revoke", "list"])
def test_help_fits_80_columns_and_names_exit_codes(name: str, capsys: Capture) -> None:
    assert main(["secret", name, "--help"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert "Exit codes: 0" in told


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["create"], "name a Secret: NAMESPACE/NAME"),
        (["create", "s"], '"s": a namespace is needed'),
        (["create", "Shop/s"], "names are lower-case letters"),
        (["create", "shop/"], "names are lower-case letters"),
        (["create", "/s"], "names are lower-case letters"),
        (["create", "a/b/c"], "names are lower-case letters"),
        (["create", "shop/s", "--namespace-selector", "a=b"], "the name alone is needed"),
        (["create", "shop/s", "--key", ".."], '--key: ".." is no key'),
        (["create", "shop/s", "--store", "vault"], "go with --print-manifest"),
        (["create", "shop/s", "--print-manifest"], "needs --store"),
        (["create", "s", "--namespace-selector", "a", "--print-manifest", "--store", "v"], "asks no cluster"),
        (["create", "a/s", "b/s", "--print-manifest", "--store", "v", "--remote-key", "k"], "--remote-key is one key"),
        (["create", "shop/s", "--expires-in", "90"], "has no unit"),
        (["rotate", "shop/s", "--resume"], "--resume needs --restart"),
        (["rotate", "shop/s", "--resume", "--restart", "--same"], "--resume writes no token"),
        (["rotate", "shop/s", "--restart", "--timeout", "10"], "has no unit"),
        (
            ["rotate", "shop/s", "--wait=false", "--max-concurrent-per-namespace", "3"],
            "nothing is restarted without --restart: leave --wait, --max-concurrent-per-namespace out",
        ),
        (["rotate", "shop/s", "--propagation-delay", "1s"], "leave --propagation-delay out"),
        (["rotate", "shop/s", "--include-uncertain"], "leave --include-uncertain out"),
        (["rotate", "shop/s", "--skip-admission-check"], "leave --skip-admission-check out"),
        (["rotate", "shop/s", "--timeout", "1m"], "leave --timeout out"),
        (["rotate", "shop/s", "--restart", "--propagation-delay", "2"], "has no unit"),
        (["rotate", "shop/s", "--restart", "--max-concurrent-per-namespace", "0"], "0 is not in the range"),
        (["rotate", "shop/s", "--restart", "--at-once", "3"], "No such option"),
        (["list", "--fail-on", "stale"], "--fail-on: unknown: stale; allowed: outdated, open, expiring"),
        (["list", "--fail-on", "open,new,old"], "--fail-on: unknown: new, old; allowed"),
        (["list", "--expiring-within", "7"], "has no unit"),
        (["revoke"], "name a Secret"),
        (["rotate", "shop/s", "--token-file", "nope"], "nope"),
    ],
)
def test_usage_error_is_reported_before_any_request(arguments: list[str], why: str, capsys: Capture) -> None:
    assert main(["secret", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert why in told.err


@pytest.mark.parametrize("name", ["create", "rotate", "revoke"])
def test_pasted_token_in_place_of_a_name_is_not_shown(name: str, capsys: Capture) -> None:
    assert main(["secret", name, "eyJhbGciOiJIUzI1NiJ9.marker.c2lnbmF0dXJl"]) == 2
    assert "marker" not in capsys.readouterr().err


def test_invalid_token_is_rejected_before_any_request(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "token"
    path.write_text("marker-0123456789abcdef\n")
    for name in ("create", "rotate"):
        assert main(["secret", name, "shop/s", "--token-file", str(path)]) == 2
        told = capsys.readouterr().err
        assert "ends with a newline" in told
        assert "marker" not in told


def test_client_dry_run_needs_no_cluster(capsys: Capture) -> None:
    assert main(["secret", "create", "shop/s", "shop/s", "b/t", "--dry-run=client", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["secrets"]
    assert [(row["namespace"], row["name"], row["outcome"]) for row in told] == [
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
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "there is no file" in told
    assert "name one with --kubeconfig or the variable KUBECONFIG" in told


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
        "Job shop/j           skipped       job: wait; outdated: a, b, c and 2 more",
        "StatefulSet shop/db  not-injected  why; uncertain: u; without a token: m",
        "StatefulSet shop/db  planned       outdated: a, b, c",
    ]
    assert list(lines([])) == ["no running Pod uses it"]


def test_progress_without_terminal_is_one_line_per_change(capsys: Capture) -> None:
    with Table() as table:
        for state in (State.NOT_STARTED, State.RESTARTING, State.RESTARTING, State.READY, State.READY):
            table.show(Progress(ref=WEB, state=state))
        table.note("beside it")
    assert capsys.readouterr().err.splitlines() == [
        "Deployment shop/web: restarting",
        "Deployment shop/web: ready",
        "beside it",
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


def test_rows_of_the_live_table_are_not_made_at_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    count = 300
    with Table() as table:
        for state in (State.PLANNED, State.RESTARTING, State.READY):
            for number in range(count):
                table.show(Progress(ref=CountedRef("Deployment", "shop", f"w{number}"), state=state))
    # Four times a second and at the end; each of them at each change would be 3 * count * count.
    assert count <= CountedRef.made <= 100 * count
