"""Prints what checks found: by category, or as JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from injector.check.model import Result
from injector.cli.output import echo_styled, wants_colour
from injector.words import counted, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from injector.check.runner import CheckResult

_WIDTH: Final = 80
# Columns of a result and an id.
_HEAD: Final = 19
_COLOURS: Final = {
    Result.PASSED: "green",
    Result.WARNING: "yellow",
    Result.FAILED: "red",
    Result.UNKNOWN: "magenta",
    Result.SKIPPED: None,
}
_QUIET: Final = {Result.PASSED, Result.SKIPPED}


def show(found: Sequence[CheckResult], output: str) -> None:
    """Write what checks found to stdout."""
    if output == "json":
        click.echo(json.dumps({"summary": _numbers(found), "checks": [_as_json(one) for one in found]}))
        return
    for line in _lines(found, is_wide=output == "wide", is_coloured=wants_colour(sys.stdout)):
        echo_styled(line)


def counts(found: Sequence[CheckResult]) -> str:
    """Return how many checks there are, and how many ended in which way."""
    numbers = ", ".join(f"{number} {word}" for word, number in _numbers(found).items() if number)
    return f"{counted(len(found), 'check')}: {numbers}"


def _lines(found: Sequence[CheckResult], *, is_wide: bool, is_coloured: bool) -> Iterator[str]:
    """Yield the lines of the report: messages wrapped, commands whole.

    Unless it `is_wide`, what needs no attention has one line each.
    """
    for category, group in groupby(found, key=lambda one: one.check.category):
        yield click.style(category.value, bold=True) if is_coloured else category.value
        for one in group:
            result, check = one.result, one.check
            text = f"{check.name}: {one.outcome.seen}"
            if result in _QUIET and not is_wide:
                text = textwrap.shorten(escaped(text), _WIDTH - _HEAD, placeholder=" ...")
            first, *others = _wrapped(text, " " * _HEAD)
            word = f"{result.value:<9}"
            yield f"  {click.style(word, fg=_COLOURS[result]) if is_coloured else word}{check.id}  {first.lstrip()}"
            yield from others
            for problem in one.outcome.problems:
                yield from _wrapped(f"{problem.result.value}: {problem.message}", "    ")
                if problem.fix:
                    yield f"      {escaped(problem.fix)}"
            if result is Result.FAILED:
                yield f"    more: dapr-token-injector check --show-check {check.id}"
        yield ""
    yield counts(found)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        escaped(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _numbers(found: Sequence[CheckResult]) -> dict[str, int]:
    numbers = Counter(one.result for one in found)
    return {result.value: numbers[result] for result in Result}


def _as_json(one: CheckResult) -> dict[str, object]:
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
