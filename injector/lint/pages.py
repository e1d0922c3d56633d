"""Generates the page of each rule, and their index, from the rules."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from injector.lint.model import Rule

_WIDTH: Final = 118


def page(rule: Rule) -> str:
    """One rule in Markdown: what, why, how to fix, and a file before and after."""
    return f"""\
# {rule.id} {rule.name}

**{rule.level.value}**: {rule.summary}

## Why

{_folded(rule.why)}

## How to fix it

{_folded(rule.fix)}

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
## To switch it off

For one line: `# dapr-token-injector: ignore {rule.id} -- the reason`, at its end or on the line before.
Everywhere: `--disable {rule.id}`.
"""


def index(rules: Iterable[Rule]) -> str:
    """The list of all rules."""
    rows = "\n".join(
        f"| [{rule.id}]({rule.name}.md) | `{rule.name}` | {rule.level.value} | {rule.summary} |" for rule in rules
    )
    return f"""\
# Rules of lint

What `dapr-token-injector lint` reports. An id never changes its meaning. Each page is also printed by
`dapr-token-injector lint --show-rule ID`.

| Id | Name | Level | Says |
| --- | --- | --- | --- |
{rows}

An **error** means that a Pod is refused, that its calls fail, or that it runs open. A **warning** works by luck, or
leaks. An **info** never changes the exit code unless `--fail-on info` is given.

What a rule looks at is what kubectl would send: values are read as YAML 1.1. Secrets are looked up in the files given
and nowhere else. What the webhook itself decides is asked from the webhook's own code. No finding shows a value.
"""


def _folded(paragraph: str) -> str:
    return textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
