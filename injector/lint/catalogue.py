"""All rules, by id. The id of a removed rule is never used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.lint.rules import annotation, comments, keys, requests, seal, secrets, sidecar, variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.lint.model import Rule

RULES: Final[tuple[Rule, ...]] = tuple(
    sorted(
        (
            *annotation.RULES,
            *keys.RULES,
            *variables.RULES,
            *sidecar.RULES,
            *requests.RULES,
            *secrets.RULES,
            *seal.RULES,
            *comments.RULES,
        ),
        key=lambda rule: rule.id,
    )
)

# A rule by its id or its name, in lower case: what people may write in options and comments.
BY_WORD: Final[Mapping[str, Rule]] = {word.lower(): rule for rule in RULES for word in (rule.id, rule.name)}


def find(word: str) -> Rule | None:
    """Return the rule with an id or name, in any case."""
    return BY_WORD.get(word.strip().lower())
