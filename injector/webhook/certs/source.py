"""Where the serving pair comes from: files, or an authority of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from injector.webhook.certs.pair import ServingPair


class CertificateSource(Protocol):
    """Keeps the serving pair, and loads it into the context of the admission port."""

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
        """What else /readyz shows of it."""
        ...

    def wake(self) -> None:
        """Look for a new pair now, or as soon as the work under way is done."""
        ...

    async def run(self) -> None:
        """Keep the pair until cancelled."""
        ...
