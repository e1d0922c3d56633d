"""The reference page of the JSON output of `probe`, `token verify` and `version`, held to what they print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from injector.cli.main import main
from injector.cli.probe import report as probe_report
from injector.core.exposure import CallResult, Exposure, ExposureFinding, PortResult, ProbeReport, ProbeVerdict, Purpose
from tests.unit.cli.output_page import OutputPage

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]
PAGE: Final = OutputPage("probe-and-token-output.md")


def test_probe_prints_the_fields_of_the_page(capsys: Capture) -> None:
    refused, served = CallResult.REFUSED, CallResult.SERVED
    reports = [
        ProbeReport("pod/a", failure="it is not running"),
        ProbeReport(
            "pod/b",
            (
                PortResult(Purpose.HTTP, 3500, refused, refused, served),
                PortResult(Purpose.GRPC, 50001, failure="no answer within 5 s"),
                PortResult(Purpose.HTTP, 3501, refused, refused, skipped_reason="no token was given"),
            ),
            (ExposureFinding(Exposure.ENFORCEMENT_OFF, "port 1", "daprd has no DAPR_API_TOKEN"),),
            namespace="shop",
        ),
    ]

    probe_report.show(reports, (), "json")

    PAGE.check("probe", json.loads(capsys.readouterr().out))


def test_probe_uses_the_words_of_the_page() -> None:
    assert PAGE.words("probe", "targets[].verdict") == set(ProbeVerdict)
    assert PAGE.words("probe", "targets[].ports[].purpose") - {"daprd"} == set(Purpose)
    assert PAGE.words("probe", "targets[].ports[].without") == set(CallResult)
    assert PAGE.words("probe", "targets[].findings[].finding") == set(Exposure)


def test_token_verify_prints_the_fields_of_the_page(tmp_path: Path, capsys: Capture) -> None:
    key, token = tmp_path / "key", tmp_path / "token"
    assert main(["token", "generate", "--signing-key", str(key), "--create-key", "--out", str(token)]) == 0
    capsys.readouterr()
    assert main(["token", "verify", str(token), "--signing-key", str(key), "-o", "json"]) == 0
    output = json.loads(capsys.readouterr().out)

    PAGE.check("token verify", output)
    assert {one["what"] for one in output["findings"]} == PAGE.words("token verify", "findings[].what")


def test_version_prints_the_fields_of_the_page(capsys: Capture) -> None:
    assert main(["version", "-o", "json"]) == 0

    PAGE.check("version", json.loads(capsys.readouterr().out))


def test_verify_with_key_rejects_malformed_jwt(tmp_path: Path, capsys: Capture) -> None:
    key, token = tmp_path / "key", tmp_path / "token"
    token.write_bytes(b"eyJhbGciOiJFZDI1NTE5In0.marker")
    assert main(["token", "generate", "--signing-key", str(key), "--create-key"]) == 0
    assert main(["token", "verify", str(token)]) == 0
    capsys.readouterr()

    assert main(["token", "verify", str(token), "--signing-key", str(key)]) == 1

    output = capsys.readouterr().out
    assert "signature  WRONG  missing: an opaque token is not signed" in output
    assert "marker" not in output
