"""Prints what checks found: by category, or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

import click

from injector.check.model import Result
from injector.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from injector.check.runner import Finding


def show(found: Sequence[Finding], output: str) -> None:
    """Write what checks found to stdout."""
    if output == "json":
        click.echo(json.dumps({"summary": _counts(found), "checks": [_as_json(one) for one in found]}))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Sequence[Finding]) -> Iterator[str]:
    for category, group in groupby(found, key=lambda one: one.check.category):
        yield category.value
        for one in group:
            yield f"  {one.result.value:<8}{one.check.id}  {one.check.name}: {one.outcome.seen}"
            for problem in one.outcome.problems:
                yield f"          {problem.result.value}: {problem.message}"
                if problem.fix:
                    yield f"            {problem.fix}"
        yield ""
    counts = _counts(found)
    yield f"{counted(len(found), 'check')}: " + ", ".join(
        f"{number} {word}" for word, number in counts.items() if number
    )


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(one.result for one in found)
    return {result.value: counts[result] for result in Result}


def _as_json(one: Finding) -> dict[str, object]:
    return {
        "id": one.check.id,
        "name": one.check.name,
        "category": one.check.category,
        "result": one.result,
        "seen": one.outcome.seen,
        "problems": [
            {"result": problem.result, "message": problem.message, "fix": problem.fix or None}
            for problem in one.outcome.problems
        ],
    }
