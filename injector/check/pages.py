"""Generates the page of each check, and their index, from the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.words import folded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from injector.check.model import Check


def page(check: Check) -> str:
    """Return the page of a check in Markdown: what it demands, why, how it determines it, and the fix."""
    before = "\nIt also runs with `--pre`, before the installation.\n" if check.is_pre else ""
    return f"""\
# {check.id} {check.name}

**{check.category.value}**: {check.summary}
{before}
## Why

{folded(check.why)}

## How it is determined

{folded(check.how)}

## How to fix it

{folded(check.fix)}
"""


def index(checks: Iterable[Check]) -> str:
    """Return the index of all checks in Markdown."""
    rows = "\n".join(
        f"| [{check.id}]({check.name}.md) | `{check.name}` | {check.category.value} | {check.summary} |"
        for check in checks
    )
    return f"""\
# Checks of an installation

Look up what `dapr-token-injector check` reports. The meaning of an id never changes.
`dapr-token-injector check --show-check ID` prints the page of a check.

| Id | Name | Category | What it demands |
| --- | --- | --- | --- |
{rows}

A check has **passed**, or has a **warning** (it may be intended), has **failed**, is **unknown** (a permission is
missing, or the API server does not answer), or is **skipped** (its object does not exist here).

Checks only read, except that those of admission send Pods as server-side dry runs, which are never stored. Of Secrets,
they read the metadata, never a value.
"""
