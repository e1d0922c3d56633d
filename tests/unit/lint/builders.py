"""Short ways to a report."""

from __future__ import annotations

from injector.core.model import Policy
from injector.lint.linter import Linter, Report


def lint(
    *texts: str, policy: Policy | None = None, disabled: frozenset[str] = frozenset(), in_file: bool = True
) -> Report:
    """The report on files called a.yaml, b.yaml and so on."""
    linter = Linter(policy or Policy(), disabled)
    for letter, text in zip("abcdefgh", texts, strict=False):
        linter.read(f"{letter}.yaml", text, in_file=in_file)
    return linter.report()


def ids(report: Report) -> list[str]:
    """Ids of the findings, in their order."""
    return [finding.rule.id for finding in report.findings]
