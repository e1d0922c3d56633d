"""All checks, by id. The id of a removed check is never used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from injector.check import (
    admission,
    availability,
    cluster,
    coverage,
    dapr,
    groups,
    guard,
    neighbours,
    registration,
    requested,
    rights,
    sealing,
    tokens,
    trust,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from injector.check.model import Check

_MODULES: Final = (
    admission,
    availability,
    cluster,
    coverage,
    dapr,
    groups,
    guard,
    neighbours,
    registration,
    requested,
    rights,
    sealing,
    tokens,
    trust,
    versions,
)
CHECKS: Final[tuple[Check, ...]] = tuple(
    sorted((check for module in _MODULES for check in module.CHECKS), key=lambda check: check.id)
)

# A check by its id or its name, in lower case: what people may write in options.
BY_WORD: Final[Mapping[str, Check]] = {word.lower(): check for check in CHECKS for word in (check.id, check.name)}
