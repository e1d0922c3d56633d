from __future__ import annotations

import json

import pytest

from injector.lint import baseline
from injector.lint.baseline import BaselineError
from tests.unit.lint.builders import lint

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: orders, namespace: shop}
spec:
  containers:
    - name: web
      env:
        - {name: DAPR_API_TOKEN, value: VALUE}
        - {name: DAPR_API_TOKEN, value: VALUE}
"""


def test_findings_of_a_baseline_are_known() -> None:
    first = lint(POD)
    known = baseline.read(baseline.write(first.findings))
    again = lint(POD).compared_with(known)
    assert not again.findings
    assert again.known == first.findings
    assert again.gone == 0


def test_moved_renamed_or_changed_value_stays_known() -> None:
    known = baseline.read(baseline.write(lint(POD).findings))
    moved = POD.replace("    - name: web", "    - name: first\n    - name: web").replace("VALUE", "another")
    report = lint("a: 1\n", "# moved\n" + moved).compared_with(known)
    assert not report.findings
    assert len(report.known) == 3


def test_second_equal_finding_is_new() -> None:
    known = baseline.read(baseline.write(lint(POD).findings))
    report = lint(POD, POD).compared_with(known)
    assert len(report.known) == len(report.findings) == 3


def test_another_object_container_or_rule_is_new() -> None:
    known = baseline.read(baseline.write(lint(POD).findings))
    for change in (("orders", "other"), ("shop", "other"), ("web", "other")):
        assert len(lint(POD.replace(*change)).compared_with(known).findings) == 3


def test_fixed_findings_of_baseline_are_counted() -> None:
    known = baseline.read(baseline.write(lint(POD, POD).findings))
    assert lint(POD).compared_with(known).gone == 3
    assert lint("a: 1").compared_with(known).gone == 6


def test_baseline_file_is_sorted_for_any_order_of_findings() -> None:
    findings = lint(POD, POD.replace("orders", "b")).findings
    written = baseline.write(findings)
    assert written == baseline.write(findings[::-1])
    assert written.endswith(b"}\n")
    entries = json.loads(written)["findings"]
    assert entries == sorted(entries, key=lambda entry: (entry["rule"], entry["object"], entry["path"]))
    assert set(entries[0]) == {"rule", "object", "path", "count"}


def test_empty_baseline_can_be_read() -> None:
    assert baseline.read(baseline.write(())) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"version": 1}',
        b'{"version": 1, "findings": [{"rule": "DTI007"}]}',
        b'{"version": 1, "findings": [{"rule": 1, "object": "", "path": ""}]}',
        b'{"version": 1, "findings": [{"rule": "DTI007", "object": "", "path": "", "count": -1}]}',
        b'{"version": 1, "findings": [], "more": 1}',
        b'{"version": 2, "findings": []}',
        b"[" * 100_000,
    ],
)
def test_other_file_is_rejected_as_baseline(content: bytes) -> None:
    with pytest.raises(BaselineError) as caught:
        baseline.read(content)
    assert str(caught.value)
    assert caught.value.__cause__ is None


def test_fingerprint_does_not_depend_on_the_value() -> None:
    first, other = lint(POD).findings, lint(POD.replace("VALUE", "another")).findings
    assert [baseline.fingerprint(finding) for finding in first] == [baseline.fingerprint(finding) for finding in other]
    assert len({baseline.fingerprint(finding) for finding in first}) == 3
