"""Readiness of this replica: the result of each named check, with its details."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from injector.webhook.certs.source import CertificateSource


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Outcome of one check; the response includes `facts`."""

    ok: bool
    facts: Mapping[str, object] = field(default_factory=dict)


class Health:
    """Answers /readyz. A replica is ready if all checks pass and the process is not stopping."""

    def __init__(self, checks: Mapping[str, Callable[[], HealthCheck]]) -> None:
        self.draining = False
        self._checks = checks

    def ready(self) -> tuple[bool, dict[str, dict[str, object]]]:
        """Return whether this replica can serve requests, and the result of each check by name."""
        found = {"serving": HealthCheck(not self.draining, {"draining": self.draining})}
        found |= {name: check() for name, check in self._checks.items()}
        details = {name: {"ok": check.ok, **check.facts} for name, check in found.items()}
        return all(check.ok for check in found.values()), details


def certificate_check(source: CertificateSource) -> Callable[[], HealthCheck]:
    """Return a check that passes while the serving pair is valid; it shows problems of the source without failing."""

    def check() -> HealthCheck:
        at, pair = source.now(), source.pair
        if pair is None:
            return HealthCheck(ok=False, facts=source.facts())
        facts: dict[str, object] = {
            "expires": pair.expires.isoformat(),
            "seconds_left": int((pair.expires - at).total_seconds()),
        }
        return HealthCheck(source.ready and pair.is_valid(at), {**facts, **source.facts()})

    return check
