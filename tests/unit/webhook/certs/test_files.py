from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from injector.webhook.certs.files import CertificateWatcher
from injector.webhook.certs.metrics import CertificateMetrics
from injector.webhook.certs.pair import parse_pair, server_context
from injector.webhook.health import Health, certificate_check
from tests.http.certificates import DAY, NOW, Files, key_pem, new_key
from tests.unit.webhook.certs.handshaking import CHAIN, ISSUER, KEY, handshake

if TYPE_CHECKING:
    from pathlib import Path


class Watched:
    """A watcher with its files, its context and its metrics."""

    def __init__(self, folder: Path) -> None:
        self.files = Files.write(folder, CHAIN, key_pem(KEY))
        self.metrics = CertificateMetrics()
        pair = parse_pair(CHAIN, key_pem(KEY), NOW)
        self.context = server_context(ssl.TLSVersion.TLSv1_3, pair)
        self.at = NOW
        files = (self.files.chain, self.files.key)
        self.watcher = CertificateWatcher(files, pair, self.context, self.metrics, now=lambda: self.at)

    def served(self) -> bytes:
        return ssl.DER_cert_to_PEM_cert(handshake(self.context)).encode()


def test_unchanged_files_are_not_read_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for _ in range(2):
        watched.watcher.wake()
    assert watched.metrics.reloads == {"loaded": 0, "rejected": 0}
    assert watched.metrics.certificate_expiry == (NOW + DAY).timestamp()


def test_same_pair_under_new_inodes_is_not_reloaded(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.files.replace(CHAIN, key_pem(KEY))
    watched.watcher.wake()
    assert watched.metrics.reloads["loaded"] == 0


def test_invalid_pair_is_reported_once_and_the_next_valid_one_loaded(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    key = new_key()
    watched.files.replace(ISSUER.issue(key), key_pem(KEY))
    for _ in range(3):
        watched.watcher.wake()
    assert watched.metrics.reloads == {"loaded": 0, "rejected": 1}
    assert "does not match" in watched.watcher.problem
    assert watched.served() == CHAIN
    chain = ISSUER.issue(key)
    watched.files.replace(chain, key_pem(key))
    watched.watcher.wake()
    assert watched.metrics.reloads == {"loaded": 1, "rejected": 1}
    assert watched.watcher.problem == ""
    assert watched.served() == chain


def test_pair_is_loaded_once_it_becomes_valid(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    key = new_key()
    watched.files.replace(ISSUER.issue(key, since=NOW + DAY / 2, until=NOW + 2 * DAY), key_pem(key))
    watched.watcher.wake()
    assert "not valid before" in watched.watcher.problem
    watched.at = NOW + DAY * 0.6
    watched.watcher.wake()
    assert watched.watcher.problem == ""
    assert watched.watcher.pair.expires == NOW + 2 * DAY


def test_files_changed_during_the_read_are_read_at_the_next_check(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    key = new_key()
    chain = ISSUER.issue(key)
    watched.files.replace(chain, key_pem(key))
    identities = iter([("before",), ("after",)])
    watched.watcher._identity = lambda: next(identities)  # type: ignore[method-assign] # a race, made certain
    watched.watcher.wake()
    assert watched.served() == CHAIN
    del watched.watcher._identity  # back to the real one
    watched.watcher.wake()
    assert watched.served() == chain


def test_replica_is_ready_until_its_certificate_expires(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    health = Health({"certificate": certificate_check(watched.watcher)})
    ready, checks = health.ready()
    assert (ready, checks["certificate"]) == (
        True,
        {"ok": True, "expires": (NOW + DAY).isoformat(), "seconds_left": 86_400},
    )
    watched.at = NOW + DAY
    ready, checks = health.ready()
    assert (ready, checks["certificate"]["ok"], checks["certificate"]["seconds_left"]) == (False, False, 0)


def test_files_are_looked_at_again_and_again_whatever_goes_wrong(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    looks: list[object] = []
    reported: list[object] = []

    def wake() -> None:
        looks.append(None)
        if len(looks) == 1:
            raise ValueError("once")

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        files = (watched.files.chain, watched.files.key)
        watcher = CertificateWatcher(
            files, watched.watcher.pair, watched.context, watched.metrics, interval_seconds=0.001
        )
        watcher.wake = wake  # type: ignore[method-assign] # one that fails
        task = asyncio.ensure_future(watcher.run())
        async with asyncio.timeout(60):
            while len(looks) < 3:  # noqa: ASYNC110 - a list has no event for its growth
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert [str(error) for error in reported] == ["once"]
