"""Whether this replica can serve: each check by name, and what the answer rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from injector.webhook.certs.source import CertificateSource


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


def certificate_check(source: CertificateSource) -> Callable[[], Check]:
    """Fine while the serving pair has not run out; problems of its source are shown, and do not make it fail."""

    def check() -> Check:
        at, pair = source.now(), source.pair
        if pair is None:
            return Check(ok=False, facts=source.facts())
        facts: dict[str, object] = {
            "expires": pair.expires.isoformat(),
            "seconds_left": int((pair.expires - at).total_seconds()),
        }
        return Check(source.ready and pair.is_valid(at), {**facts, **source.facts()})

    return check
