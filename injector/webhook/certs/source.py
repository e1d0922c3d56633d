"""The interface of the sources of the serving pair: files, or a self-managed CA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from injector.webhook.certs.pair import ServingPair


class CertificateSource(Protocol):
    """Keeps the serving pair up to date, and loads it into the context of the admission port."""

    @property
    def pair(self) -> ServingPair | None:
        """The pair that is served; None if there is none."""

    @property
    def ready(self) -> bool:
        """Whether clients have been able to trust the pair."""

    def now(self) -> datetime:
        """Return the time for checking certificates."""

    def facts(self) -> Mapping[str, object]:
        """Return the details for /readyz."""

    def wake(self) -> None:
        """Check for a new pair now, or as soon as the current work is done."""

    async def run(self) -> None:
        """Keep the pair up to date until cancelled."""
