"""What the documentation calls by name exists, and what exists is documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from injector.core import names
from injector.core.errors import MalformedJSONError, MalformedObjectError, NotAReviewError, PolicyGapError
from injector.core.model import Reason

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGES: Final = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
REASONS: Final = (ROOT / "docs/reference/reasons.md").read_text()
RULES: Final = (ROOT / "docs/reference/rules.md").read_text()
TEXT: Final = "\n".join(page.read_text() for page in PAGES)
DEFINED: Final = {
    value
    for value in vars(names).values()
    if isinstance(value, str) and re.match(r"(dapr-token-injector|dapr\.io)/", value)
}
# Labels of namespaces, which only a webhook configuration and an admission policy read.
LABELS: Final = {"dapr-token-injector/inject-default", "dapr-token-injector/guard"}
VERDICTS: Final = {
    **dict.fromkeys(Reason, "skip"),
    Reason.INJECTED: "inject",
    Reason.INVALID_SECRET_NAME: "deny",
    Reason.INVALID_SECRET_KEY: "deny",
    Reason.SECRET_NOT_ALLOWED: "deny",
    Reason.TOO_MANY_CONTAINERS: "deny",
}


def table(heading: str) -> list[list[str]]:
    """The cells of the table with this first heading."""
    lines = REASONS.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_documented_reasons_are_those_of_the_code() -> None:
    assert sorted(row[0].strip("`") for row in table("Reason")) == sorted(Reason)


def test_reasons_are_documented_with_their_verdict() -> None:
    assert {row[0].strip("`"): row[1] for row in table("Reason")} == VERDICTS


def test_reasons_are_documented_with_meaning_and_action() -> None:
    for row in table("Reason"):
        assert len(row) == 4
        assert all(row)


def test_errors_of_a_review_are_documented_with_their_status() -> None:
    errors = (MalformedJSONError, NotAReviewError, MalformedObjectError)

    assert {row[0].strip("`"): row[1] for row in table("Error")} == {
        **{error.reason: "400" for error in errors},
        PolicyGapError.reason: "500",
    }


@pytest.mark.parametrize("name", sorted(DEFINED))
def test_annotation_is_documented(name: str) -> None:
    assert name in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_annotations_in_the_documentation_exist(page: Path) -> None:
    ours = set(re.findall(r"(?<![\w/.-])dapr-token-injector/[a-z-]*[a-z](?![\w.:/]|-[\w])", page.read_text()))
    daprs = set(re.findall(r"(?<![\w/.-])dapr\.io/[a-z-]*token[a-z-]*", page.read_text()))

    assert ours | daprs <= DEFINED | LABELS


@pytest.mark.parametrize("name", sorted(name for name in vars(names) if name.startswith("AUDIT_")))
def test_audit_key_is_documented(name: str) -> None:
    assert f"`{getattr(names, name)}`" in RULES


@pytest.mark.parametrize("path", [names.MUTATE_PATH, names.MUTATE_DEFAULT_PATH, names.WARN_PATH])
def test_path_is_documented(path: str) -> None:
    assert f"`{path}`" in TEXT or f"path: {path}" in TEXT
