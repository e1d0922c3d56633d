"""`check` against a stand-in for an API server: what it shows, its options, and how it exits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import main
from tests.fake_cluster.server import ApiServer
from tests.fake_cluster.store import Refusal
from tests.unit.cli.output_page import OutputPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
PAGE: Final = OutputPage("check-output.md")
REGISTERED: Final = {
    "metadata": {"name": "dapr-token-injector"},
    "webhooks": [{"name": "inject.dapr-token-injector.svc"}],
}
MISSING: Final = "MutatingWebhookConfiguration dapr-token-injector does not exist: Pods are created without a token"


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
        "  failed  DTC010  registered: MutatingWebhookConfiguration dapr-token-injector",
        f"          failed: {MISSING}",
        "            helm upgrade dapr-token-injector CHART --namespace dapr-token-injector --reuse-values",
        "",
        "1 check: 1 failed",
    ]


@pytest.mark.parametrize(("status", "code", "result"), [(None, 0, "passed"), (403, 2, "unknown"), (500, 2, "unknown")])
def test_exit_code(api: ApiServer, capsys: Capture, status: int | None, code: int, result: str) -> None:
    api.put("mutatingwebhookconfigurations", REGISTERED)
    if status is not None:
        api.refusals.append(Refusal("GET .*", status))

    exited, out, _ = shown(api, capsys, "--only", "registered", "-o", "json")

    assert (exited, [one["result"] for one in json.loads(out)["checks"]]) == (code, [result])


def test_json_is_as_documented(api: ApiServer, capsys: Capture) -> None:
    _, out, _ = shown(api, capsys, "--only", "registered", "-o", "json")

    PAGE.check("check", json.loads(out))


def test_page_of_check_needs_no_cluster(capsys: Capture) -> None:
    assert main(["check", "--show-check", "registered"]) == 0
    assert capsys.readouterr().out.startswith("# DTC010 registered\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "x"], "--only: no such check: use DTC010 (registered)"),
        (["--only", "DTC010", "--skip", "registered"], "no check is left to run"),
    ],
)
def test_invalid_options(api: ApiServer, capsys: Capture, arguments: list[str], message: str) -> None:
    code, out, error = shown(api, capsys, *arguments)

    assert (code, out) == (2, "")
    assert message in error
