"""A serving pair in two files that another program writes, such as cert-manager or the kubelet."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from injector.telemetry.logs import LOGGER
from injector.webhook.certs.metrics import LOADED, REJECTED
from injector.webhook.certs.pair import CertificateError, load, read_pair, utc_now

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from injector.webhook.certs.metrics import CertificateMetrics
    from injector.webhook.certs.pair import Now, ServingPair

logger = logging.getLogger(f"{LOGGER}.certs")


class CertificateWatcher:
    """Polls two files and loads changes into the live context. An invalid pair is rejected, the last valid one stays.

    `wake` is called every few seconds. It compares the identity of the files, which is enough to detect the update of a
    Secret volume: the kubelet replaces a symbolic link, so the files have new inodes.
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
        # Empty, so that the first poll reads the files: they may have changed since the start.
        self._seen: tuple[object, ...] = ()
        metrics.certificate_expiry = pair.expires.timestamp()

    ready = True  # another program has registered the CA of the files

    def facts(self) -> dict[str, object]:
        """Return why the current files are not served, for /readyz."""
        return {"refused": self.problem} if self.problem else {}

    async def run(self) -> None:
        """Poll the files until cancelled. The event loop calls `wake`, so it logs errors and polling continues."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._interval_seconds)
            loop.call_soon(self.wake)

    def wake(self) -> None:
        """Reload changed files. An invalid pair is read again each time; its problem is logged when it changes."""
        identity = self._identity()
        if identity == self._seen and not self.problem:
            return
        try:
            pair = read_pair(*self._files, self.now())
            if self._identity() != identity:
                return  # the files changed during the read and may not match; the next poll reads them again
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
        self._metrics.reloads[LOADED] += 1
        self._metrics.certificate_expiry = pair.expires.timestamp()
        fields = {"expires": pair.expires.isoformat(), "names": list(pair.names)}
        logger.info("certificate reloaded", extra={"fields": fields})

    def _refused(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        self._metrics.reloads[REJECTED] += 1
        fields = {"problem": problem, "serving_until": self.pair.expires.isoformat()}
        logger.error("new certificate rejected, the previous one stays in use", extra={"fields": fields})

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
