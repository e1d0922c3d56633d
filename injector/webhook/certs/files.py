"""A serving pair in two files that another program writes: cert-manager, a mounted Secret, a person."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from injector.telemetry.logs import LOGGER
from injector.webhook.certs.pair import CertificateError, load, read_pair, utc_now

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from injector.webhook.certs.metrics import CertificateMetrics
    from injector.webhook.certs.pair import Now, ServingPair

logger = logging.getLogger(f"{LOGGER}.certs")


class CertificateWatcher:
    """Looks at the two files and reloads them into the live context; the last good pair is kept when a new one is bad.

    `wake` is called every few seconds. Asking the files' identity is enough to see a Secret volume's update: the
    kubelet swaps a symbolic link, which brings new inodes.
    """

    def __init__(
        self,
        files: tuple[Path, Path],
        pair: ServingPair,
        context: ssl.SSLContext,
        metrics: CertificateMetrics,
        now: Now = utc_now,
        *,
        interval_seconds: float = 5.0,
    ) -> None:
        self.pair = pair
        self.problem = ""
        self.now = now
        self._files = files
        self._context = context
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._seen: tuple[
            object, ...
        ] = ()  # reads once more at the first look: the files may have changed since the start
        metrics.certificate_expiry = pair.expires.timestamp()

    ready = True  # the writer of the files has registered their CA with the callers

    def facts(self) -> dict[str, object]:
        """For health: why the newest files are not served."""
        return {"refused": self.problem} if self.problem else {}

    async def run(self) -> None:
        """Look at the files again and again. The loop makes the call, so that it logs an error and goes on."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._interval_seconds)
            loop.call_soon(self.wake)

    def wake(self) -> None:
        """Reload if the files changed. A bad pair is tried again each time; its problem is logged when it changes."""
        identity = self._identity()
        if identity == self._seen and not self.problem:
            return
        try:
            pair = read_pair(*self._files, self.now())
            if self._identity() != identity:
                return  # changed while it was read: half of it may be old, so the next poll decides
            if (pair.chain, pair.key) != (self.pair.chain, self.pair.key):
                load(self._context, pair)
                self._took(pair)
        except CertificateError as error:
            self._refused(str(error))
        else:
            self.problem = ""
        self._seen = identity

    def _took(self, pair: ServingPair) -> None:
        self.pair = pair
        self._metrics.reloads["loaded"] += 1
        self._metrics.certificate_expiry = pair.expires.timestamp()
        fields = {"expires": pair.expires.isoformat(), "names": list(pair.names)}
        logger.info("certificate reloaded", extra={"fields": fields})

    def _refused(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        self._metrics.reloads["rejected"] += 1
        fields = {"problem": problem, "serving_until": self.pair.expires.isoformat()}
        logger.error("new certificate refused, the old one is kept", extra={"fields": fields})

    def _identity(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in self._files:
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)
