"""`check` against a stand-in for an API server: what it shows, its options, and how it exits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jsonschema  # type: ignore[import-untyped] # it brings no types
import pytest

from injector.cli.main import main
from tests.controlplane.polling import wait_for
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.output_page import OutputPage

if TYPE_CHECKING:
    from collections.abc import Iterator

Capture = pytest.CaptureFixture[str]
PAGE: Final = OutputPage("check-output.md")
REGISTERED: Final = {
    "metadata": {"name": "dapr-token-injector"},
    "webhooks": [{"name": "inject.dapr-token-injector.svc"}],
}
COMMAND: Final = "helm upgrade dapr-token-injector CHART --namespace dapr-token-injector --reset-then-reuse-values"
SCHEMA: Final = Path(__file__).parents[3] / "docs/reference/check.schema.json"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(folder=tmp_path) as server:
        yield server


def shown(api: ApiServer, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = main(["check", "--kubeconfig", str(api.kubeconfig), *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_table_shows_problem_and_command(api: ApiServer, capsys: Capture) -> None:
    code, out, error = shown(api, capsys, "--only", "dtc010")

    assert (code, error) == (1, "")
    assert out.splitlines() == [
        "registration",
        "  failed   DTC010  registered: MutatingWebhookConfiguration dapr-token-injector",
        "    failed: MutatingWebhookConfiguration dapr-token-injector does not exist:",
        "    Pods are created without a token",
        f"      {COMMAND}",
        "    more: dapr-token-injector check --show-check DTC010",
        "",
        "1 check: 1 failed",
    ]
    assert all(len(line) <= 80 for line in out.splitlines() if COMMAND not in line)


def test_table_has_colours_on_terminal_only(api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("injector.cli.check.report.wants_colour", lambda _stream: True)

    _, out, _ = shown(api, capsys, "--only", "dtc010")

    assert "  \x1b[31mfailed   \x1b[0mDTC010  registered" in out


def test_table_has_one_line_for_each_passed_check(api: ApiServer, capsys: Capture) -> None:
    entries = [{"name": "inject.dapr-token-injector.svc"}, *({"name": f"e{number}.svc"} for number in range(100))]
    api.put("mutatingwebhookconfigurations", {**REGISTERED, "webhooks": entries})

    code, out, _ = shown(api, capsys, "--only", "registered")
    _, wide, _ = shown(api, capsys, "--only", "registered", "-o", "wide")

    assert code == 0
    assert len(out.splitlines()) == 4
    assert max(map(len, out.splitlines())) <= 80
    assert "e99.svc" in wide
    assert "e99.svc" not in out


def test_table_escapes_what_a_terminal_would_act_on(api: ApiServer, capsys: Capture) -> None:
    entries = [{"name": "inject.dapr-token-injector.svc"}, {"name": "\x1b[2Jx\u202ey"}]
    api.put("mutatingwebhookconfigurations", {**REGISTERED, "webhooks": entries})

    code, out, _ = shown(api, capsys, "--only", "registered", "-o", "wide")

    assert code == 0
    assert "\\u001b[2Jx\\u202ey" in out
    assert "\x1b" not in out


FIRST: Final = "/mutatingwebhookconfigurations/dapr-token-injector"  # a round reads it once


def test_wait_ends_when_the_check_passes(api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("injector.check.runner.INTERVAL_SECONDS", 0.01)
    rounds = []

    def called(call: str) -> None:
        if call.endswith(FIRST):
            rounds.append(1)
        if len(rounds) == 3:
            api.put("mutatingwebhookconfigurations", REGISTERED)

    api.called = called

    code, out, error = shown(api, capsys, "--only", "registered", "--wait", "1h")

    assert (code, error, len(rounds)) == (0, "", 3)
    assert out.splitlines()[-1] == "1 check: 1 passed"


def test_wait_ends_with_the_last_round(api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("injector.check.runner.INTERVAL_SECONDS", 0.4)

    code, out, _ = shown(api, capsys, "--only", "registered", "--wait", "1s")

    assert code == 1
    assert out.count("DTC010  registered") == 1
    rounds = [call for call in api.calls if call.endswith(FIRST)]
    assert 2 <= len(rounds) <= 5


def test_wait_shows_progress_on_terminal(api: ApiServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("injector.check.runner.INTERVAL_SECONDS", 0.4)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")

    _, _, error = shown(api, capsys, "--only", "registered", "--wait", "1s")

    assert error.startswith("\r\x1b[K1 check: 1 failed; ")
    assert error.endswith("seconds left\r\x1b[K")


@pytest.mark.parametrize("options", [(), ("--wait", "1h")])
def test_rejected_credentials_end_it_without_trace(api: ApiServer, options: tuple[str, ...]) -> None:
    api.refusals.append(Refusal(".*", 401))

    done = subprocess.run([*command(api), *options], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def command(api: ApiServer) -> list[str]:
    """The command in a process of its own: its stderr has nothing of the server."""
    return [sys.executable, "-m", "injector", "check", "--kubeconfig", str(api.kubeconfig)]


def test_interrupt_ends_wait_without_trace(api: ApiServer) -> None:
    with subprocess.Popen(
        [*command(api), "--wait", "1h"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            wait_for("a round", lambda: len(api.calls) > 5)
            running.send_signal(signal.SIGINT)
        except BaseException:
            running.kill()
            raise
        out, error = running.communicate(timeout=60)

    assert (running.returncode, out, error) == (2, "", "\nAborted.\n")


@pytest.mark.parametrize(("status", "code", "result"), [(None, 0, "passed"), (403, 2, "unknown"), (500, 2, "unknown")])
def test_exit_code(api: ApiServer, capsys: Capture, status: int | None, code: int, result: str) -> None:
    api.put("mutatingwebhookconfigurations", REGISTERED)
    if status is not None:
        api.refusals.append(Refusal("GET .*", status))

    exited, out, _ = shown(api, capsys, "--only", "registered", "-o", "json")

    assert (exited, [one["result"] for one in json.loads(out)["checks"]]) == (code, [result])


def test_json_is_as_documented(api: ApiServer, capsys: Capture) -> None:
    _, out, _ = shown(api, capsys, "-o", "json")

    PAGE.check("check", json.loads(out))
    jsonschema.validate(json.loads(out), json.loads(SCHEMA.read_text()))


def test_page_of_check_needs_no_cluster(capsys: Capture) -> None:
    assert main(["check", "--show-check", "registered"]) == 0
    assert capsys.readouterr().out.startswith("# DTC010 registered\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "x"], "--only: no such check; use DTC"),
        (["--wait", "5"], '--wait: "5" has no unit; use 5s, 5m or 1h'),
        (["--only", "DTC010", "--skip", "registered"], "no check is left to run"),
    ],
)
def test_invalid_options(api: ApiServer, capsys: Capture, arguments: list[str], message: str) -> None:
    code, out, error = shown(api, capsys, *arguments)

    assert (code, out) == (2, "")
    assert message in error
