from __future__ import annotations

import pytest

from injector.lint.ignores import parse
from tests.unit.lint.builders import ids, lint

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: orders}
spec:
  containers:
    - name: web
      env:
        - name: DAPR_API_TOKEN
          value: secret-and-never-shown%s
"""
SAYS = "# dapr-token-injector: ignore"


def test_ignore_comment_at_line_end_applies_to_that_line() -> None:
    (comment,) = parse(f"a: 1\nb: 2 {SAYS} DTI007 -- because\n", 10, 3)
    assert (comment.document, comment.line, comment.column, comment.covers) == (3, 11, 6, 11)
    assert comment.rules == {"DTI007"}
    assert comment.flaw is None


def test_ignore_comment_alone_applies_to_next_line_with_content() -> None:
    text = f"  {SAYS} clear-text-token,DTI011 -- because\n\n# another comment\n{SAYS} DTI012 -- too\nb: 2\n"
    first, second = parse(text, 1, 1)
    assert (first.line, first.column, first.covers) == (1, 3, 5)
    assert first.rules == {"DTI007", "DTI011"}
    assert (second.line, second.covers) == (4, 5)


def test_ignore_comment_at_file_end_applies_to_no_line() -> None:
    (comment,) = parse(f"a: 1\n{SAYS} DTI007 -- because", 1, 1)
    assert comment.covers == comment.line == 2


@pytest.mark.parametrize(
    ("rest", "flaw"),
    [
        ("", "names no rule"),
        (" -- because", "names no rule"),
        (" DTI007", "has no reason"),
        (" DTI007 --", "has no reason"),
        (" DTI007 --   ", "has no reason"),
        (" DTI7 -- because", 'names "DTI7"'),
        (" DTI007 DTI7 -- because", 'names "DTI7"'),
    ],
)
def test_malformed_ignore_comment_is_reported_and_not_followed(rest: str, flaw: str) -> None:
    (comment,) = parse(f"a: 1 {SAYS}{rest}", 1, 1)
    assert flaw in (comment.flaw or "")
    assert not comment.rules
    report = lint(POD % f" {SAYS}{rest}")
    assert sorted(ids(report)) == ["DTI007", "DTI091"]


@pytest.mark.parametrize(
    "text",
    [
        "a: b#c",
        "# dapr-token-injector is good",
        "a: 1 # ignore DTI007 -- x",
        'a: "x# dapr-token-injector: ignore DTI007 -- x"',
    ],
)
def test_other_comment_is_not_an_ignore_comment(text: str) -> None:
    assert not list(parse(text, 1, 1))


def test_ignored_finding_is_counted_and_not_reported() -> None:
    report = lint(POD % f" {SAYS} DTI007 -- because")
    assert not report.findings
    assert [finding.rule.id for finding in report.ignored] == ["DTI007"]


def test_ignore_comment_applies_only_to_its_file_line_and_rule() -> None:
    report = lint(POD % f" {SAYS} DTI011 -- because", POD % "")
    assert ids(report) == ["DTI007", "DTI092", "DTI007"]


def test_unused_ignore_comment_is_reported_if_file_was_read_completely() -> None:
    useless = f"a: 1 {SAYS} DTI007 -- because\n"
    assert ids(lint(useless)) == ["DTI092"]
    assert ids(lint(useless + "---\nnot: yaml: at all\n")) == []


def test_ignore_comment_for_disabled_rule_is_not_reported_as_unused() -> None:
    assert ids(lint(POD % f" {SAYS} DTI007 -- because", disabled=frozenset({"DTI007"}))) == []


def test_rules_about_comments_can_be_disabled() -> None:
    text = f"a: 1 {SAYS}\nb: 2 {SAYS} DTI007 -- because\n"
    assert ids(lint(text)) == ["DTI091", "DTI092"]
    assert ids(lint(text, disabled=frozenset({"DTI091", "DTI092"}))) == []


def test_each_document_has_its_own_lines() -> None:
    text = f"a: 1\n---\n{POD % ''}---\n{POD % f' {SAYS} DTI007 -- because'}"
    report = lint(text)
    assert [(finding.location.line, finding.location.document) for finding in report.findings] == [(11, 2)]
    assert [(finding.location.line, finding.location.document) for finding in report.ignored] == [(21, 3)]
