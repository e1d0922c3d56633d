"""Whether this replica can serve: each check by name, and what the answer rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from injector.webhook.certs.pair import ServingPair


@dataclass(frozen=True, slots=True)
class Check:
    """Outcome of one check; `facts` go into the answer beside it."""

    ok: bool
    facts: Mapping[str, object] = field(default_factory=dict)


class Health:
    """Answers /readyz. Ready means: every check is fine, and the process is not stopping."""

    def __init__(self, checks: Mapping[str, Callable[[], Check]]) -> None:
        self.draining = False
        self._checks = checks

    def ready(self) -> tuple[bool, dict[str, dict[str, object]]]:
        """Whether to send requests here, and every check by name."""
        found = {"serving": Check(not self.draining, {"draining": self.draining})}
        found |= {name: check() for name, check in self._checks.items()}
        told = {name: {"ok": check.ok, **check.facts} for name, check in found.items()}
        return all(check.ok for check in found.values()), told


class Keeper(Protocol):
    """Whoever keeps the serving pair."""

    @property
    def pair(self) -> ServingPair | None:
        """What is served, if anything."""
        ...

    @property
    def ready(self) -> bool:
        """Whether callers have had the chance to trust it."""
        ...

    def now(self) -> datetime:
        """The time that certificates are judged by."""
        ...

    def facts(self) -> Mapping[str, object]:
        """What else there is to know of it."""
        ...


def certificate_check(keeper: Keeper) -> Callable[[], Check]:
    """Fine while the serving pair has not run out; what troubles its keeper is told and does no harm yet."""

    def check() -> Check:
        at, pair = keeper.now(), keeper.pair
        if pair is None:
            return Check(ok=False, facts=keeper.facts())
        facts: dict[str, object] = {
            "expires": pair.expires.isoformat(),
            "seconds_left": int((pair.expires - at).total_seconds()),
        }
        return Check(keeper.ready and pair.is_valid(at), {**facts, **keeper.facts()})

    return check
