from __future__ import annotations

import json

import jsonschema  # type: ignore[import-untyped]
import pytest

from injector import __version__
from injector.core.model import Policy
from injector.lint import report
from injector.lint.baseline import fingerprint, read, write
from injector.lint.catalogue import RULES
from injector.lint.linter import Linter, Report
from tests.lint.sarif import SCHEMA
from tests.unit.lint.builders import lint

SENTENCE = "DAPR_API_TOKEN of container web is a value in clear text; use a Secret"
NOT_YAML = "not YAML: mapping values are not allowed in this context"
SAYS = "# dapr-token-injector: ignore"
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: orders, namespace: shop}
spec:
  containers:
    - name: web
      env:
        - name: DAPR_API_TOKEN
          value: VALUE
        - name: APP_API_TOKEN
          value: VALUE # dapr-token-injector: ignore DTI007 -- because
"""


def found() -> Report:
    """One finding, one that is ignored, one that is known, one document that cannot be read."""
    first = lint(POD.replace("orders", "known")).findings
    return lint(POD, POD.replace("orders", "known"), "a: b: c").compared_with(read(write(first)))


def test_text_is_one_line_per_finding() -> None:
    (line,) = report.text(found())
    assert line == f"a.yaml:9:11: error DTI007 clear-text-token: {SENTENCE} (Pod shop/orders)"


def test_text_is_coloured_on_request() -> None:
    (line,) = report.text(found(), colour=True)
    assert ": \x1b[31merror\x1b[0m DTI007" in line


def test_summary_counts_everything_once() -> None:
    assert report.summary(found()) == (
        "1 error, 0 warnings in 3 files; 2 ignored by comments; 1 known by the baseline; 1 document could not be read"
    )
    assert report.summary(lint("a: 1")) == "0 errors, 0 warnings in 1 file"
    gone = lint("a: 1 " + SAYS + " DTI007 -- x").compared_with({("DTI007", "a", "b"): 2})
    assert report.summary(gone) == "0 errors, 0 warnings, 1 info in 1 file; 2 of the baseline are gone: write it again"


def test_json_has_everything_a_tool_needs() -> None:
    reported = found()
    (text,) = report.json(reported)
    document = json.loads(text)
    assert document == {
        "version": 1,
        "findings": [
            {
                "rule": "DTI007",
                "name": "clear-text-token",
                "level": "error",
                "message": SENTENCE,
                "file": "a.yaml",
                "line": 9,
                "column": 11,
                "document": 1,
                "object": {"kind": "Pod", "namespace": "shop", "name": "orders"},
                "path": "spec.containers[web].env[DAPR_API_TOKEN].value",
                "fingerprint": fingerprint(reported.findings[0]),
            }
        ],
        "ignored": 2,
        "known": 1,
        "gone": 0,
        "files": 3,
        "errors": [
            {
                "file": "c.yaml",
                "document": 1,
                "line": 1,
                "message": NOT_YAML,
            }
        ],
    }


def test_sarif_is_valid_and_has_ignored_findings() -> None:
    (text,) = report.sarif(found())
    log = json.loads(text)
    jsonschema.Draft4Validator(SCHEMA).validate(log)
    (run,) = log["runs"]
    assert run["tool"]["driver"]["semanticVersion"] == __version__
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.id for rule in RULES]
    assert [result.get("suppressions", [{}])[0].get("kind") for result in run["results"]] == [
        None,
        "inSource",
        "inSource",
        "external",
    ]
    assert run["results"][0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a.yaml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 9, "startColumn": 11},
    }
    assert all("snippet" not in json.dumps(result) for result in run["results"])
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert len(invocation["toolExecutionNotifications"]) == 1


def test_invalid_sarif_is_detected() -> None:
    (text,) = report.sarif(found())
    log = json.loads(text)
    log["runs"][0]["results"][0]["level"] = "info"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(SCHEMA).validate(log)


@pytest.mark.parametrize(
    ("source", "uri"),
    [("./a b/c%.yaml", "a%20b/c%25.yaml"), ("a\\b.yaml", "a/b.yaml"), ("/a b.yaml", "file:///a%20b.yaml")],
)
def test_sarif_names_files_by_uri(source: str, uri: str) -> None:
    linter = Linter(Policy())
    linter.read(source, POD)
    linter.cannot_read(source, "permission denied")
    (text,) = report.sarif(linter.report())
    (run,) = json.loads(text)["runs"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri
    jsonschema.Draft4Validator(SCHEMA).validate(json.loads(text))


def test_github_gets_workflow_commands() -> None:
    first, second = report.github(found())
    assert first == f"::error file=a.yaml,line=9,col=11,title=DTI007 clear-text-token::{SENTENCE} (Pod shop/orders)"
    assert second == f"::error file=c.yaml,line=1,title=not readable::{NOT_YAML}"


def test_name_cannot_end_workflow_command() -> None:
    linter = Linter(Policy())
    linter.read("a,b:c%\r\n::error ::x.yaml", POD.replace("orders", '"or%ders\\n::error::"'))
    linter.cannot_read("x", "one\ntwo")
    first, second = report.github(linter.report())
    assert first.startswith("::error file=a%2Cb%3Ac%25%0D%0A%3A%3Aerror %3A%3Ax.yaml,line=9,")
    assert first.endswith("(Pod shop/or%25ders?::error::)")
    assert second == "::error file=x,line=1,title=not readable::one%0Atwo"


def test_file_name_cannot_steer_a_terminal() -> None:
    linter = Linter(Policy())
    linter.read("a\x1b[2J\n.yaml", POD)
    (line,) = report.text(linter.report())
    assert line.startswith("a\\u001b[2J\\u000a.yaml:9:11: ")


def test_table_of_rules_fits_a_terminal() -> None:
    lines = list(report.rules_table())
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("DTI")] == [rule.id for rule in RULES]
