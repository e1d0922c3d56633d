"""Rules about the comments that switch a rule off for one line. The linter applies them itself (`ignores`)."""

from __future__ import annotations

from typing import Final

from injector.lint.model import Level, Rule
from injector.lint.rules.examples import DAPR, SECRET, pod

_EMPTY: Final = 'dapr-token-injector/app-containers: ""'

BAD_IGNORE: Final = Rule(
    id="DTI091",
    name="bad-ignore",
    level=Level.WARNING,
    summary="An ignore comment has no reason, or names no rule that exists.",
    why=(
        "A comment that disables a rule needs a reason, so that readers can check whether it still applies. "
        "Without a reason, or with a misspelt rule, it does nothing."
    ),
    fix="Write `# dapr-token-injector: ignore RULE -- REASON`, with ids or names of rules, separated by commas.",
    bad=pod("# dapr-token-injector: ignore DTI002", SECRET, _EMPTY),
    good=pod("# dapr-token-injector: ignore DTI002 -- enabled by an overlay", SECRET, _EMPTY),
)

UNUSED_IGNORE: Final = Rule(
    id="DTI092",
    name="unused-ignore",
    level=Level.INFO,
    summary="An ignore comment that is not needed.",
    why="The finding no longer exists. The comment would hide the next finding in this place.",
    fix="Remove the comment.",
    bad=pod("# dapr-token-injector: ignore DTI002 -- enabled by an overlay", DAPR, SECRET, _EMPTY),
    good=pod(DAPR, SECRET, _EMPTY),
)

RULES: Final = (BAD_IGNORE, UNUSED_IGNORE)
