from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from injector.core.model import Policy
from injector.lint.linter import Linter
from tests.unit.lint.builders import ids, lint

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKS = """\
apiVersion: v1
kind: Pod
metadata:
  name: orders
  annotations: {dapr.io/enabled: "true", dapr.io/api-token-secret: dapr-api-token,
    dapr-token-injector/app-containers: "*"}
spec:
  containers: [{name: web}]
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: dapr-api-token}
stringData: {token: a-token-in-the-file}
"""


def test_secret_is_found_in_any_file_in_any_order() -> None:
    assert ids(lint(ASKS, SECRET)) == ids(lint(SECRET, ASKS)) == ["DTI028"]


def test_secret_without_token_use_is_not_checked() -> None:
    assert ids(lint(SECRET)) == []


def test_secret_from_pipe_is_not_reported_as_in_git() -> None:
    assert ids(lint(ASKS, SECRET, in_file=False)) == []


def test_missing_key_is_reported_at_annotation_that_requests_it() -> None:
    asks = ASKS.replace("annotations: {", "annotations: {dapr-token-injector/api-token-key: other,\n    ")
    (finding,) = lint(asks, SECRET).findings
    assert finding.rule.id == "DTI022"
    assert finding.location.path == "metadata.annotations[dapr-token-injector/api-token-key]"


def test_findings_read_from_top_to_bottom() -> None:
    bad = ASKS.replace("dapr-api-token", "Bad_Name").replace('"*"', "'absent'")
    report = lint(f"{bad}---\n{bad}", bad)
    places = [(finding.location.source, finding.location.line) for finding in report.findings]
    assert places == sorted(places)
    assert len(places) == 3


def test_broken_document_does_not_hide_the_others() -> None:
    report = lint(f"a: b: c\n---\n{ASKS.replace('dapr-api-token', 'Bad_Name')}")
    assert ids(report) == ["DTI004"]
    assert [(each.source, each.document, each.line) for each in report.unreadable] == [("a.yaml", 1, 1)]
    assert report.files == 1


def test_file_may_come_in_blocks() -> None:
    linter = Linter(Policy())
    linter.read("a.yaml", iter(ASKS.replace("dapr-api-token", "Bad_Name")))
    assert ids(linter.report()) == ["DTI004"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files() -> None:
    def folder(files: int) -> int:
        """Peak of memory, in bytes, for so many files of 20 KB with one finding each hundred."""
        linter = Linter(Policy())
        tracemalloc.start()
        for number in range(files):
            linter.read(f"{number}.yaml", manifest(number))
        linter.report()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def manifest(number: int) -> Iterator[str]:
        yield ASKS.replace("dapr-api-token", "Bad_Name" if number % 100 == 0 else f"secret-{number}")
        yield "---\n# " + "x" * 20_000 + "\n"

    small, large = folder(50), folder(1000)
    # What stays of a file that requests a token is a few hundred bytes; its text alone would be 20 KB.
    assert large - small < 950 * 2_000
