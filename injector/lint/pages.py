"""Generates the page of each rule, and their index, from the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from injector.words import folded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from injector.lint.model import Rule


def page(rule: Rule) -> str:
    """Return the page of a rule in Markdown: problem, reason, fix, and an example before and after."""
    return f"""\
# {rule.id} {rule.name}

**{rule.level.value}**: {rule.summary}

## Why

{folded(rule.why)}

## How to fix it

{folded(rule.fix)}

## Example

Reported:

```yaml
{rule.bad.rstrip()}
```

Not reported:

```yaml
{rule.good.rstrip()}
```
{_switching_off(rule)}"""


def _switching_off(rule: Rule) -> str:
    if rule.workload is None and rule.files is None:
        return ""
    return f"""
## How to disable it

For one line: `# dapr-token-injector: ignore {rule.id} -- the reason`, at its end or on the line before.
Everywhere: `--disable {rule.id}`.
"""


def index(rules: Iterable[Rule]) -> str:
    """Return the index of all rules in Markdown."""
    rows = "\n".join(
        f"| [{rule.id}]({rule.name}.md) | `{rule.name}` | {rule.level.value} | {rule.summary} |" for rule in rules
    )
    return f"""\
# Rules of lint

Look up what `dapr-token-injector lint` reports. The meaning of an id never changes.
`dapr-token-injector lint --show-rule ID` prints the page of a rule.

| Id | Name | Level | Problem |
| --- | --- | --- | --- |
{rows}

An **error** means that a Pod is rejected, that its calls fail, or that its API is open. A **warning** means that it
works only by chance, or that a token leaks. An **info** changes the exit code only with `--fail-on info`.

Rules check the values that kubectl would send, so files are read as YAML 1.1. Secrets are looked up only in the given
files. Decisions of the webhook come from the webhook's code. No finding shows a value.
"""
