from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from injector.telemetry import Metrics
from injector.webhook.certs import (
    CertificateError,
    CertificateWatcher,
    ServingPair,
    load,
    parse_pair,
    read_pair,
    server_context,
)
from injector.webhook.health import Health, certificate_check
from tests.http.certificates import DAY, NOW, Files, Issuer, key_pem, new_key

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = Issuer()
KEY = new_key()
CHAIN = ISSUER.issue(KEY)
AUTHORITY = ISSUER.pem  # signed anew each time it is asked for


def problems(chain: bytes, key: bytes) -> tuple[str, ...]:
    with pytest.raises(CertificateError) as caught:
        parse_pair(chain, key, NOW)
    return caught.value.problems


def handshake(context: ssl.SSLContext) -> bytes:
    """The leaf that a handshake with `context` shows."""
    trusting = ssl.create_default_context(cadata=ISSUER.pem.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_a_good_pair_knows_its_names_and_its_end() -> None:
    pair = parse_pair(CHAIN, key_pem(KEY), NOW)
    assert (pair.names, pair.expires) == (("localhost", "127.0.0.1"), NOW + DAY)
    assert pair.is_valid(NOW + DAY - DAY / 100)
    assert not pair.is_valid(NOW + DAY)


def test_the_key_is_not_in_the_repr() -> None:
    assert "PRIVATE" not in repr(parse_pair(CHAIN, key_pem(KEY), NOW))


def test_a_chain_is_kept_whole_and_in_order() -> None:
    pair = parse_pair(b"some words\n" + CHAIN + AUTHORITY, b"words\n" + key_pem(KEY) + CHAIN, NOW)
    assert pair.chain == CHAIN + AUTHORITY
    assert pair.key == key_pem(KEY)


def test_every_problem_of_a_pair_is_told() -> None:
    other = ISSUER.issue(new_key(), hosts=(), since=NOW - 2 * DAY, until=NOW - DAY)
    found = problems(other, key_pem(KEY))
    assert [problem.split(" at ")[0] for problem in found] == [
        "the certificate ran out",
        "the certificate has no subject alternative name, which API servers ask for",
        "the private key does not belong to the certificate",
    ]


def test_a_certificate_of_tomorrow_is_a_problem_today() -> None:
    assert "not valid before" in problems(ISSUER.issue(KEY, since=NOW + DAY / 2), key_pem(KEY))[0]


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_junk_is_told_for_both_files(junk: bytes) -> None:
    assert problems(junk, b"junk") == (
        "the certificate file holds no readable PEM certificate",
        "the private key file holds no readable PEM key",
    )


def test_an_encrypted_key_is_told() -> None:
    assert problems(CHAIN, key_pem(KEY, BestAvailableEncryption(b"x"))) == (
        "the private key is encrypted; it must be plain PEM",
    )


def test_files_that_are_missing_are_both_told(tmp_path: Path) -> None:
    with pytest.raises(CertificateError) as caught:
        read_pair(tmp_path / "a", tmp_path / "b", NOW)
    assert ["cannot be read: No such file" in problem for problem in caught.value.problems] == [True, True]


def test_a_context_serves_the_pair() -> None:
    context = server_context(parse_pair(CHAIN, key_pem(KEY), NOW), ssl.TLSVersion.TLSv1_3)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0
    assert ssl.DER_cert_to_PEM_cert(handshake(context)).encode() == CHAIN


def test_a_pair_that_openssl_refuses_leaves_the_context_serving() -> None:
    context = server_context(parse_pair(CHAIN, key_pem(KEY), NOW), ssl.TLSVersion.TLSv1_3)
    foreign = ServingPair(CHAIN, key_pem(new_key()), NOW + DAY, ("localhost",))
    with pytest.raises(CertificateError, match="OpenSSL refuses the pair"):
        load(context, foreign)
    assert ssl.DER_cert_to_PEM_cert(handshake(context)).encode() == CHAIN


def test_a_key_too_small_for_openssl_is_refused() -> None:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    chain = ISSUER.issue(small)  # type: ignore[arg-type] # any key can be signed
    pair = parse_pair(chain, key_pem(small), NOW)  # type: ignore[arg-type] # as above
    with pytest.raises(CertificateError, match="OpenSSL refuses the pair"):
        server_context(pair, ssl.TLSVersion.TLSv1_3)


class Watched:
    """A watcher with its files, its context and its metrics."""

    def __init__(self, folder: Path) -> None:
        self.files = Files.write(folder, CHAIN, key_pem(KEY))
        self.metrics = Metrics()
        pair = parse_pair(CHAIN, key_pem(KEY), NOW)
        self.context = server_context(pair, ssl.TLSVersion.TLSv1_3)
        self.watcher = CertificateWatcher((self.files.chain, self.files.key), pair, self.context, self.metrics)

    def served(self) -> bytes:
        return ssl.DER_cert_to_PEM_cert(handshake(self.context)).encode()


def test_files_that_stay_are_not_read_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for _ in range(2):
        watched.watcher.poll(NOW)
    assert watched.metrics.reloads == {"loaded": 0, "rejected": 0}
    assert watched.metrics.certificate_expiry == (NOW + DAY).timestamp()


def test_the_same_pair_under_new_inodes_is_no_reload(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.files.replace(CHAIN, key_pem(KEY))
    watched.watcher.poll(NOW)
    assert watched.metrics.reloads["loaded"] == 0


def test_a_bad_pair_is_told_once_and_a_good_one_after_it_is_taken(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    key = new_key()
    watched.files.replace(ISSUER.issue(key), key_pem(KEY))
    for _ in range(3):
        watched.watcher.poll(NOW)
    assert watched.metrics.reloads == {"loaded": 0, "rejected": 1}
    assert "does not belong" in watched.watcher.problem
    assert watched.served() == CHAIN
    chain = ISSUER.issue(key)
    watched.files.replace(chain, key_pem(key))
    watched.watcher.poll(NOW)
    assert watched.metrics.reloads == {"loaded": 1, "rejected": 1}
    assert watched.watcher.problem == ""
    assert watched.served() == chain


def test_a_pair_of_tomorrow_is_taken_when_its_time_has_come(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    key = new_key()
    watched.files.replace(ISSUER.issue(key, since=NOW + DAY / 2, until=NOW + 2 * DAY), key_pem(key))
    watched.watcher.poll(NOW)
    assert "not valid before" in watched.watcher.problem
    watched.watcher.poll(NOW + DAY * 0.6)
    assert watched.watcher.problem == ""
    assert watched.watcher.pair.expires == NOW + 2 * DAY


def test_files_that_change_while_they_are_read_are_left_for_the_next_look(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    key = new_key()
    chain = ISSUER.issue(key)
    watched.files.replace(chain, key_pem(key))
    identities = iter([("before",), ("after",)])
    watched.watcher._identity = lambda: next(identities)  # type: ignore[method-assign] # a race, made certain
    watched.watcher.poll(NOW)
    assert watched.served() == CHAIN
    del watched.watcher._identity  # back to the real one
    watched.watcher.poll(NOW)
    assert watched.served() == chain


def test_a_replica_is_ready_until_its_certificate_runs_out(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    at = NOW
    health = Health({"certificate": certificate_check(watched.watcher, lambda: at)})
    ready, checks = health.ready()
    assert (ready, checks["certificate"]) == (
        True,
        {"ok": True, "expires": (NOW + DAY).isoformat(), "seconds_left": 86_400},
    )
    at = NOW + DAY
    ready, checks = health.ready()
    assert (ready, checks["certificate"]["ok"], checks["certificate"]["seconds_left"]) == (False, False, 0)
